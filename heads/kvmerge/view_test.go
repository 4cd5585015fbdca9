package kvmerge

import (
	"bytes"
	"slices"
	"testing"

	"modelpress/formats"
	"modelpress/internal/testmodel"
)

func TestViewAgainstPlainLoops(t *testing.T) {
	wide := testmodel.New(testmodel.Options{Layers: 1, D: 1024, H: 8, G: 4, K: 64, F: 8, V: 8, Seed: 21}) // outputs come in chunks
	half := testmodel.New(testmodel.Options{Family: "qwen2", G: 4, DType: formats.BF16, Seed: 22})
	for _, c := range []struct {
		name      string
		src       *testmodel.Model
		t, repeat int
	}{
		{"llama-mha", nil, 2, 0}, {"llama-mha", nil, 4, 2}, {"llama-mha", nil, 8, 1}, {"llama-mha", nil, 1, 0}, {"mistral-full", nil, 2, 1},
		{"mistral-swa", nil, 2, 4}, {"llama-gqa", nil, 2, 1}, {"llama-gqa", nil, 1, 2}, {"llama-bias", nil, 2, 2}, {"llama-bias", nil, 4, 0}, {"qwen2", nil, 2, 1},
		{"llama-wide-heads", nil, 2, 0}, {"qwen3", nil, 2, 4}, {"llama-pruned", nil, 2, 0}, {"llama-pruned", nil, 4, 2}, {"gpt2", nil, 2, 2},
		{"gpt2", nil, 8, 8}, {"gpt2", nil, 1, 1}, {"wide", wide, 2, 1}, {"bf16", half, 2, 2},
	} {
		src := c.src
		if src == nil {
			src = viewCase(c.name)
		}
		m := viewModel(t, src)
		plan := randomPlan(m, c.t, c.repeat, 3)
		v, n, err := View(src, m, plan.layers, plan.load, viewThreads(2))
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		compared := 0
		for l, layer := range plan.layers {
			if layer.Groups != nil {
				checkLayer(t, src, v, &m.Layers[l], &n.Layers[l], layer, plan.maps[l])
				compared++
			}
		}
		if compared == 0 {
			t.Errorf("%s: no layer merged", c.name)
		}
		for _, p := range n.Parameters() {
			if info, ok := v.Lookup(p.Name); !ok || !slices.Equal(info.Shape, p.Shape) {
				t.Errorf("%s: %s is %v, the model says %v", c.name, p.Name, info, p.Shape)
			}
		}
		checkUnchanged(t, src, v, Changed(m, plan.layers))
	}
}

// checkUnchanged compares bytes and descriptions of all tensors but those listed, which must be others.
func checkUnchanged(t *testing.T, src, v formats.Source, changed []string) {
	t.Helper()
	var differ []string
	before, after := src.Tensors(), v.Tensors()
	if len(before) != len(after) {
		t.Fatalf("%d tensors, then %d", len(before), len(after))
	}
	for i, info := range after {
		if l, ok := v.Lookup(info.Name); !ok || l.DType != info.DType || !slices.Equal(l.Shape, info.Shape) || info.Name != before[i].Name {
			t.Errorf("%s is listed as %v, looked up as %v", before[i].Name, info, l)
		}
		if info.DType != before[i].DType || !slices.Equal(info.Shape, before[i].Shape) ||
			!bytes.Equal(viewBytes(t, src, info.Name), viewBytes(t, v, info.Name)) {
			differ = append(differ, info.Name)
		}
	}
	if !slices.Equal(differ, changed) {
		t.Errorf("changed %v, said to change %v", differ, changed)
	}
}

func TestViewIdentity(t *testing.T) {
	for _, c := range testmodel.Cases() {
		src := testmodel.New(c.Options)
		m := viewModel(t, src)
		layers := make([]Layer, len(m.Layers))
		for l := range layers {
			if g := m.Layers[l].G; g > 0 && l%2 == 0 {
				layers[l] = Layer{Contiguous(g, 1), l / 2}
			}
		}
		v, n, err := View(src, m, layers, func(int) (*Maps, error) { panic("asked for maps") }, nil)
		if err != nil {
			t.Fatal(err)
		}
		if len(Changed(m, layers)) != 0 {
			t.Errorf("%s: %v change", c.Name, Changed(m, layers))
		}
		checkUnchanged(t, src, v, nil)
		for l := range n.Layers {
			if n.Layers[l] != m.Layers[l] {
				t.Errorf("%s: layer %d is now %+v", c.Name, l, n.Layers[l])
			}
		}
	}
}

// One merged layer leaves the other alone, whose identity maps would not be its bytes in another type.
func TestViewOfOneLayer(t *testing.T) {
	src := viewCase("qwen2")
	m := viewModel(t, src)
	plan := randomPlan(m, 2, 1, 4)
	plan.layers[1] = Layer{}
	v, n, err := View(src, m, plan.layers, plan.load, nil)
	if err != nil {
		t.Fatal(err)
	}
	changed := Changed(m, plan.layers)
	if len(changed) != 7 || !slices.IsSorted(changed) {
		t.Errorf("changed: %v", changed)
	}
	checkUnchanged(t, src, v, changed)
	if n.Layers[1] != m.Layers[1] || m.Layers[0].G != 2 || n.Layers[0].G != 1 {
		t.Errorf("layers %+v", n.Layers)
	}
}

// Repetition alone copies bytes of keys and values, and nothing else.
func TestViewRepeatsOnly(t *testing.T) {
	src := viewCase("llama-gqa")
	m := viewModel(t, src)
	layers := []Layer{{Repeat: 2}, {Contiguous(2, 1), 4}}
	v, n, err := View(src, m, layers, func(int) (*Maps, error) { panic("asked for maps") }, nil)
	if err != nil {
		t.Fatal(err)
	}
	changed := Changed(m, layers)
	if len(changed) != 4 {
		t.Errorf("changed: %v", changed)
	}
	checkUnchanged(t, src, v, changed)
	for l, layer := range layers {
		layer.Groups = Contiguous(2, 1)
		checkLayer(t, src, v, &m.Layers[l], &n.Layers[l], layer, identityMaps(&m.Layers[l], layer.Groups))
	}
}
