package manifest

import (
	"errors"
	"reflect"
	"strings"
	"testing"
)

// mapped returns a plan over 3 layers of 4 KV heads and 8 query heads, with scores of each kind.
func mapped() *Plan {
	p := model(3, 8, 4)
	p.Policies["s"], p.Policies["w"] = Streaming(4, 60), Streaming(4, 252)
	p.Policies["vs"] = Policy{Kind: KindVerticalSlash, Vertical: 10, Slash: 20, LastQ: 64}
	p.Policies["bk"] = Policy{Kind: KindBlockTopK, Selector: SelectMeanPool, Block: 64, Blocks: 8}
	kv, query, layer := Evidence{Method: "duo", Unit: "gate"}, Evidence{Method: "wu", Unit: "share", Per: PerQHead}, Evidence{Method: "x", Unit: "y", Per: PerLayer}
	for l := range 3 {
		row := Layer{Layer: l, Select: "none"}
		var a, b []float64
		for g := range 4 {
			s := float64(l*4 + g)
			row.KVHeads = append(row.KVHeads, KVHead{Head: g, Decode: Always([]string{"full", "s", "w", "s"}[g]), Prefill: "full", Score: &s, KVBits: []int{8, 4 + g},
				KChannelMask: strings.Repeat("f", 32)})
			a = append(a, s)
			b = append(b, 2*s, 2*s+1)
		}
		p.Layers = append(p.Layers, row)
		kv.Scores, query.Scores, layer.Scores = append(kv.Scores, a), append(query.Scores, b), append(layer.Scores, []float64{float64(l)})
	}
	p.Layers[0].KVHeads[2].QHeads = map[string]QueryHead{"5": {Prefill: "vs"}}
	p.Layers[1].KVHeads[3].Decode = Rules{{MaxLen: 100, Use: "full"}, {Use: "s"}}
	p.Evidence = []Evidence{kv, query, layer}
	p.Quality = &Quality{Metrics: []Metric{{Name: "m"}}}
	p.Requires = append(p.Needs(), "time_travel")
	return p
}

func withDigest(t *testing.T, p *Plan) *Plan {
	t.Helper()
	if p.Model.WeightsDigest != "" || p.Model.HeadersDigest != "" || p.Model.ConfigDigest != "" || p.Quality != nil || p.Budget != nil {
		t.Error("digests, quality or budget of the old model are left")
	}
	if _, err := Encode(p); err == nil {
		t.Error("a plan without a digest can be written")
	}
	p.Model.WeightsDigest = small().Model.WeightsDigest
	mustEncode(t, p)
	return p
}

func TestMergeKV(t *testing.T) {
	old := mapped()
	before := mustEncode(t, old)
	p, err := old.MergeKV([][][]int{{{3, 1}, {2, 0}}, {{1, 3}, {0, 2}}, nil})
	if err != nil {
		t.Fatal(err)
	}
	withDigest(t, p)
	if string(mustEncode(t, old)) != string(before) {
		t.Error("the old plan changed")
	}
	if h, g := p.Counts(0); h != 8 || g != 2 || p.Model.KVHeads != 2 {
		t.Errorf("layer 0 has %d and %d heads", h, g)
	}
	if h, g := p.Counts(2); h != 8 || g != 4 {
		t.Errorf("layer 2 has %d and %d heads", h, g)
	}
	for _, c := range []struct {
		l, g, length int
		want         string
	}{
		{0, 0, 9999, "s"}, {0, 1, 9999, "full"}, {1, 0, 100, "full"}, {1, 0, 101, "s"}, {1, 1, 9999, "full"}, {2, 2, 9999, "w"},
	} {
		if _, id := p.Resolve(c.l, c.g, Decoding, c.length); id != c.want {
			t.Errorf("%+v: %s", c, id)
		}
	}
	// Query head 5 was the second of KV head 2, which is now the first of head 1: query heads 4 and 5.
	if _, id := p.ResolveQuery(0, 5, Prefill, 9); id != "vs" {
		t.Errorf("query head 5 prefills by %s: %+v", id, p.Layers[0].KVHeads[1])
	}
	for q := range 8 {
		if _, id := p.ResolveQuery(0, q, Prefill, 9); id != "full" && q != 5 {
			t.Errorf("query head %d prefills by %s", q, id)
		}
	}
	h := p.Layers[0].KVHeads[0]
	if *h.Score != 3 || h.KChannelMask != "" || !reflect.DeepEqual(h.KVBits, []int{8, 7}) || p.Layers[2].KVHeads[0].KChannelMask == "" {
		t.Errorf("%+v", h)
	}
	if want := [][]int{{3, 1, 2, 0}, {1, 3, 0, 2}, {0, 1, 2, 3}}; !reflect.DeepEqual(p.Model.Permutation.KVHeads, want) {
		t.Errorf("permutation %v", p.Model.Permutation.KVHeads)
	}
	if got := p.Evidence[0].Scores[0]; !reflect.DeepEqual(got, []float64{3, 2}) {
		t.Errorf("scores %v", got)
	}
	if got := p.Evidence[1].Scores[0]; !reflect.DeepEqual(got, []float64{6, 7, 2, 3, 4, 5, 0, 1}) {
		t.Errorf("scores of query heads %v", got)
	}
	if !contains(p.Requires, "time_travel") || !contains(p.Requires, FeaturePerLayerHeads) {
		t.Errorf("requires %v", p.Requires)
	}
	// A second merging speaks of the first model's heads.
	q, err := p.MergeKV([][][]int{{{1, 0}}, {{0, 1}}, {{3, 2, 1, 0}}})
	if err != nil {
		t.Fatal(err)
	}
	withDigest(t, q)
	if want := [][]int{{2, 0, 3, 1}, {1, 3, 0, 2}, {3, 2, 1, 0}}; !reflect.DeepEqual(q.Model.Permutation.KVHeads, want) {
		t.Errorf("permutation %v", q.Model.Permutation.KVHeads)
	}
	if _, id := q.ResolveQuery(0, 1, Prefill, 9); id != "vs" {
		t.Errorf("query head 1 prefills by %s", id)
	}
}

// Merging nothing, and pruning nothing, change nothing but the digests and what was measured.
func TestMappingIdentity(t *testing.T) {
	old := mapped()
	old.Quality = nil
	want := string(mustEncode(t, old))
	merged, err := old.MergeKV([][][]int{nil, nil, nil})
	if err != nil {
		t.Fatal(err)
	}
	pruned, err := old.Prune([]int{0, 1, 2}, [][]int{{0, 1, 2, 3}, nil, nil})
	if err != nil {
		t.Fatal(err)
	}
	for what, p := range map[string]*Plan{"merging": merged, "pruning": pruned} {
		p.Model.WeightsDigest, p.Model.HeadersDigest, p.Model.ConfigDigest = old.Model.WeightsDigest, old.Model.HeadersDigest, old.Model.ConfigDigest
		p.Requires = old.Requires
		if got := string(mustEncode(t, p)); got != want {
			t.Errorf("%s:\n%s\n%s", what, got, want)
		}
	}
}

// Kinds whose cache is known at run time only, or is everything, merge into full.
func TestMergeKinds(t *testing.T) {
	p := mapped()
	delete(p.Policies, "full")
	p.Policies["pw"] = Policy{Kind: KindPower, Block: 16, LocalBlocks: 2}
	p.Defaults = Defaults{Prefill: "s", Decode: "s"}
	p.Layers = []Layer{{Layer: 0, Select: "none", KVHeads: []KVHead{{Head: 0, Decode: Always("bk")}, {Head: 1, Decode: Always("pw")}, {Head: 2, Decode: Always("w")}}}}
	p.Quality, p.Evidence, p.Requires = nil, nil, p.Needs()
	out, err := p.MergeKV([][][]int{{{0, 3}, {1, 2}}, {{0, 1}, {2, 3}}, nil})
	if err != nil {
		t.Fatal(err)
	}
	for g := range 2 {
		if pol, _ := out.Resolve(0, g, Decoding, 9999); pol.Kind != KindFull {
			t.Errorf("head %d decodes by %s", g, pol.Kind)
		}
		if _, id := out.Resolve(1, g, Decoding, 9999); id != "s" {
			t.Errorf("layer 1 head %d decodes by %s", g, id)
		}
	}
}

func TestPrune(t *testing.T) {
	old := mapped()
	p, err := old.Prune([]int{0, 2}, [][]int{{1, 2}, {}})
	if err != nil {
		t.Fatal(err)
	}
	withDigest(t, p)
	if h, g := p.Counts(0); h != 4 || g != 2 || p.Model.Layers != 2 || p.Model.Heads != 4 {
		t.Errorf("layer 0 has %d and %d heads", h, g)
	}
	if h, g := p.Counts(1); h != 0 || g != 0 || *p.Layers[1].SourceLayer != 2 {
		t.Errorf("layer 1 has %d and %d heads, %+v", h, g, p.Layers[1])
	}
	if _, id := p.Resolve(0, 1, Decoding, 9999); id != "w" {
		t.Errorf("head 1 decodes by %s", id)
	}
	if _, id := p.ResolveQuery(0, 3, Prefill, 9999); id != "vs" {
		t.Errorf("query head 3 prefills by %s", id)
	}
	if !reflect.DeepEqual(p.Model.Permutation.KVHeads, [][]int{{1, 2}, {}}) {
		t.Errorf("permutation %v", p.Model.Permutation.KVHeads)
	}
	if e := p.Evidence; !reflect.DeepEqual(e[0].Scores, [][]float64{{1, 2}, {}}) || !reflect.DeepEqual(e[1].Scores[0], []float64{2, 3, 4, 5}) ||
		!reflect.DeepEqual(e[2].Scores, [][]float64{{0}, {2}}) {
		t.Errorf("evidence %v", e)
	}
	if h := p.Layers[0].KVHeads[0]; h.KChannelMask == "" || *h.Score != 1 {
		t.Errorf("%+v", h)
	}
	// Pruned twice, layers and heads are those of the first model.
	q, err := old.Prune([]int{1, 2}, [][]int{{0, 2, 3}, nil})
	if err != nil {
		t.Fatal(err)
	}
	q, err = withDigest(t, q).Prune([]int{1, 0}[1:], [][]int{{1, 2}})
	if err != nil {
		t.Fatal(err)
	}
	if *q.Layers[0].SourceLayer != 1 || !reflect.DeepEqual(q.Model.Permutation.KVHeads, [][]int{{2, 3}}) {
		t.Errorf("%+v, %+v", q.Layers[0], q.Model.Permutation)
	}
}

func TestPruneShared(t *testing.T) {
	p := mapped()
	zero := 0
	p.Layers[0].Select, p.Layers[2].ShareAttentionWith = "tokens", &zero
	p.Requires = p.Needs()
	out, err := p.Prune([]int{0, 2}, nil)
	if err != nil || *out.Layers[1].ShareAttentionWith != 0 {
		t.Errorf("%v", err)
	}
	one := 1
	p.Layers[1].Select, p.Layers[2].ShareAttentionWith = "tokens", &one
	if out, err = p.Prune([]int{1, 2}, nil); err != nil || *out.Layers[1].ShareAttentionWith != 0 {
		t.Errorf("%v", err)
	}
	for name, err := range map[string]error{
		"dropped":     prune(p, []int{0, 2}, nil),
		"other heads": prune(p, []int{1, 2}, [][]int{{0, 1}, {0, 2}}),
	} {
		if !errors.Is(err, ErrMapping) || !strings.Contains(err.Error(), "layer 2 shares the attention of layer 1") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := prune(p, []int{1, 2}, [][]int{{0, 3}, {0, 3}}); err != nil {
		t.Error(err)
	}
}

func prune(p *Plan, layers []int, heads [][]int) error {
	_, err := p.Prune(layers, heads)
	return err
}

func TestMappingErrors(t *testing.T) {
	p := mapped()
	merge := func(groups ...[][]int) error {
		_, err := p.MergeKV(groups)
		return err
	}
	for name, err := range map[string]error{
		"layers":            merge(nil, nil),
		"sizes":             merge([][]int{{0, 1, 2}, {3}}, nil, nil),
		"twice":             merge([][]int{{0, 1}, {1, 3}}, nil, nil),
		"missing":           merge([][]int{{0, 1}}, nil, nil),
		"outside":           merge([][]int{{0, 1}, {2, 4}}, nil, nil),
		"empty":             merge([][]int{{}, {}}, nil, nil),
		"no layer":          prune(p, nil, nil),
		"descending":        prune(p, []int{1, 0}, nil),
		"outside, layer":    prune(p, []int{3}, nil),
		"heads of layers":   prune(p, []int{0, 1}, [][]int{nil}),
		"heads twice":       prune(p, []int{0}, [][]int{{1, 1}}),
		"outside, heads":    prune(p, []int{0}, [][]int{{4}}),
		"negative":          prune(p, []int{0}, [][]int{{-1}}),
		"nothing is left":   prune(p, []int{0, 1}, [][]int{{}, {}}),
		"a layer, negative": prune(p, []int{-1}, nil),
	} {
		if !errors.Is(err, ErrMapping) {
			t.Errorf("%s: %v", name, err)
		}
	}
	p.Fallback = "hope"
	if err := merge(nil, nil, nil); !errors.Is(err, ErrInvalid) {
		t.Error(err)
	}
}

// TestMergeShared: a layer can go on taking another's choice of tokens only where both have the same groups.
func TestMergeShared(t *testing.T) {
	p := mapped()
	one := 1
	p.Layers[1].Select, p.Layers[2].ShareAttentionWith = "tokens", &one
	p.Requires = p.Needs()
	_, g := p.Counts(1)
	if _, h := p.Counts(2); h != g || g%2 != 0 || g < 4 {
		t.Fatalf("layers of %d and %d KV heads", g, h)
	}
	var near, far [][]int // neighbours, and heads half of the layer apart
	for i := range g / 2 {
		near = append(near, []int{2 * i, 2*i + 1})
		far = append(far, []int{i, i + g/2})
	}
	groups := make([][][]int, p.Model.Layers)
	groups[1], groups[2] = far, far
	if out, err := p.MergeKV(groups); err != nil || *out.Layers[2].ShareAttentionWith != 1 {
		t.Errorf("the same groups: %v", err)
	}
	for name, row := range map[string][][]int{"others": near, "none": nil} {
		groups[2] = row
		if _, err := p.MergeKV(groups); !errors.Is(err, ErrMapping) || !strings.Contains(err.Error(), "layer 2 shares the attention of layer 1") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
