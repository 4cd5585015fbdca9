package manifest

import (
	"errors"
	"strings"
	"testing"
)

func TestResolve(t *testing.T) {
	p := small()
	p.Policies["s"] = Streaming(4, 60)
	p.Policies["vs"] = Policy{Kind: KindVerticalSlash, Vertical: 10, Slash: 20, LastQ: 64}
	p.Phases.Prefill.MinSeq = 100
	p.Layers = []Layer{{Layer: 1, Select: "none", KVHeads: []KVHead{{
		Head: 1, Prefill: "vs",
		Decode: Rules{{MaxLen: 500, Use: "full"}, {Use: "s"}},
		QHeads: map[string]QueryHead{"3": {Prefill: "full"}},
	}}}}
	p.Requires = p.Needs()
	if faults := p.Validate(); len(faults) > 0 {
		t.Fatal(faults)
	}
	for _, c := range []struct {
		layer, query int
		phase        Phase
		length       int
		want         string
	}{
		{0, 0, Decoding, 9000, "full"},
		{1, 0, Decoding, 9000, "full"},
		{1, 2, Decoding, 500, "full"},
		{1, 2, Decoding, 501, "s"},
		{1, 3, Decoding, 501, "s"},
		{1, 2, Prefill, 99, ""}, // under min_seq: dense, by no policy
		{1, 2, Prefill, 100, "vs"},
		{1, 3, Prefill, 100, "full"}, // its own
		{1, 1, Prefill, 100, "full"},
	} {
		pol, id := p.ResolveQuery(c.layer, c.query, c.phase, c.length)
		if id != c.want {
			t.Errorf("%+v: %q", c, id)
		}
		if id == "" && pol.Kind != KindFull {
			t.Errorf("%+v: kind %s", c, pol.Kind)
		}
	}
	defer func() {
		if recover() == nil {
			t.Error("a head outside of the model resolves")
		}
	}()
	p.Resolve(2, 0, Decoding, 1)
}

func TestUsable(t *testing.T) {
	p := small()
	if err := p.Stream([][]bool{{true, false}, {true, true}}, nil, nil, 4, 60); err != nil {
		t.Fatal(err)
	}
	p.Policies["unused"] = Policy{Kind: "from_the_future"}
	ok := Capabilities{Kinds: []string{KindFull, KindStreaming}, Features: []string{FeatureSinkTokens, FeaturePerKVHead}}
	if err := p.Usable(ok); err != nil {
		t.Error(err)
	}
	for name, c := range map[string]struct {
		change func(*Plan, *Capabilities)
		want   error
		names  string
	}{
		"kind":            {func(p *Plan, c *Capabilities) { c.Kinds = c.Kinds[:1] }, ErrUseDense, "streaming"},
		"feature":         {func(p *Plan, c *Capabilities) { c.Features = nil }, ErrUseDense, "sink_tokens"},
		"refuse":          {func(p *Plan, c *Capabilities) { c.Features = nil; p.Fallback = "refuse" }, ErrRefuse, "per_kv_head_window"},
		"unknown kind":    {func(p *Plan, c *Capabilities) { p.Layers[0].KVHeads[0].Prefill = "unused" }, ErrUseDense, "from_the_future"},
		"unknown feature": {func(p *Plan, c *Capabilities) { p.Requires = append(p.Requires, "time_travel") }, ErrUseDense, "time_travel"},
	} {
		p, caps := small(), ok
		if err := p.Stream([][]bool{{true, false}, {true, true}}, nil, nil, 4, 60); err != nil {
			t.Fatal(err)
		}
		p.Policies["unused"] = Policy{Kind: "from_the_future"}
		c.change(p, &caps)
		if err := p.Usable(caps); !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.names) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestCheckModel(t *testing.T) {
	p := small()
	m := p.Model
	if err := p.CheckModel(m.WeightsDigest, "", m.ConfigDigest); err != nil {
		t.Error(err)
	}
	for name, err := range map[string]error{
		"other weights": p.CheckModel(strings.Replace(m.WeightsDigest, "a", "b", 1), "", ""),
		"other config":  p.CheckModel(m.WeightsDigest, "", "sha256:"),
		"nothing":       p.CheckModel("", "", ""),
	} {
		if !errors.Is(err, ErrOtherModel) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestSpan(t *testing.T) {
	elastic := Policy{Kind: KindElastic, Alpha: -1024, Beta: 1, Sink: 64, Block: 64, Min: 128}
	for _, c := range []struct {
		p            Policy
		length, want int
	}{
		{Full(), 1000, 1000},
		{Streaming(16, 64), 1000, 80},
		{Streaming(16, 64), 50, 50},
		{elastic, 4096, 3072},
		{elastic, 1100, 128},
		{elastic, 100, 100},
		{Policy{Kind: KindElastic, Alpha: 10, Beta: 0.5, Block: 64, Min: 64}, 1000, 512}, // 510 in whole blocks
		{Policy{Kind: KindTokenTopK, Budget: 100, Window: 32}, 1000, 100},
		{Policy{Kind: KindTokenTopK, Selector: SelectAttention, Budget: 100, Window: 32}, 1000, 1000},
		{Policy{Kind: KindPower, Sink: 4, Block: 16, LocalBlocks: 2}, 1000, 1000},
		{Policy{Kind: KindSinkScaled, Threshold: 0.1}, 1000, 1000},
		{Policy{Kind: KindBlockTopK}, 1000, -1},
	} {
		if got := c.p.Span(c.length); got != c.want {
			t.Errorf("%+v at %d: %d, want %d", c.p, c.length, got, c.want)
		}
	}
}

// What a stride keeps in the cache, against a count token by token.
func TestStrideSpan(t *testing.T) {
	for _, p := range []Policy{
		{Kind: KindLocalStride, Block: 4, LocalBlocks: 2, VertStride: 3},
		{Kind: KindLocalStride, Block: 1, LocalBlocks: 1, VertStride: 1},
		{Kind: KindLocalStride, Block: 8, LocalBlocks: 3, VertStride: 2, Offset: 5},
	} {
		for length := range 200 {
			want := 0
			for j := range length {
				c, last := j/p.Block, (length-1)/p.Block
				if last-c < p.LocalBlocks || c >= p.Offset && (c-p.Offset)%p.VertStride == 0 {
					want++
				}
			}
			if got := p.Span(length); got != want {
				t.Fatalf("%+v keeps %d of %d, want %d", p, got, length, want)
			}
		}
	}
}

// A reader may know one selector of a kind and not another.
func TestUsableSelectors(t *testing.T) {
	p := small()
	p.Policies["m"] = Policy{Kind: KindBlockTopK, Block: 64, Selector: SelectMeanPool, Blocks: 8}
	p.Defaults.Prefill = "m"
	for kind, ok := range map[string]bool{KindBlockTopK: true, "block_topk:mean_pool": true, "block_topk:xattention": false} {
		if err := p.Usable(Capabilities{Kinds: []string{KindFull, kind}}); (err == nil) != ok {
			t.Errorf("%s: %v", kind, err)
		}
	}
}
