package heads

import (
	"math"
	"reflect"
	"testing"

	"modelpress/formats/manifest"
	"modelpress/internal/arch"
	"modelpress/internal/testmodel"
)

// TestPublishedRules: the grid of the paper's code has 48 rules, and every rule of the plan published for Llama-3-8B is one of them.
func TestPublishedRules(t *testing.T) {
	rules, err := PublishedGrid().Rules()
	if err != nil || len(rules) != 48 {
		t.Fatalf("%d rules, %v", len(rules), err)
	}
	has := map[[2]float64]bool{}
	for _, r := range rules {
		has[[2]float64{r.Alpha, r.Beta}] = true
		if s := r.Alpha + r.Beta*8192; s > 8192 || r.Alpha+r.Beta*16384 > 16384 || r.Alpha+r.Beta*2048 <= 0 {
			t.Errorf("rule %v + %v N", r.Alpha, r.Beta)
		}
	}
	for _, want := range [][2]float64{{-1024, 1}, {1024, 0}, {0, 0.125}, {0, 0.25}, {0, 0.75}, {0, 0.625}, {0, 0.375}, {3072, 0.375},
		{2048, 0.5}, {0, 0.5}, {1024, 0.125}} {
		if !has[want] {
			t.Errorf("no rule %v", want)
		}
	}
	for i := 1; i < len(rules); i++ {
		if a, b := rules[i-1], rules[i]; a.Alpha > b.Alpha || a.Alpha == b.Alpha && a.Beta >= b.Beta {
			t.Errorf("rule %d is out of order", i)
		}
	}
}

// TestScaledRules: the grid at another length has the same rules with α and sizes to scale.
func TestScaledRules(t *testing.T) {
	published, err := PublishedGrid().Rules()
	if err != nil {
		t.Fatal(err)
	}
	rules, err := RuleGrid{Length: 512, Sink: 4, Block: 4, Min: 8}.Rules()
	if err != nil || len(rules) != len(published) {
		t.Fatalf("%d rules, %v", len(rules), err)
	}
	for i, r := range rules {
		if r.Alpha != published[i].Alpha/16 || r.Beta != published[i].Beta {
			t.Errorf("rule %d: %v + %v N", i, r.Alpha, r.Beta)
		}
		for _, n := range []int{128, 256, 512, 1024} {
			if got, want := RuleDensity(r, n), RuleDensity(published[i], 16*n); got != want {
				t.Errorf("rule %d at %d tokens: density %v, to scale %v", i, n, got, want)
			}
		}
	}
	for _, g := range []RuleGrid{{Length: 7, Block: 1, Min: 1}, {Length: 512, Min: 1}, {Length: 512, Block: 64, Sink: 64, Min: 64},
		{Length: 512, Block: 1, Sink: -1, Min: 1}, {Length: 1 << 30, Block: 1, Min: 1}} {
		if _, err := g.Rules(); err == nil {
			t.Errorf("%+v is accepted", g)
		}
	}
}

func TestRuleDensity(t *testing.T) {
	e := manifest.Policy{Kind: manifest.KindElastic, Alpha: 32, Beta: 0.25, Sink: 64, Block: 64, Min: 128}
	for _, c := range []struct {
		n    int
		want float64
	}{{0, 1}, {100, 1}, {128, 1}, {256, 0.5}, {512, 192. / 512}, {1024, 320. / 1024}} {
		if got := RuleDensity(e, c.n); got != c.want {
			t.Errorf("at %d tokens: %v, want %v", c.n, got, c.want)
		}
	}
	if !math.IsNaN(RuleDensity(manifest.Policy{Kind: manifest.KindBlockTopK}, 100)) {
		t.Error("a policy of run time has a density")
	}
	if RuleDensity(manifest.Full(), 100) != 1 || RuleDensity(manifest.Streaming(4, 16), 100) != 0.2 {
		t.Error("full or streaming")
	}
}

// TestFullWithin compares with a look at every length.
func TestFullWithin(t *testing.T) {
	var rules []manifest.Policy
	for _, g := range []RuleGrid{{Length: 64, Sink: 2, Block: 1, Min: 3}, {Length: 64, Sink: 2, Block: 16, Min: 8}, {Length: 32, Sink: 0, Block: 48, Min: 1}} {
		more, err := g.Rules()
		if err != nil {
			t.Fatal(err)
		}
		rules = append(rules, more...)
	}
	full := 0
	for i, r := range rules {
		for _, context := range []int{1, 2, 15, 16, 17, 48, 63, 64, 65, 128, 200} {
			want := true
			for n := 1; n <= context; n++ {
				want = want && r.Span(n) == n
			}
			if got := fullWithin(r, context); got != want {
				t.Errorf("rule %d (%v + %v N, block %d), context %d: %t", i, r.Alpha, r.Beta, r.Block, context, got)
			}
			if want {
				full++
			}
		}
	}
	if full == 0 || fullWithin(manifest.Streaming(4, 4), 2) || !fullWithin(manifest.Full(), 1<<30) {
		t.Error("nothing is full, or the wrong kind is")
	}
}

func TestCacheLimits(t *testing.T) {
	layers := []arch.Layer{{H: 4, G: 2, K: 16}, {}, {H: 4, G: 2, K: 8, Window: 100}}
	rules := []manifest.Policy{manifest.Full(), manifest.Streaming(4, 60)}
	got, err := CacheLimits(layers, rules, []int{50, 400}, 0.5, 0.1)
	want := []CacheLimit{
		{Length: 50, Max: 0.5, Min: 0.1, Size: [][]int64{{800, 800}, {50, 50}, {400, 400}}, Dense: []int64{800, 50, 400}},
		{Length: 400, Max: 0.5, Min: 0.1, Size: [][]int64{{6400, 1024}, {400, 64}, {800, 512}}, Dense: []int64{6400, 400, 800}},
	}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%v\n%+v", err, got)
	}
	if _, err := CacheLimits(layers, []manifest.Policy{{Kind: manifest.KindBlockTopK}}, []int{50}, 1, 0); err == nil {
		t.Error("a rule without a size is accepted")
	}
	if _, err := CacheLimits(layers, rules, []int{0}, 1, 0); err == nil {
		t.Error("length 0 is accepted")
	}
}

// draftPlan is a valid plan over a small model with a layer that has no attention.
func draftPlan(t *testing.T, family string) *manifest.Plan {
	t.Helper()
	m := open(t, testmodel.Named(family)).Arch
	p := Draft(m)
	p.Model.WeightsDigest = "tensors-v1:sha256:" + zeros
	p.Producer.Version = "test"
	return p
}

const zeros = "0000000000000000000000000000000000000000000000000000000000000000"

// TestWriteMoA: heads get their rules under ids in the order of use, rules that hide nothing become full, and the result is valid.
func TestWriteMoA(t *testing.T) {
	for _, family := range []string{"llama-gqa", "llama-pruned", "gpt2"} {
		p := draftPlan(t, family)
		n := p.Model.MaxPosition
		elastic := func(alpha, beta float64) manifest.Policy {
			return manifest.Policy{Kind: manifest.KindElastic, Alpha: alpha, Beta: beta, Sink: 4, Block: 4, Min: 8, Length: "prompt_plus_max_new"}
		}
		m := &MoAPlan{Rules: []manifest.Policy{elastic(8, 0), elastic(float64(n), 0), elastic(0, 0.5), elastic(0, 0.5)}, Unit: "loss", Samples: 3, Density: 0.5}
		next := 0
		for _, e := range p.Layers {
			var rule []int
			loss := []float64{}
			for range e.KVHeads {
				rule = append(rule, []int{2, 1, 0, 3}[next%4])
				loss = append(loss, 0.12345678*float64(next))
				next++
			}
			m.Rule, m.Loss = append(m.Rule, rule), append(m.Loss, loss)
		}
		if err := WriteMoA(p, m); err != nil {
			t.Fatal(err)
		}
		if faults := p.Validate(); len(faults) > 0 {
			t.Fatalf("%s: %v", family, faults)
		}
		if len(p.Policies) != 3 || !reflect.DeepEqual(p.Policies["e0"], elastic(0, 0.5)) || !reflect.DeepEqual(p.Policies["e1"], elastic(8, 0)) {
			t.Errorf("%s: policies %v", family, p.Policies)
		}
		next = 0
		for l, e := range p.Layers {
			for g, h := range e.KVHeads {
				want := []string{"e0", "full", "e1", "e0"}[next%4]
				next++
				pol, id := p.Resolve(l, g, manifest.Decoding, n)
				if id != want || h.Prefill != want || pol.Span(n) != m.Rules[m.Rule[l][g]].Span(n) || *h.Score != Round(m.Loss[l][g]) {
					t.Errorf("%s: layer %d, head %d: %q in decoding, %q in prefill, score %v; want %q", family, l, g, id, h.Prefill, *h.Score, want)
				}
			}
		}
		if p.Selection.Method != "moa" || len(p.Evidence) != 1 || p.Evidence[0].Samples != 3 {
			t.Errorf("%s: %+v %+v", family, p.Selection, p.Evidence)
		}
		if _, err := manifest.Encode(p); err != nil {
			t.Error(err)
		}
		m.DecodeOnly = true
		if err := WriteMoA(p, m); err != nil || p.Layers[0].KVHeads[0].Prefill != PolicyFull {
			t.Errorf("%s: %v, prefill %q", family, err, p.Layers[0].KVHeads[0].Prefill)
		}
		m.Rule[0] = m.Rule[0][:0]
		if err := WriteMoA(p, m); err == nil {
			t.Errorf("%s: a row that is too short is accepted", family)
		}
	}
}
