package manifest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// withoutAttention returns mapped with a fourth layer that has no heads.
func withoutAttention() *Plan {
	p := mapped()
	p.Model.Layers = 4
	p.Layers = append(p.Layers, Layer{Layer: 3, Select: "none", NoAttention: true, KVHeads: []KVHead{}})
	for i := range p.Evidence {
		p.Evidence[i].Scores = append(p.Evidence[i].Scores, []float64{})
	}
	p.Quality, p.Requires = nil, append(p.Needs(), "time_travel")
	return p
}

// sameDocument compares two plans but for digests and the order of features.
func sameDocument(t *testing.T, what string, got, want *Plan) {
	t.Helper()
	a, b := *got, *want
	for _, p := range []*Plan{&a, &b} {
		p.Model.WeightsDigest, p.Model.HeadersDigest, p.Model.ConfigDigest = small().Model.WeightsDigest, "", ""
		p.Requires = slices.Sorted(slices.Values(p.Requires))
	}
	if x, y := string(mustEncode(t, &a)), string(mustEncode(t, &b)); x != y {
		t.Errorf("%s:\n%s\n%s", what, x, y)
	}
}

func TestRepeatKV(t *testing.T) {
	old := withoutAttention()
	before := mustEncode(t, old)
	p, err := old.RepeatKV([]int{2, 1, 0, 0})
	if err != nil {
		t.Fatal(err)
	}
	withDigest(t, p)
	if string(mustEncode(t, old)) != string(before) {
		t.Error("the old plan changed")
	}
	for l, want := range [][2]int{{8, 8}, {8, 4}, {8, 4}, {0, 0}} {
		if h, g := p.Counts(l); h != want[0] || g != want[1] {
			t.Errorf("layer %d has %d and %d heads", l, h, g)
		}
	}
	if p.Model.KVHeads != 8 || p.Layers[1].KVHeadCount != 4 || !contains(p.Requires, FeaturePerLayerHeads) || !contains(p.Requires, "time_travel") {
		t.Errorf("%d KV heads, %+v, requires %v", p.Model.KVHeads, p.Layers[1], p.Requires)
	}
	// Query head 5 was the second of KV head 2, and is now the only one of its second copy.
	if h := p.Layers[0].KVHeads[5]; h.Prefill != "vs" || h.QHeads != nil || *h.Score != 2 || h.KChannelMask == "" || !reflect.DeepEqual(h.KVBits, []int{8, 6}) {
		t.Errorf("%+v", h)
	}
	if h := p.Layers[0].KVHeads[4]; h.Prefill != "full" || h.QHeads != nil {
		t.Errorf("%+v", h)
	}
	if e := p.Evidence; !reflect.DeepEqual(e[0].Scores[0], []float64{0, 0, 1, 1, 2, 2, 3, 3}) || !reflect.DeepEqual(e[1].Scores, old.Evidence[1].Scores) ||
		!reflect.DeepEqual(e[2].Scores, old.Evidence[2].Scores) || !reflect.DeepEqual(e[0].Scores[1:], old.Evidence[0].Scores[1:]) {
		t.Errorf("evidence %v", e)
	}
	if p.Model.Permutation != nil {
		t.Errorf("permutation %v", p.Model.Permutation)
	}
}

// Every query head reads the cache that it read, in decoding and in prefill, whatever the counts: by the definition of grouped
// queries, query head h reads KV head h/(H/G).
func TestRepeatKVQueries(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	ids := []string{"full", "s", "w", "vs"}
	for range 200 {
		g, each := 1+rng.IntN(4), 1+rng.IntN(12)
		p := model(1+rng.IntN(3), g*each, g)
		p.Policies["s"], p.Policies["w"] = Streaming(4, 60), Streaming(4, 252)
		p.Policies["vs"] = Policy{Kind: KindVerticalSlash, Vertical: 10, Slash: 20, LastQ: 64}
		times := make([]int, p.Model.Layers)
		for l := range times {
			for times[l] = rng.IntN(each + 1); times[l] > 1 && each%times[l] != 0; times[l]-- {
			}
			row := Layer{Layer: l, Select: "none", KVHeads: []KVHead{}}
			for i := range g {
				if rng.IntN(4) == 0 {
					continue // by the defaults
				}
				h := KVHead{Head: i, Decode: Rules{{MaxLen: 100, Use: ids[rng.IntN(3)]}, {Use: ids[rng.IntN(3)]}}, Prefill: ids[rng.IntN(4)]}
				for q := i * each; q < (i+1)*each; q++ {
					if rng.IntN(3) == 0 {
						if h.QHeads == nil {
							h.QHeads = map[string]QueryHead{}
						}
						h.QHeads[fmt.Sprint(q)] = QueryHead{Prefill: ids[rng.IntN(4)]}
					}
				}
				row.KVHeads = append(row.KVHeads, h)
			}
			p.Layers = append(p.Layers, row)
		}
		p.Requires = p.Needs()
		out, err := p.RepeatKV(times)
		if err != nil {
			t.Fatalf("%d heads of %d, times %v: %v", g, each, times, err)
		}
		withDigest(t, out)
		for l, n := range times {
			if h, kv := out.Counts(l); h != g*each || kv != g*max(1, n) {
				t.Fatalf("%d copies of %d KV heads with %d query heads: %d and %d", n, g, g*each, h, kv)
			}
			for q := range g * each {
				for _, length := range []int{100, 101} {
					_, want := p.ResolveQuery(l, q, Prefill, length)
					_, wantKV := p.Resolve(l, q/each, Decoding, length)
					_, got := out.ResolveQuery(l, q, Prefill, length)
					_, gotKV := out.Resolve(l, q/(each/max(1, n)), Decoding, length)
					if got != want || gotKV != wantKV {
						t.Fatalf("times %v, layer %d, query head %d: %s and %s, want %s and %s", times, l, q, got, gotKV, want, wantKV)
					}
				}
			}
		}
	}
}

// Writing each head once changes nothing but the digests and what was measured.
func TestRepeatKVIdentity(t *testing.T) {
	old := withoutAttention()
	merged, err := old.MergeKV([][][]int{{{3, 1}, {2, 0}}, nil, nil, nil})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range []*Plan{old, withDigest(t, merged)} {
		for _, times := range [][]int{{1, 1, 1, 1}, {0, 0, 0, 0}} {
			out, err := p.RepeatKV(times)
			if err != nil {
				t.Fatal(err)
			}
			sameDocument(t, fmt.Sprint(times), withDigest(t, out), p)
		}
	}
}

// Merging the copies gives the plan back, but for what merging drops: channel masks.
func TestRepeatKVRoundTrip(t *testing.T) {
	old := withoutAttention()
	for l := range old.Layers {
		for g := range old.Layers[l].KVHeads {
			old.Layers[l].KVHeads[g].KChannelMask = ""
		}
	}
	pairs := func(n int) (groups [][]int) {
		for g := range n {
			groups = append(groups, []int{2 * g, 2*g + 1})
		}
		return groups
	}
	merged, err := old.MergeKV([][][]int{{{3, 1}, {2, 0}}, {{0, 1}, {2, 3}}, {{0, 1}, {2, 3}}, nil})
	if err != nil {
		t.Fatal(err)
	}
	withDigest(t, merged)
	for _, c := range []struct {
		what     string
		p        *Plan
		heads    int
		recorded bool
	}{{"a plan", old, 4, false}, {"a merged plan", merged, 2, true}} {
		out, err := c.p.RepeatKV([]int{2, 2, 2, 1})
		if err != nil {
			t.Fatal(err)
		}
		// A merged head has two entries, of which each copy takes the one that its query heads came with.
		if had, has := c.p.Model.Permutation, out.Model.Permutation; !reflect.DeepEqual(had, has) {
			t.Errorf("%s: permutation %v became %v", c.what, had, has)
		}
		back, err := withDigest(t, out).MergeKV([][][]int{pairs(c.heads), pairs(c.heads), pairs(c.heads), nil})
		if err != nil {
			t.Fatal(err)
		}
		withDigest(t, back)
		if !c.recorded {
			back.Model.Permutation = nil // merging records the copies
		}
		sameDocument(t, c.what, back, c.p)
	}
}

// Copies that do not divide the entries of a merged head have no index each.
func TestRepeatKVPermutation(t *testing.T) {
	merged, err := mapped().MergeKV([][][]int{{{0, 1, 2, 3}}, {{0, 1}, {2, 3}}, nil})
	if err != nil {
		t.Fatal(err)
	}
	withDigest(t, merged)
	for _, c := range []struct {
		times []int
		want  [][]int
	}{
		{[]int{2, 2, 1}, [][]int{{0, 1, 2, 3}, {0, 1, 2, 3}, {0, 1, 2, 3}}},
		{[]int{4, 2, 1}, [][]int{{0, 1, 2, 3}, {0, 1, 2, 3}, {0, 1, 2, 3}}},
		{[]int{8, 1, 1}, nil},
		{[]int{1, 1, 2}, nil},
	} {
		out, err := merged.RepeatKV(c.times)
		if err != nil {
			t.Fatal(err)
		}
		withDigest(t, out)
		if p := out.Model.Permutation; (p == nil) != (c.want == nil) || p != nil && !reflect.DeepEqual(p.KVHeads, c.want) {
			t.Errorf("%v: %v", c.times, p)
		}
	}
}

func TestRepeatKVErrors(t *testing.T) {
	p := withoutAttention()
	one := 1
	shared := withoutAttention()
	shared.Layers[1].Select, shared.Layers[2].ShareAttentionWith = "tokens", &one
	shared.Requires = shared.Needs()
	repeat := func(p *Plan, times ...int) error {
		_, err := p.RepeatKV(times)
		return err
	}
	for name, c := range map[string]struct {
		err  error
		want string
	}{
		"layers":       {repeat(p, 1, 1, 1), "copies of 3 layers for a model of 4"},
		"negative":     {repeat(p, 1, -1, 1, 1), "layer 1: each KV head -1 times"},
		"no division":  {repeat(p, 1, 1, 3, 1), "layer 2: 3 copies do not share out the 2 query heads"},
		"huge":         {repeat(p, 1<<62, 1, 1, 1), "do not share out"},
		"no attention": {repeat(p, 1, 1, 1, 2), "layer 3: each KV head 2 times, and it has none"},
		"shared":       {repeat(shared, 1, 2, 1, 1), "layer 2 shares the attention of layer 1"},
	} {
		if !errors.Is(c.err, ErrMapping) || !strings.Contains(c.err.Error(), c.want) {
			t.Errorf("%s: %v", name, c.err)
		}
	}
	if err := repeat(shared, 2, 2, 2, 1); err != nil {
		t.Error(err)
	}
	p.Fallback = "hope"
	if err := repeat(p, 1, 1, 1, 1); !errors.Is(err, ErrInvalid) {
		t.Error(err)
	}
}
