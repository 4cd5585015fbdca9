package nn

import (
	"strings"
	"testing"

	"modelpress/formats/manifest"
	"modelpress/internal/device/cpu"
	"modelpress/internal/testmodel"
)

// TestServeRefusals: what cannot be served is refused by name, before anything runs.
func TestServeRefusals(t *testing.T) {
	three := 3
	kinds := servedPolicies()
	for _, c := range []struct {
		family, want string
		edit         func(p *manifest.Plan, o *ServeOptions)
	}{
		{"llama-gqa", "layers", func(p *manifest.Plan, o *ServeOptions) { p.Model.Layers = 3 }},
		{"llama-gqa", "KV heads", func(p *manifest.Plan, o *ServeOptions) { p.Model.KVHeads, p.Layers = 4, nil }},
		{"llama-gqa", "no policy", func(p *manifest.Plan, o *ServeOptions) { p.Layers[0].KVHeads[0].Prefill = "nowhere" }},
		{"llama-gqa", "unknown kind", func(p *manifest.Plan, o *ServeOptions) { p.Policies["d"] = manifest.Policy{Kind: "psychic"} }},
		{"llama-gqa", "block", func(p *manifest.Plan, o *ServeOptions) {
			p.Policies["d"] = manifest.Policy{Kind: manifest.KindLocalStride}
		}},
		{"llama-gqa", "an earlier layer", func(p *manifest.Plan, o *ServeOptions) { p.Layers[0].ShareAttentionWith = &three }},
		{"llama-gqa", "how much", func(p *manifest.Plan, o *ServeOptions) { share(p, kinds["snapkv"], "tokens") }},
		{"llama-gqa", "digits", func(p *manifest.Plan, o *ServeOptions) { p.Layers[0].KVHeads[0].KChannelMask = "f" }},
		{"llama-gqa", "k_channel_mask", func(p *manifest.Plan, o *ServeOptions) { p.Layers[0].KVHeads[0].KChannelMask = "\x16f" }},
		{"llama-gqa", "together with", func(p *manifest.Plan, o *ServeOptions) {
			p.RopePositions, p.Policies["d"] = "within_cache", kinds["compensated"]
		}},
		{"gpt2", "learned", func(p *manifest.Plan, o *ServeOptions) { p.RopePositions = "within_cache" }},
		{"mistral-swa", "sliding window", func(p *manifest.Plan, o *ServeOptions) { p.Policies["p"] = kinds["compensated"] }},
		{"llama-gqa", "prompt of 9", func(p *manifest.Plan, o *ServeOptions) { o.Prompt = func(int) int { return 9 } }},
		{"llama-gqa", "at most 2 new", func(p *manifest.Plan, o *ServeOptions) { o.MaxNew = 2 }},
		{"llama-gqa", "chunk -1", func(p *manifest.Plan, o *ServeOptions) { o.Chunk = -1 }},
	} {
		m := describe(t, testmodel.Named(c.family), cpu.New(1))
		opt := ServeOptions{Plan: uniform(m, kinds["streaming"], kinds["streaming"]), Prompt: func(int) int { return 3 }}
		c.edit(opt.Plan, &opt)
		_, err := m.Serve(t.Context(), [][]int32{make([]int32, 8)}, opt, nil)
		if err == nil || !strings.HasPrefix(err.Error(), "nn: serve: ") || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", c.want, err)
		}
	}
}

// TestServeBytes: sizes against arithmetic, for bits, channels and pages.
func TestServeBytes(t *testing.T) {
	m := describe(t, testmodel.Named("llama-gqa"), cpu.New(2))
	p := uniform(m, manifest.Full(), manifest.Streaming(3, 6))
	p.Layers[0].KVHeads[0].KVBits = []int{4, 2}
	p.Layers[0].KVHeads[1].KChannelMask = strings.Repeat("8", m.Arch.Layers[0].K/4)
	p.Layers[1].KVHeads[0].KVBits = []int{8, 16}
	p.Phases.Decode = manifest.DecodePhase{Page: 4, Round: "up"}
	_, st := served(t, m, ServeOptions{Plan: p}, testmodel.Windows(1, 30, m.Arch.V, 1)[0], 20)
	k := int64(m.Arch.Layers[0].K)
	for l, want := range [][]int64{
		{12 * (k/2 + 4 + k/4 + 4), 12 * (k/4*2 + k*2)},
		{12 * (k + 4 + 2*k), 12 * 4 * k},
	} {
		for g, w := range want {
			if got := st.Windows[0].Layers[l]; got.KVBytes[g] != w || got.KVTokens[g] != 12 || got.DenseKVBytes != 32*4*k {
				t.Errorf("head %d.%d: %d bytes, want %d; %d tokens; dense %d", l, g, got.KVBytes[g], w, got.KVTokens[g], got.DenseKVBytes)
			}
		}
	}
	planned, dense, _ := uniformSizes(p).KVBytes(30, 2)
	total := st.Total()
	_, plain := served(t, m, ServeOptions{Plan: uniformSizes(p)}, testmodel.Windows(1, 30, m.Arch.V, 1)[0], 20)
	if got := plain.Total(); got.PeakKVBytes != planned || got.DenseKVBytes != dense || total.PeakKVTokens != 4*12 {
		t.Errorf("counted %d of %d bytes, the plan says %d of %d", got.PeakKVBytes, got.DenseKVBytes, planned, dense)
	}
}

// uniformSizes drops the hints of a plan.
func uniformSizes(p *manifest.Plan) *manifest.Plan {
	q := *p
	q.Layers = append([]manifest.Layer(nil), p.Layers...)
	for l := range q.Layers {
		q.Layers[l].KVHeads = append([]manifest.KVHead(nil), q.Layers[l].KVHeads...)
		for g := range q.Layers[l].KVHeads {
			q.Layers[l].KVHeads[g].KVBits, q.Layers[l].KVHeads[g].KChannelMask = nil, ""
		}
	}
	return &q
}
