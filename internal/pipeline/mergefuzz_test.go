package pipeline

import (
	"encoding/json"
	"testing"

	"modelpress/formats"
	"modelpress/heads/kvmerge"
	"modelpress/internal/arch"
	"modelpress/internal/testmodel"
)

// FuzzMergeDecision: whatever stands in the place of a decision is refused, or makes a model whose layers have the heads that it says.
func FuzzMergeDecision(f *testing.F) {
	type bench struct {
		m *testmodel.Model
		a *arch.Model
		r *KVMerge
	}
	var list []bench
	half := 0.5
	for _, c := range []struct {
		m *testmodel.Model
		r KVMerge
	}{
		{testmodel.New(mergeOptions(formats.F32)), KVMerge{KVHeads: 2, Layout: layoutPortable}},
		{testmodel.New(mergeOptions(formats.F32)), KVMerge{KVBudget: &half, Layout: layoutPortable}},
		{testmodel.New(mergeOptions(formats.F32)), KVMerge{KVBudget: &half, Layout: layoutCompact, Grouping: groupingContiguous}},
		{testmodel.Named("llama-pruned"), KVMerge{KVBudget: &half, Layout: layoutCompact}},
		{testmodel.Named("gpt2"), KVMerge{KVHeads: 2, Layout: layoutPortable}},
		{testmodel.Named("qwen3"), KVMerge{KVHeads: 1, Layout: layoutCompact}},
	} {
		a, err := arch.Describe(c.m.Config, c.m)
		if err != nil {
			f.Fatal(err)
		}
		k := defaultKVMerge()
		k.KVHeads, k.KVBudget, k.Layout, k.Mix = c.r.KVHeads, c.r.KVBudget, c.r.Layout, true
		if c.r.Grouping != "" {
			k.Grouping = c.r.Grouping
		}
		list = append(list, bench{c.m, a, k})
	}
	add := func(keys string, layers ...mergedLayer) {
		raw, err := json.Marshal(mergeDecision{Keys: keys, Values: "pca", Refit: true, Layers: layers})
		if err != nil {
			f.Fatal(err)
		}
		for i := range list {
			f.Add(raw, uint8(i))
		}
	}
	pairs, all, each := [][]int{{0, 1}, {2, 3}}, [][]int{{0, 1, 2, 3}}, [][]int{{0}, {1}, {2}, {3}}
	add("pca", mergedLayer{Groups: pairs, Repeat: 1}, mergedLayer{Groups: pairs, Repeat: 1}, mergedLayer{Groups: pairs, Repeat: 1})
	add("pca", mergedLayer{Groups: all, Repeat: 4}, mergedLayer{Groups: each, Repeat: 1}, mergedLayer{Groups: all, Repeat: 4})
	add("pca", mergedLayer{Groups: all, Repeat: 1}, mergedLayer{Groups: each, Repeat: 1}, mergedLayer{Groups: all, Repeat: 1})
	add("pca", mergedLayer{Groups: pairs, Repeat: 1}, mergedLayer{}, mergedLayer{Groups: [][]int{{0, 1}}, Repeat: 1}, mergedLayer{Groups: pairs, Repeat: 1})
	add("pca", mergedLayer{Groups: [][]int{{0, 1, 2, 3}, {4, 5, 6, 7}}, Repeat: 4}, mergedLayer{Groups: [][]int{{0, 7, 2, 3}, {4, 5, 6, 1}}, Repeat: 4})
	add("select", mergedLayer{Groups: [][]int{{0, 1}}, Repeat: 1}, mergedLayer{Groups: [][]int{{1, 0}}, Repeat: 1})
	f.Fuzz(func(t *testing.T, raw []byte, which uint8) {
		b := list[int(which)%len(list)]
		d := &mergeDecision{}
		if decodeDecision(raw, d) != nil || len(d.check(b.a, b.r)) > 0 {
			return
		}
		_, m, err := kvmerge.View(b.m, b.a, d.layers(), nil, nil)
		if err != nil {
			t.Fatalf("what was checked cannot be merged: %v", err)
		}
		for l := range m.Layers {
			a := &m.Layers[l]
			if !a.HasAttention() {
				continue
			}
			if g := len(d.Layers[l].Groups) * max(1, d.Layers[l].Repeat); a.G != g || a.H%g != 0 || b.r.KVHeads > 0 && len(d.Layers[l].Groups) != b.r.KVHeads {
				t.Errorf("layer %d has %d KV heads, the decision says %d", l, a.G, g)
			}
		}
		if _, err := configEdits(b.m.Config, b.a, m, nil, nil); err != nil {
			t.Error(err)
		}
		d.rows(b.a, m)
		d.summary(b.a)
	})
}

// FuzzMergeLayers: layers of any shape make a view or an error.
func FuzzMergeLayers(f *testing.F) {
	m := testmodel.New(mergeOptions(formats.F32))
	a, err := arch.Describe(m.Config, m)
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte(`[{"groups":[[0,1],[2,3]],"repeat":2},{},{"groups":[[3],[2],[1],[0]],"repeat":-1}]`))
	f.Add([]byte(`[{"repeat":9223372036854775807},{"groups":[[0,1,2,3]],"repeat":4611686018427387904},{"groups":[]}]`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		d := &mergeDecision{}
		if json.Unmarshal(raw, &d.Layers) != nil {
			return
		}
		for l := range d.Layers {
			if l < len(a.Layers) {
				(kvmerge.Layer{Groups: d.Layers[l].Groups, Repeat: d.Layers[l].Repeat}).Written(a.Layers[l].G)
			}
		}
		kvmerge.Changed(a, d.layers())
		_, merged, err := kvmerge.View(m, a, d.layers(), nil, nil)
		if err != nil {
			return
		}
		for l := range merged.Layers {
			if g := merged.Layers[l].G; g < 1 || merged.Layers[l].H%g != 0 {
				t.Errorf("layer %d: %d KV heads", l, g)
			}
		}
	})
}
