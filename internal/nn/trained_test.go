package nn

import (
	"encoding/binary"
	"math"
	"testing"

	"modelpress/formats"
	"modelpress/formats/safetensors"
)

const (
	trainedModel = "../../examples/tiny-llama/model"
	trainedText  = "../../examples/tiny-llama/data/heldout.safetensors"
	window       = 512
)

func openTensors(t testing.TB, path string) *safetensors.File {
	t.Helper()
	f, err := safetensors.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func readAll(t testing.TB, src formats.Source, name string) []byte {
	t.Helper()
	info, ok := src.Lookup(name)
	if !ok {
		t.Fatalf("no tensor %s", name)
	}
	size, err := info.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	p := make([]byte, size)
	if err := src.ReadAt(name, p, 0); err != nil {
		t.Fatal(err)
	}
	return p
}

func readTensor(t testing.TB, src formats.Source, name string) []float32 {
	p := readAll(t, src, name)
	v := make([]float32, len(p)/4)
	if err := formats.Decode(v, p, formats.F32); err != nil {
		t.Fatal(err)
	}
	return v
}

// uint16Windows cuts little-endian ids into windows.
func uint16Windows(raw []byte) [][]int32 {
	var out [][]int32
	for ; len(raw) >= 2*window; raw = raw[2*window:] {
		w := make([]int32, window)
		for i := range w {
			w[i] = int32(binary.LittleEndian.Uint16(raw[2*i:]))
		}
		out = append(out, w)
	}
	return out
}

func nll(logits []float32, id int32) float64 {
	top := math.Inf(-1)
	for _, v := range logits {
		top = max(top, float64(v))
	}
	sum := 0.0
	for _, v := range logits {
		sum += math.Exp(float64(v) - top)
	}
	return top + math.Log(sum) - float64(logits[id])
}

// TestGoldenTrained compares the trained example model with transformers 4.47 in f32: logits of 16 rows of two windows,
// and their mean negative log-likelihood.
func TestGoldenTrained(t *testing.T) {
	m := openModel(t, trainedModel)
	ref := openTensors(t, "testdata/tiny-llama-go/reference.safetensors")
	want, rows, wantNLL := readTensor(t, ref, "logits"), readAll(t, ref, "rows"), readTensor(t, ref, "nll_per_window")
	windows := uint16Windows(readAll(t, openTensors(t, trainedText), "ids"))
	v := m.Arch.V
	for w, ids := range windows[:2] {
		got, err := m.Logits(ids)
		if err != nil {
			t.Fatal(err)
		}
		worst, score := 0.0, 0.0
		for i := range 16 {
			r := int(binary.LittleEndian.Uint32(rows[4*i:]))
			worst = max(worst, maxDiff(t, got[r*v:(r+1)*v], want[(w*16+i)*v:(w*16+i+1)*v]))
		}
		for r, id := range ids[1:] {
			score += nll(got[r*v:(r+1)*v], id) / float64(len(ids)-1)
		}
		if worst > 2e-3 || math.Abs(score-float64(wantNLL[w])) > 1e-5 {
			t.Errorf("window %d: logits differ by up to %g, mean nll %.7f, want %.7f", w, worst, score, wantNLL[w])
		}
		t.Logf("window %d: logits differ by up to %.3g, mean nll %.6f", w, worst, score)
	}
}
