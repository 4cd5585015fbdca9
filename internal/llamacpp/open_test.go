package llamacpp

import (
	"bytes"
	"encoding/json"
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"

	"modelpress/formats"
	"modelpress/formats/ggml"
	"modelpress/formats/gguf"
	"modelpress/internal/arch"
	"modelpress/internal/testmodel"
)

// opened opens a file for the time of a test.
func opened(t *testing.T, path string) *gguf.File {
	t.Helper()
	f, err := gguf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// known is what a GGUF file says of a model: neither windows nor the family of a Mistral, nor scaling that starts past the context.
func known(m *arch.Model) *arch.Model {
	k := m.Clone()
	if k.Family == "mistral" {
		k.Family, k.Architecture = "llama", "LlamaForCausalLM"
	}
	for l := range k.Layers {
		if w := k.Layers[l].Window; w > 0 {
			k.MaxPosition, k.Layers[l].Window = min(k.MaxPosition, w), 0
		}
	}
	if k.Rope != nil && k.Rope.Type == "dynamic" {
		k.Rope = &arch.Rope{Type: "default", Theta: k.Rope.Theta, Dim: k.Rope.Dim, Truncate: true}
	}
	return k
}

// A checkpoint written to GGUF and opened is the checkpoint: the same model, the same tensors bit for bit.
func TestRoundTrip(t *testing.T) {
	for _, c := range describable() {
		for _, dt := range []formats.DType{formats.F32, formats.BF16} {
			c.Options.DType = dt
			t.Run(c.Name+" "+dt.String(), func(t *testing.T) {
				src, m := described(t, c.Options)
				l, err := Open(opened(t, write(t, src, m, noVocab)))
				if err != nil {
					t.Fatal(err)
				}
				if len(l.Warnings) > 0 || len(l.Files) > 0 {
					t.Errorf("warnings %q, %d files", l.Warnings, len(l.Files))
				}
				checkModel(t, src, l)
				checkTensors(t, src, l.View)
			})
		}
	}
}

func checkModel(t *testing.T, src *testmodel.Model, l *Loaded) {
	t.Helper()
	want, err := arch.Describe(src.Config, src)
	if err != nil {
		t.Fatal(err)
	}
	got, err := arch.Describe(l.Config, l.View)
	if err != nil {
		t.Fatal(err)
	}
	if want = known(want); !reflect.DeepEqual(got, want) {
		t.Errorf("model %+v\nwant %+v\n%s", got, want, l.Config)
	}
}

// checkTensors compares all tensors in the type that the view shows: matrices have that of the source, vectors F32.
func checkTensors(t *testing.T, src *testmodel.Model, v formats.Quantized) {
	t.Helper()
	if a, b := len(src.Tensors()), len(v.Tensors()); a != b {
		t.Errorf("%d tensors, want %d", b, a)
	}
	for _, info := range v.Tensors() {
		want, err := src.Values(info.Name)
		if err != nil {
			t.Fatal(err)
		}
		if from, _ := src.Lookup(info.Name); len(info.Shape) > 1 && info.DType != from.DType {
			t.Errorf("%s is %s, want %s", info.Name, info.DType, from.DType)
		}
		if got := inPieces(t, v, info); !slices.Equal(got, want) {
			t.Errorf("%s differs", info.Name)
		}
		if _, blocks := v.Storage(info.Name); blocks {
			t.Errorf("%s is said to be stored in blocks", info.Name)
		}
	}
}

// inPieces reads a tensor in pieces of bytes that divide neither values nor rows.
func inPieces(t *testing.T, v formats.Quantized, info formats.TensorInfo) []float32 {
	t.Helper()
	size, err := info.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	raw := make([]byte, size)
	for off, step := int64(0), int64(1); off < size; step = step*7%50021 + 1 {
		n := min(step, size-off)
		if err := v.ReadAt(info.Name, raw[off:off+n], off); err != nil {
			t.Fatalf("%s: %v", info.Name, err)
		}
		off += n
	}
	out := make([]float32, size/int64(info.DType.Size()))
	if err := formats.Decode(out, raw, info.DType); err != nil {
		t.Fatal(err)
	}
	return out
}

// Rotary settings that no case has come back.
func TestRopeComesBack(t *testing.T) {
	for _, s := range []testmodel.Scaling{
		{Type: "yarn", Factor: 4, AttentionFactor: 1.2345},
		{Type: "yarn", Factor: 8, AttentionFactor: 1},
		{Type: "llama3", Factor: 16, LowFreqFactor: 2, HighFreqFactor: 7, OriginalMaxPositionEmbedded: 10000},
		{Type: "llama3", Factor: 32, LowFreqFactor: 1, HighFreqFactor: 4, OriginalMaxPositionEmbedded: 8192},
	} {
		src, m := described(t, testmodel.Options{D: 64, H: 2, K: 64, Theta: 500000, Scaling: &s})
		l, err := Open(opened(t, write(t, src, m, noVocab)))
		if err != nil {
			t.Fatal(err)
		}
		checkModel(t, src, l)
		if s.Type != "llama3" {
			continue
		}
		// Files of other programs have the factors alone.
		m.KV = slices.DeleteFunc(m.KV, func(kv gguf.KV) bool {
			return strings.HasSuffix(kv.Key, keyOriginal) || strings.HasSuffix(kv.Key, keyLowFreq) || strings.HasSuffix(kv.Key, keyHighFreq)
		})
		if l, err = Open(opened(t, write(t, src, m, noVocab))); err != nil {
			t.Fatal(err)
		}
		got, err := arch.DescribeConfig(l.Config)
		if err != nil {
			t.Fatal(err)
		}
		if f := llama3Factors(got.Rope, 64); !near(f, m.Tensors[0].Values) {
			t.Errorf("%+v: solved as %+v: factors %v, want %v", s, got.Rope, f, m.Tensors[0].Values)
		}
	}
}

// quantized writes a model with every weight in the types of a mix and returns the file and what the blocks hold, by the names of the
// checkpoint and in its order.
func quantized(t *testing.T, src *testmodel.Model, m *Model, mix string) (*gguf.File, map[string][]float32) {
	t.Helper()
	list, number, err := Mix(mix, m, false)
	if err != nil {
		t.Fatal(err)
	}
	tensors := make([]gguf.Tensor, len(list))
	for i, typ := range list {
		tensors[i] = gguf.Tensor{Name: m.Tensors[i].Name, Type: typ, Shape: m.Tensors[i].Shape}
	}
	path := t.TempDir() + "/q.gguf"
	w, err := gguf.Create(path, m.Metadata("", number, noVocab), tensors, gguf.Options{})
	if err != nil {
		t.Fatal(err)
	}
	held := map[string][]float32{}
	for i := range m.Tensors {
		x := &m.Tensors[i]
		rows, columns := x.Size()
		values := make([]float32, rows*columns)
		if err := x.Rows(src, 0, rows, values); err != nil {
			t.Fatal(err)
		}
		n, err := list[i].RowBytes(rows * columns)
		if err != nil {
			t.Fatal(err)
		}
		raw := make([]byte, n)
		if err := ggml.Quantize(list[i], raw, values, int(columns), nil); err != nil {
			t.Fatal(err)
		}
		if err := w.WriteAt(x.Name, raw, 0); err != nil {
			t.Fatal(err)
		}
		if err := ggml.Dequantize(list[i], values, raw); err != nil {
			t.Fatal(err)
		}
		if _, twice := held[x.From]; x.From != "" && !twice {
			held[x.From] = backwards(x, values)
		}
	}
	if err := w.Commit(); err != nil {
		t.Fatal(err)
	}
	return opened(t, path), held
}

// backwards is the plain way from the order of a file to that of a checkpoint.
func backwards(x *Tensor, values []float32) []float32 {
	out := make([]float32, len(values))
	rows, columns := int(x.Shape[0]), len(values)/int(x.Shape[0])
	for r := range rows {
		to := r
		if x.Heads > 0 {
			k := rows / x.Heads
			h, i := r/k, r%k
			to = h*k + i%2*(k/2) + i/2
		}
		for c := range columns {
			if x.Transposed {
				out[c*rows+to] = values[r*columns+c]
			} else {
				out[to*columns+c] = values[r*columns+c]
			}
		}
	}
	return out
}

// What is stored in blocks shows dequantized, in the order of the checkpoint, read in whatever pieces.
func TestOpenQuantized(t *testing.T) {
	for _, o := range []testmodel.Options{
		{Layers: 2, D: 256, H: 4, G: 2, F: 288, V: 40},
		{Family: "gpt2", Layers: 1, D: 256, H: 4, F: 512, V: 40, Context: 16},
		{Layers: 3, D: 64, H: 4, G: 2, V: 40, Bias: true, Tied: true, PerLayer: map[int]testmodel.Sizes{1: {NoAttention: true}, 2: {H: 2, G: 1}}},
	} {
		src, m := described(t, o)
		for _, mix := range []string{"q4_k_m", "q8_0", "q4_0"} {
			f, held := quantized(t, src, m, mix)
			l, err := Open(f)
			if err != nil {
				t.Fatal(err)
			}
			for _, info := range l.View.Tensors() {
				want := held[info.Name]
				if got := inPieces(t, l.View, info); want != nil && !slices.Equal(got, want) {
					t.Errorf("%s %s: %s differs", o.Family, mix, info.Name)
				}
				checkGrid(t, l.View, info, want)
			}
		}
	}
}

// checkGrid compares a weight as codes with its values.
func checkGrid(t *testing.T, v formats.Quantized, info formats.TensorInfo, want []float32) {
	t.Helper()
	s, blocks := v.Storage(info.Name)
	if len(info.Shape) == 1 != !blocks && !strings.Contains(info.Name, "wpe") {
		t.Errorf("%s of shape %v: stored in blocks: %t", info.Name, info.Shape, blocks)
	}
	if !blocks || !s.Grid {
		return
	}
	m, err := v.Affine(info.Name)
	if err != nil {
		t.Fatal(err)
	}
	got := make([]float32, len(want))
	m.Dequantize(got, 0)
	if want != nil && !slices.Equal(got, want) {
		t.Errorf("%s: codes give other values", info.Name)
	}
	if s.Bits != float64(m.Bits)+0.5 || s.Group != m.Group || !s.Symmetric {
		t.Errorf("%s: storage %+v of codes of %d bits in groups of %d", info.Name, s, m.Bits, m.Group)
	}
}

func TestViewRefuses(t *testing.T) {
	src, m := described(t, testmodel.Options{})
	l, err := Open(opened(t, write(t, src, m, noVocab)))
	if err != nil {
		t.Fatal(err)
	}
	name := l.View.Tensors()[0].Name
	for what, err := range map[string]error{
		"an absent tensor": l.View.ReadAt("x", make([]byte, 4), 0),
		"past the end":     l.View.ReadAt(name, make([]byte, 4), 1<<40),
		"before the start": l.View.ReadAt(name, make([]byte, 4), -1),
	} {
		var e *formats.Error
		if !errors.As(err, &e) {
			t.Errorf("%s: error %v", what, err)
		}
	}
	if _, err := l.View.Affine(name); err == nil {
		t.Error("codes of plain values: no error")
	}
	if err := l.View.ReadAt(name, nil, 0); err != nil {
		t.Error(err)
	}
}

// The configuration is one that other programs read: ids of tokens are in it.
func TestConfigHasIDs(t *testing.T) {
	src, m := described(t, testmodel.Options{V: 300})
	kv, _, err := Tokenizer(files(map[string]string{"tokenizer.json": tinyTokenizer, "config.json": `{"bos_token_id": 1, "eos_token_id": [2, 3]}`}).read, 300)
	if err != nil {
		t.Fatal(err)
	}
	l, err := Open(opened(t, write(t, src, m, kv)))
	if err != nil {
		t.Fatal(err)
	}
	var config map[string]any
	if err := json.NewDecoder(bytes.NewReader(l.Config)).Decode(&config); err != nil {
		t.Fatal(err)
	}
	if config["bos_token_id"] != 1.0 || config["eos_token_id"] != 2.0 || config["model_type"] != "llama" {
		t.Errorf("config %s", l.Config)
	}
}
