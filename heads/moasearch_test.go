package heads

import (
	"math"
	"testing"

	"modelpress/formats/manifest"
	"modelpress/internal/arch"
)

// threeHeads is a model of one layer with three KV heads, and a layer without attention.
func threeHeads() *arch.Model {
	return &arch.Model{MaxPosition: 512, Layers: []arch.Layer{{H: 3, G: 3, K: 8}, {}}}
}

func fixed(spans ...float64) []manifest.Policy {
	var rules []manifest.Policy
	for _, s := range spans {
		rules = append(rules, manifest.Policy{Kind: manifest.KindElastic, Alpha: s, Sink: 4, Block: 4, Min: 8, Length: "prompt"})
	}
	return rules
}

// TestRuleLosses: bands that a rule keeps only in part count as dropped, a longer sequence is judged by the same share of the
// profiled one, and what keeps everything loses nothing.
func TestRuleLosses(t *testing.T) {
	p := &LengthProfile{Length: 64, Width: 4}
	for g := range 3 {
		row := make([]float64, 16)
		for b := range row {
			row[b] = float64((g + 1) * (16 - b))
		}
		p.DropAbs = append(p.DropAbs, nil)
		p.DropAbs[0] = append(p.DropAbs[0], row)
	}
	p.DropAbs = p.DropAbs[:1]
	rules := append(fixed(24, 64, 128), manifest.Policy{Kind: manifest.KindElastic, Beta: 1, Sink: 4, Block: 4, Min: 8, Length: "prompt"})
	for _, c := range []struct {
		sink, length int
		want         [4]float64 // of head 1
	}{
		{4, 64, [4]float64{2 * 11, 0, 0, 0}},           // 20 tokens beside the sinks: bands 0 to 4
		{5, 64, [4]float64{2 * 12, 0, 0, 0}},           // 19: bands 0 to 3
		{4, 128, [4]float64{2 * 14, 2 * 9, 0, 0}},      // half of 20 and of 60
		{4, 256, [4]float64{2 * 15, 2 * 13, 2 * 9, 0}}, // a quarter
	} {
		got := ruleLosses(threeHeads(), p, c.length, rules, c.sink, false)
		for r, want := range c.want {
			if got[0][1][r] != want {
				t.Errorf("%d sinks, %d tokens, rule %d: loss %g, want %g", c.sink, c.length, r, got[0][1][r], want)
			}
		}
		if len(got[1]) != 0 {
			t.Error("a layer without attention has losses")
		}
	}
}

// TestScaled: losses under the worst rules add up to the total; without any, they stay.
func TestScaled(t *testing.T) {
	got := scaled([][][]float64{{{1, 0}, {3, 2}}, {}, {{4, 4}}}, 2)
	if s := got[0][0][0] + got[0][1][0] + got[2][0][0]; math.Abs(s-2) > 1e-12 || got[0][1][1] != 0.5 {
		t.Errorf("%v", got)
	}
	if got := scaled([][][]float64{{{0, 0}}}, 2); got[0][0][0] != 0 {
		t.Errorf("%v", got)
	}
}

// TestKeepWhole: a knapsack over these losses gives the marked heads a rule that keeps everything.
func TestKeepWhole(t *testing.T) {
	m, rules := threeHeads(), fixed(16, 64, 256)
	table := [][][]float64{{{9, 1, 0}, {9, 1, 0}, {5, 2, 0}}, {}}
	caches, err := CacheLimits(m.Layers, rules, []int{256}, 0.5, 0)
	if err != nil {
		t.Fatal(err)
	}
	for h := range 3 {
		full := [][]bool{make([]bool, 3), {}}
		full[0][h] = true
		copied := noLosses(m, 3)
		addTables(copied, table, 1)
		s, err := (&Knapsack{Loss: keepWhole(copied, full, rules, 256), Caches: caches}).Solve()
		if err != nil || s.Rule[0][h] != 2 {
			t.Errorf("head %d: rules %v, %v", h, s, err)
		}
	}
}

// TestAgainstUniform: losses count as shares of the window's, and a plan that is behind in one thing comes after all that are not.
func TestAgainstUniform(t *testing.T) {
	r := &MoAResult{Uniform: []float64{0.2, 4, 0}}
	good, lopsided := r.againstUniform([]float64{0.1, 3, 0}), r.againstUniform([]float64{0.3, 0.1, 0})
	if want := math.Sqrt(0.5) + math.Sqrt(0.75) + 1; math.Abs(good-want) > 1e-12 || lopsided < 100 {
		t.Errorf("%g, %g", good, lopsided)
	}
	if r.againstUniform([]float64{0.2, 4, 0.0009}) > 100 {
		t.Error("as good as the window is not behind it")
	}
}

// TestAnswerScores ranks heads by the longest rule within the budget, not by the shortest of all.
func TestAnswerScores(t *testing.T) {
	m, rules := threeHeads(), fixed(16, 64, 256)
	l := &losses{lengths: []int{128, 256}, answers: [][][][]float64{
		{{{9, 1, 0}, {2, 2, 0}, {1, 1, 0}}, {}}, {{{9, 1, 0}, {2, 2, 0}, {1, 3, 0}}, {}}}}
	scores, n := l.answerScores(m, rules, 0.3)
	if n != 3 || scores[0][0] != 2 || scores[0][1] != 4 || scores[0][2] != 4 || len(scores[1]) != 0 {
		t.Errorf("%v of %d", scores, n)
	}
	if scores, _ := l.answerScores(m, rules, 0.01); scores[0][0] != 18 {
		t.Errorf("no rule within the budget: %v", scores)
	}
}

// TestShortRules: the published rules stay, and short ones join them.
func TestShortRules(t *testing.T) {
	g := RuleGrid{Length: 512, Sink: 4, Block: 8, Min: 16}
	plain, err := g.Rules()
	if err != nil {
		t.Fatal(err)
	}
	g.Short = true
	all, err := g.Rules()
	if err != nil || len(plain) != 48 || len(all) != 48+7 {
		t.Errorf("%d and %d rules, %v", len(plain), len(all), err)
	}
	least := math.MaxInt
	for _, r := range all {
		least = min(least, r.Span(512))
	}
	if least != 16 {
		t.Errorf("the shortest rule keeps %d tokens, want Min", least)
	}
	at := 0
	for _, r := range all {
		if at < len(plain) && sameElastic(r, plain[at]) {
			at++
		}
	}
	if at != len(plain) {
		t.Errorf("published rule %d is missing or out of order", at)
	}
}
