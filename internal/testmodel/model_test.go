package testmodel

import (
	"bytes"
	"encoding/json"
	"math"
	"strings"
	"testing"

	"modelpress/formats"
)

func TestCasesAreWholeAndDeterministic(t *testing.T) {
	for _, c := range Cases() {
		t.Run(c.Name, func(t *testing.T) {
			a, b := New(c.Options), New(c.Options)
			var cfg map[string]any
			if err := json.Unmarshal(a.Config, &cfg); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(a.Config, b.Config) {
				t.Error("configuration differs between two runs")
			}
			last := ""
			for _, info := range a.Tensors() {
				if info.Name <= last {
					t.Errorf("%q after %q: not sorted", info.Name, last)
				}
				last = info.Name
				x, y := readAll(t, a, info), readAll(t, b, info)
				if !bytes.Equal(x, y) {
					t.Errorf("%s differs between two runs", info.Name)
				}
			}
		})
	}
}

func readAll(t *testing.T, m *Model, info formats.TensorInfo) []byte {
	t.Helper()
	n, err := info.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	p := make([]byte, n)
	if err := m.ReadAt(info.Name, p, 0); err != nil {
		t.Fatal(err)
	}
	return p
}

// TestRangesAgreeWithTheWhole reads pieces at every alignment and compares them with the whole tensor.
func TestRangesAgreeWithTheWhole(t *testing.T) {
	for _, dt := range []formats.DType{formats.BF16, formats.F16, formats.F32} {
		m := New(Options{DType: dt, Seed: 5})
		info, _ := m.Lookup("model.norm.weight")
		whole := readAll(t, m, info)
		for off := range 17 {
			for n := range 23 {
				p := make([]byte, n)
				if err := m.ReadAt(info.Name, p, int64(off)); err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(p, whole[off:off+n]) {
					t.Fatalf("%s: bytes [%d, %d) differ", dt, off, off+n)
				}
			}
		}
	}
}

func TestMomentsAndSeeds(t *testing.T) {
	m := New(Options{D: 128, Seed: 9})
	w, err := m.Values("model.layers.0.mlp.up_proj.weight")
	if err != nil {
		t.Fatal(err)
	}
	var sum, sq float64
	for _, v := range w {
		sum += float64(v)
		sq += float64(v) * float64(v)
	}
	n := float64(len(w))
	want := 1 / math.Sqrt(128)
	if mean := sum / n; math.Abs(mean) > 4*want/math.Sqrt(n) {
		t.Errorf("mean %g", mean)
	}
	if std := math.Sqrt(sq / n); math.Abs(std/want-1) > 4/math.Sqrt(2*n) {
		t.Errorf("standard deviation %g, want %g", std, want)
	}
	other, _ := m.Values("model.layers.1.mlp.up_proj.weight")
	seeded, _ := New(Options{D: 128, Seed: 10}).Values("model.layers.0.mlp.up_proj.weight")
	for name, o := range map[string][]float32{"other tensor": other, "other seed": seeded} {
		var dot float64
		for i := range w {
			dot += float64(w[i]) * float64(o[i])
		}
		if c := dot / sq; math.Abs(c) > 4/math.Sqrt(n) {
			t.Errorf("%s: correlation %g", name, c)
		}
	}
}

func TestSetAndWithout(t *testing.T) {
	m := New(Options{DType: formats.BF16})
	v := make([]float32, 64)
	v[3] = 1.5
	m.Set("model.norm.weight", v)
	got, err := m.Values("model.norm.weight")
	if err != nil || got[3] != 1.5 || got[4] != 0 {
		t.Fatalf("got %v, %v", got[:5], err)
	}
	less := m.Without("lm_head.weight")
	if _, ok := less.Lookup("lm_head.weight"); ok {
		t.Error("tensor still there")
	}
	if got, _ = less.Values("model.norm.weight"); got[3] != 1.5 {
		t.Error("set values lost")
	}
	if err := m.ReadAt("model.norm.weight", make([]byte, 3), 126); err == nil {
		t.Error("read past the end succeeded")
	}
	if err := m.ReadAt("none", nil, 0); err == nil {
		t.Error("read of a missing tensor succeeded")
	}
}

func TestLlama1BShape(t *testing.T) {
	var total int64
	for _, info := range New(Llama32x1B()).Tensors() {
		n, err := info.Elements()
		if err != nil {
			t.Fatal(err)
		}
		total += n
	}
	if total != 1235814400 { // the figure of the release's model card index
		t.Errorf("%d parameters", total)
	}
}

func TestWindows(t *testing.T) {
	a, b := Windows(3, 50, 100, 1), Windows(3, 50, 100, 1)
	for i := range a {
		for j := range a[i] {
			if a[i][j] != b[i][j] || a[i][j] < 0 || a[i][j] >= 100 {
				t.Fatalf("[%d][%d]: %d and %d", i, j, a[i][j], b[i][j])
			}
		}
	}
	if a[0][0] == a[1][0] && a[0][1] == a[1][1] && a[0][2] == a[1][2] {
		t.Error("rows repeat")
	}
}

func TestFreshValuesAreThoseOfAnUntrainedModel(t *testing.T) {
	for _, name := range []string{"llama", "llama-tied", "gpt2"} {
		m := New(Scratch(name))
		for _, info := range m.Tensors() {
			x, err := m.Values(info.Name)
			if err != nil {
				t.Fatal(err)
			}
			var sum, sq float64
			for _, v := range x {
				sum += float64(v)
				sq += float64(v) * float64(v)
			}
			mean, square := sum/float64(len(x)), sq/float64(len(x))
			switch {
			case len(info.Shape) == 2:
				if d := math.Sqrt(square)/0.02 - 1; math.Abs(mean) > 1e-3 || math.Abs(d) > 0.05 {
					t.Errorf("%s %s: mean %v, deviation %v", name, info.Name, mean, math.Sqrt(square))
				}
			case strings.HasSuffix(info.Name, ".bias"):
				if square != 0 {
					t.Errorf("%s %s: a bias is not zero", name, info.Name)
				}
			case mean != 1 || square != 1:
				t.Errorf("%s %s: a gain is not one", name, info.Name)
			}
		}
	}
}
