package pipeline

import (
	"encoding/json"
	"testing"

	"modelpress/internal/arch"
	"modelpress/internal/testmodel"
	"modelpress/prune"
)

// FuzzPruneDecision: whatever stands in the place of a decision is refused, or makes a model of the sizes that it says and its
// configuration.
func FuzzPruneDecision(f *testing.F) {
	type bench struct {
		m *testmodel.Model
		s *source
	}
	var list []bench
	for _, name := range []string{"llama-bias", "llama-pruned", "gpt2", "qwen3-tied", "mistral-swa"} {
		m := testmodel.Named(name)
		a, err := arch.Describe(m.Config, m)
		if err != nil {
			f.Fatal(err)
		}
		list = append(list, bench{m, &source{dense: m, arch: a}})
	}
	for i := range list {
		a := list[i].s.arch
		for seed, p := range []*Prune{{Params: 0.5, Layout: layoutCompact, Axes: []string{"hidden", "heads", "ffn", "layers"}, Multiple: 4}, {KV: 0.5, Layout: layoutCompact, Axes: []string{"layers"}}} {
			cut, err := p.sampleCut(a)
			if err != nil {
				continue
			}
			raw, err := json.Marshal(pruneDecision{Method: pruneRandom, Metric: "params", Share: "0.5", Cut: cut, HeldOut: []metric{}, Notes: make([]string, seed)})
			if err != nil {
				f.Fatal(err)
			}
			f.Add(raw, uint8(i))
		}
		f.Add([]byte(`{"cut":{"hidden":{},"layers":[{"heads":{"keep":""}},{"ffn":{"keep":""}}]}}`), uint8(i))
		f.Add([]byte(`{"cut":{"hidden":{"scale":"AACAPw=="},"layers":[{"drop":true},{"scale":"AACAvw==","ffn":{"keep":"x1,3"}}]}}`), uint8(i))
	}
	f.Fuzz(func(t *testing.T, raw []byte, which uint8) {
		b := list[int(which)%len(list)]
		d := &pruneDecision{}
		if decodeDecision(raw, d) != nil || d.Cut == nil {
			return
		}
		c, changes, err := b.s.pruned(d)
		if err != nil {
			return
		}
		small, err := d.Cut.Arch(b.s.arch)
		if err != nil || prune.Count(small, 64) != prune.Count(c.arch, 64) {
			t.Fatalf("the model has %+v, the cut says %+v (%v)", prune.Count(c.arch, 64), prune.Count(small, 64), err)
		}
		for _, p := range c.arch.Parameters() {
			if info, ok := c.dense.Lookup(p.Name); !ok {
				t.Errorf("%s is not there", p.Name)
			} else if n, err := info.Elements(); err != nil || n <= 0 {
				t.Errorf("%s has %d values (%v)", p.Name, n, err)
			}
		}
		if _, err := configEdits(b.m.Config, b.s.arch, c.arch, d.layers(), nil); err != nil {
			t.Error(err)
		}
		st := storedAs(b.m, c, changes, false, nil, nil)
		if _, err := planOutputs(st, c.dense, c.arch, nil, nil); err != nil {
			t.Error(err)
		}
		d.rows(b.s.arch)
		d.summary(b.s.arch, c.arch)
		d.kept(b.s.arch)
	})
}
