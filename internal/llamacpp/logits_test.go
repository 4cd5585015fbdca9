package llamacpp

import (
	"encoding/binary"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"modelpress/internal/testmodel"
)

// Files give the logits of the stock classes in llama.cpp itself. It runs where LLAMA_LOGITS is the path of a program that takes a model,
// a file of ids, the length of a window, threads and a file for the logits.
func TestLogitsOfLlamaCpp(t *testing.T) {
	program := os.Getenv("LLAMA_LOGITS")
	if program == "" {
		t.Skip("LLAMA_LOGITS is not set")
	}
	const window = 60
	ids := testmodel.Windows(1, window, 256, 5)[0]
	raw := make([]byte, 0, 4*window)
	for _, id := range ids {
		raw = binary.LittleEndian.AppendUint32(raw, uint32(id))
	}
	dir := t.TempDir()
	idFile, logitFile := filepath.Join(dir, "ids"), filepath.Join(dir, "logits")
	if err := os.WriteFile(idFile, raw, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, c := range append(describable(), scaled()...) {
		src, m := described(t, c.Options)
		ref, err := testmodel.NewReference(src.Config, src)
		if err != nil {
			t.Fatal(err)
		}
		want, err := ref.Logits(ids)
		if err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command(program, write(t, src, m, noVocab), idFile, strconv.Itoa(window), "1", logitFile).CombinedOutput()
		if err != nil {
			t.Errorf("%s: %v\n%s", c.Name, err, out)
			continue
		}
		got, err := os.ReadFile(logitFile)
		if err != nil {
			t.Fatal(err)
		}
		n, most, d := window, 2e-5, 0.0
		if c.Options.Window > 0 {
			n = c.Options.Window
		}
		if c.Options.Family == "gpt2" {
			most = 3e-3 // ggml looks GELU up in a table of F16
		}
		for i := range n * 256 {
			d = max(d, math.Abs(float64(math.Float32frombits(binary.LittleEndian.Uint32(got[4*i:])))-want[i]))
		}
		if !(d <= most) {
			t.Errorf("%s, as %s: logits differ by %g", c.Name, m.Architecture, d)
		}
	}
}

// scaled are further rotary embeddings, and biases where layers differ.
func scaled() []testmodel.Case {
	type per = map[int]testmodel.Sizes
	base := testmodel.Options{D: 64, H: 2, K: 64, Seed: 31}
	with := func(family string, s testmodel.Scaling) testmodel.Options {
		o := base
		o.Family, o.Scaling = family, &s
		if family == "qwen2" {
			o.K = 32
		}
		return o
	}
	return []testmodel.Case{
		{Name: "yarn with a factor", Options: with("llama", testmodel.Scaling{Type: "yarn", Factor: 4, AttentionFactor: 1.4, OriginalMaxPositionEmbedded: 32})},
		{Name: "qwen3 yarn", Options: with("qwen3", testmodel.Scaling{Type: "yarn", Factor: 4, OriginalMaxPositionEmbedded: 32})},
		{Name: "llama3", Options: with("llama", testmodel.Scaling{Type: "llama3", Factor: 16, LowFreqFactor: 2, HighFreqFactor: 7, OriginalMaxPositionEmbedded: 1000})},
		{Name: "qwen2 llama3", Options: with("qwen2", testmodel.Scaling{Type: "llama3", Factor: 16, LowFreqFactor: 1, HighFreqFactor: 4, OriginalMaxPositionEmbedded: 100})},
		{Name: "deci bias", Options: testmodel.Options{D: 64, H: 4, G: 2, Layers: 3, Bias: true, PerLayer: per{1: {NoAttention: true}, 2: {G: 1, F: 100}}, Seed: 34}},
		{Name: "deci narrow bias", Options: testmodel.Options{D: 64, H: 4, G: 2, K: 8, Layers: 3, Bias: true, PerLayer: per{2: {G: 1, F: 100}}, Seed: 35}},
	}
}
