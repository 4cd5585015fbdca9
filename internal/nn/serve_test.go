package nn

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"modelpress/formats/manifest"
	"modelpress/internal/device"
	"modelpress/internal/device/cpu"
	"modelpress/internal/testmodel"
)

// draft returns a plan for a model under which everything is full, with an entry for every head.
func draft(m *Model) *manifest.Plan {
	first := m.Arch.Layers[0]
	p := manifest.New(manifest.Model{Architecture: m.Arch.Architecture, Layers: len(m.Arch.Layers), Heads: first.H, KVHeads: first.G,
		HeadDim: first.K, MaxPosition: m.Arch.MaxPosition}, manifest.Producer{Name: "test"})
	p.Phases.Prefill.FirstChunk = "policy"
	for l, a := range m.Arch.Layers {
		e := manifest.Layer{Layer: l, Select: "none", KVHeads: []manifest.KVHead{}, NoAttention: !a.HasAttention()}
		if a.HasAttention() && (a.H != first.H || a.G != first.G) {
			e.Heads, e.KVHeadCount = a.H, a.G
		}
		for g := 0; a.HasAttention() && g < a.G; g++ {
			e.KVHeads = append(e.KVHeads, manifest.KVHead{Head: g, Decode: manifest.Always("full"), Prefill: "full"})
		}
		p.Layers = append(p.Layers, e)
	}
	return p
}

// uniform returns a draft whose heads all have these policies.
func uniform(m *Model, prefill, decode manifest.Policy) *manifest.Plan {
	p := draft(m)
	p.Policies["p"], p.Policies["d"] = prefill, decode
	p.Defaults = manifest.Defaults{Prefill: "p", Decode: "d"}
	for l := range p.Layers {
		for g := range p.Layers[l].KVHeads {
			p.Layers[l].KVHeads[g].Prefill, p.Layers[l].KVHeads[g].Decode = "p", manifest.Always("d")
		}
	}
	return p
}

// servedPolicies are small settings of every kind, by a name.
func servedPolicies() map[string]manifest.Policy {
	return map[string]manifest.Policy{
		"full":         manifest.Full(),
		"streaming":    manifest.Streaming(3, 7),
		"compensated":  {Kind: manifest.KindStreaming, Sink: 2, Recent: 9, Compensation: true},
		"elastic":      {Kind: manifest.KindElastic, Alpha: -2, Beta: 0.4, Sink: 3, Block: 4, Min: 5, Length: "prompt_plus_max_new"},
		"vertical":     {Kind: manifest.KindVerticalSlash, Vertical: 5, Slash: 6, LastQ: 8, ForceVertical: 1, ForceSlash: 2},
		"xattention":   {Kind: manifest.KindBlockTopK, Selector: "xattention", Block: 8, Stride: 4, Threshold: 0.7},
		"xattention-3": {Kind: manifest.KindBlockTopK, Selector: "xattention", Block: 8, Stride: 3, Threshold: 0.6},
		"mean_pool":    {Kind: manifest.KindBlockTopK, Selector: "mean_pool", Block: 6, Blocks: 3},
		"snapkv":       {Kind: manifest.KindTokenTopK, Selector: "snapkv", Budget: 14, Window: 4, Pool: 3},
		"attention":    {Kind: manifest.KindTokenTopK, Selector: "attention", Budget: 9, Window: 2},
		"local_stride": {Kind: manifest.KindLocalStride, Block: 5, LocalBlocks: 2, VertStride: 3, Offset: 1},
		"power":        {Kind: manifest.KindPower, Sink: 2, Block: 3, LocalBlocks: 2},
		"sink_scaled":  {Kind: manifest.KindSinkScaled, Skip: 1, Threshold: 0.06, Scale: 0.4},
	}
}

// serveAgainstOracle serves one window and compares every layer's attention and counts with the oracle's on the same
// queries, keys and values.
func serveAgainstOracle(t *testing.T, m *Model, opt ServeOptions, total, prompt int) *ServeStats {
	t.Helper()
	ids := testmodel.Windows(1, total, m.Arch.V, 21)
	opt.Prompt = func(int) int { return prompt }
	s, err := NewServer(m, ids, opt)
	if err != nil {
		t.Fatal(err)
	}
	oracles := map[int]*serveOracle{}
	chosen := map[[3]int][]bool{}
	check := func(l int) func(a *AttnState) error {
		return func(a *AttnState) error {
			a.Read(AllHeads | Outputs)
			o := &serveOracle{t: t, m: m, plan: opt.Plan, prompt: prompt, total: total, chunk: opt.Chunk, layer: l, q: wide64(a.Q), k: wide64(a.K),
				v: wide64(a.V), h: a.Shape.H, g: a.Shape.G, dim: a.Shape.K, scale: float64(a.Shape.Scale), chosen: chosen}
			oracles[l] = o
			want := make([]float64, len(a.Out))
			write := func(h, i int, out []float64) { copy(want[(i*o.h+h)*o.dim:], out) }
			for h := range o.h {
				for i := range prompt {
					write(h, i, o.prefill(h, i))
				}
			}
			for g := range o.g {
				o.decode(g, write)
			}
			if d := far(t, a.Out, want); d > 2e-5 {
				return fmt.Errorf("layer %d differs by up to %g", l, d)
			}
			return nil
		}
	}
	pass := func(l, w int) *Pass {
		p := s.Pass(l, w)
		if p == nil {
			p = &Pass{}
		}
		var failed error
		if do := p.Attend; do != nil {
			p.Attend = func(a *AttnState) error {
				if err := do(a); err != nil {
					return err
				}
				return check(l)(a)
			}
			return p
		}
		p.TapAttn = func(a *AttnState) {
			if failed = check(l)(a); failed != nil {
				t.Error(failed)
			}
		}
		return p
	}
	if err := m.Run(t.Context(), ids, RunOptions{Pass: pass}, nil); err != nil {
		t.Fatal(err)
	}
	st := s.Stats()
	for l, o := range oracles {
		got := st.Windows[0].Layers[l]
		if got.Prefill.Attended != o.prefillPairs || got.Decode.Attended != o.decodePairs {
			t.Errorf("layer %d: %d pairs in prefill and %d in decode, want %d and %d", l, got.Prefill.Attended, got.Decode.Attended, o.prefillPairs, o.decodePairs)
		}
		for g, held := range o.held {
			if most := slices.Max(held); got.KVTokens[g] != most {
				t.Errorf("layer %d, KV head %d: %d tokens held, want %d", l, g, got.KVTokens[g], most)
			}
		}
	}
	return st
}

var servedFamilies = []string{"llama-gqa", "mistral-swa", "qwen3", "gpt2", "llama-pruned"}

// TestServeEveryKind compares every kind in both phases with float64 loops, over families, prompts and chunks.
func TestServeEveryKind(t *testing.T) {
	for _, family := range servedFamilies {
		m := describe(t, testmodel.Named(family), cpu.New(2))
		for name, pol := range servedPolicies() {
			if family == "mistral-swa" && pol.Compensation {
				continue
			}
			for _, c := range []struct{ total, prompt, chunk int }{{43, 43, 0}, {43, 30, 0}, {43, 30, 7}, {30, 17, 1}, {43, 30, 64}, {23, 0, 0}} {
				for _, mask := range []string{"exact", "chunk"} {
					for _, first := range []string{"policy", "dense"} {
						if c.chunk == 0 && mask == "chunk" || c.chunk == 1 && first == "dense" {
							continue
						}
						plan := uniform(m, pol, pol)
						plan.Phases.Prefill.FirstChunk, plan.Phases.Prefill.ChunkMask = first, mask
						t.Run(fmt.Sprintf("%s/%s/%d-%d-%d-%s-%s", family, name, c.total, c.prompt, c.chunk, mask, first), func(t *testing.T) {
							serveAgainstOracle(t, m, ServeOptions{Plan: plan, Chunk: c.chunk}, c.total, c.prompt)
						})
					}
				}
			}
		}
	}
}

// TestServeFeatures: hints, pages, renumbered positions, overrides per query head and shared selections.
func TestServeFeatures(t *testing.T) {
	for _, family := range []string{"llama-gqa", "llama-rope-yarn", "llama-rope-dynamic", "mistral-swa", "gpt2"} {
		m := describe(t, testmodel.Named(family), cpu.New(2))
		kinds := servedPolicies()
		a := m.Arch.Layers[0]
		for name, edit := range map[string]func(p *manifest.Plan){
			"pages": func(p *manifest.Plan) { p.Phases.Decode = manifest.DecodePhase{Page: 8, Round: "up"} },
			"bits": func(p *manifest.Plan) {
				p.Layers[0].KVHeads[0].KVBits = []int{4, 3}
				p.Layers[1].KVHeads[1].KVBits = []int{8, 16}
			},
			"channels": func(p *manifest.Plan) {
				p.Layers[1].KVHeads[0].KChannelMask = strings.Repeat("d", a.K/4)
			},
			"queries": func(p *manifest.Plan) {
				p.Policies["v"], p.Policies["x"] = kinds["vertical"], kinds["xattention"]
				p.Layers[1].KVHeads[0].QHeads = map[string]manifest.QueryHead{"0": {Prefill: "v"}}
				p.Layers[0].KVHeads[1].QHeads = map[string]manifest.QueryHead{fmt.Sprint(a.H/a.G + a.H/a.G - 1): {Prefill: "x"}}
			},
			"rules": func(p *manifest.Plan) {
				p.Policies["long"] = manifest.Streaming(1, 4)
				p.Layers[0].KVHeads[0].Decode = manifest.Rules{{MaxLen: 20, Use: "full"}, {Use: "long"}}
				p.Phases.Prefill.MinSeq = 31
			},
			"within cache": func(p *manifest.Plan) { p.RopePositions = "within_cache" },
			"within cache, votes": func(p *manifest.Plan) {
				p.RopePositions = "within_cache"
				p.Policies["d"] = kinds["snapkv"]
			},
			"tokens shared": func(p *manifest.Plan) { share(p, kinds["attention"], "tokens") },
			"blocks shared": func(p *manifest.Plan) { share(p, kinds["mean_pool"], "blocks") },
			"source's share": func(p *manifest.Plan) {
				share(p, manifest.Full(), "tokens")
				p.Policies["d"] = kinds["attention"]
			},
		} {
			if family == "gpt2" && strings.HasPrefix(name, "within") {
				continue
			}
			t.Run(family+"/"+name, func(t *testing.T) {
				plan := uniform(m, kinds["streaming"], kinds["streaming"])
				edit(plan)
				for _, c := range []int{0, 7} {
					serveAgainstOracle(t, m, ServeOptions{Plan: plan, Chunk: c}, 43, 30)
				}
			})
		}
	}
}

// TestServeLong: caches that drop far more than they hold, whose rows move.
func TestServeLong(t *testing.T) {
	for _, family := range []string{"llama-gqa", "mistral-swa"} {
		m := describe(t, testmodel.Named(family), cpu.New(2))
		for name, pol := range servedPolicies() {
			if family == "mistral-swa" && pol.Compensation {
				continue
			}
			for _, positions := range []string{"absolute", "within_cache"} {
				if positions != "absolute" && (pol.Compensation || name != "streaming" && name != "snapkv") {
					continue
				}
				t.Run(family+"/"+name+"/"+positions, func(t *testing.T) {
					plan := uniform(m, manifest.Full(), pol)
					plan.RopePositions = positions
					serveAgainstOracle(t, m, ServeOptions{Plan: plan}, 230, 40)
				})
			}
		}
	}
}

// TestServeWindows: windows served together give what each gives alone, also where layers share selections.
func TestServeWindows(t *testing.T) {
	m := describe(t, testmodel.Named("llama-gqa"), cpu.New(2))
	kinds := servedPolicies()
	shared := uniform(m, kinds["vertical"], manifest.Full())
	share(shared, kinds["attention"], "tokens")
	for name, plan := range map[string]*manifest.Plan{"streaming": uniform(m, kinds["streaming"], kinds["streaming"]), "shared": shared} {
		windows := [][]int32{testmodel.Windows(1, 30, m.Arch.V, 1)[0], testmodel.Windows(1, 50, m.Arch.V, 2)[0], testmodel.Windows(1, 9, m.Arch.V, 3)[0]}
		prompts := []int{20, 50, 0}
		var got [][]float32
		opt := ServeOptions{Plan: plan, Chunk: 8, Prompt: func(w int) int { return prompts[w] }}
		all, err := m.Serve(t.Context(), windows, opt, func(_ int, h []float32) error {
			got = append(got, slices.Clone(h))
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		var bytes int64
		for w := range windows {
			want, st := served(t, m, ServeOptions{Plan: plan, Chunk: 8}, windows[w], prompts[w])
			if maxDiff(t, got[w], want) != 0 || fmt.Sprint(st.Windows[0]) != fmt.Sprint(all.Windows[w]) {
				t.Errorf("%s, window %d: differs by %g; counts %+v and %+v", name, w, maxDiff(t, got[w], want), all.Windows[w], st.Windows[0])
			}
			bytes += st.Windows[0].PeakKVBytes
		}
		if total := all.Total(); total.PeakKVBytes != bytes || total.Tokens != 89 || total.Prompt != 70 {
			t.Errorf("%s: totals %+v", name, total)
		}
	}
}

// TestServeMaxNew: rules and spans are resolved at the length that may be reached, not at the one that is.
func TestServeMaxNew(t *testing.T) {
	m := describe(t, testmodel.Named("qwen3"), cpu.New(2))
	ids := testmodel.Windows(1, 44, m.Arch.V, 6)[0]
	elastic := uniform(m, manifest.Full(), manifest.Policy{Kind: manifest.KindElastic, Beta: 0.25, Sink: 4, Block: 4, Min: 4, Length: "prompt_plus_max_new"})
	for maxNew, recent := range map[int]int{0: 8, 14: 8, 34: 12} { // spans of 11, 11 and 16 tokens, in blocks of 4
		want, a := served(t, m, ServeOptions{Plan: uniform(m, manifest.Full(), manifest.Streaming(4, recent))}, ids, 30)
		got, b := served(t, m, ServeOptions{Plan: elastic, MaxNew: maxNew}, ids, 30)
		if maxDiff(t, got, want) != 0 || fmt.Sprint(a) != fmt.Sprint(b) {
			t.Errorf("%d new tokens: differs by %g", maxNew, maxDiff(t, got, want))
		}
	}
}

// TestServeWithoutPrompt: decoding every token under a streaming plan is attention under its mask.
func TestServeWithoutPrompt(t *testing.T) {
	m := describe(t, testmodel.Named("llama-bias"), cpu.New(2))
	ids := testmodel.Windows(1, 200, m.Arch.V, 8)[0]
	want := plainRun(t, m, ids, func(int) []device.Mask { return slices.Repeat([]device.Mask{{Sink: 2, Recent: 11}}, 4) })
	plan := uniform(m, manifest.Full(), manifest.Streaming(2, 11))
	for _, stepwise := range []bool{false, true} {
		got, st := served(t, m, ServeOptions{Plan: plan, stepwise: stepwise}, ids, 0)
		if d := maxDiff(t, got, want); d > 2e-5 || st.Total().PeakKVTokens != int64(2*4*13) {
			t.Errorf("stepwise %t: differs by %g, %d tokens held", stepwise, d, st.Total().PeakKVTokens)
		}
	}
}

// share lets layer 0 select for layer 1.
func share(p *manifest.Plan, pol manifest.Policy, what string) {
	p.Policies["d"] = manifest.Full()
	p.Policies["shared"] = pol
	zero := 0
	p.Layers[0].Select, p.Layers[1].ShareAttentionWith = what, &zero
	for g := range p.Layers[1].KVHeads {
		p.Layers[1].KVHeads[g].Decode = manifest.Always("shared")
	}
}

// served returns the final states and counts of one window.
func served(t *testing.T, m *Model, opt ServeOptions, ids []int32, prompt int) ([]float32, *ServeStats) {
	t.Helper()
	opt.Prompt = func(int) int { return prompt }
	var out []float32
	st, err := m.Serve(t.Context(), [][]int32{ids}, opt, func(_ int, hidden []float32) error {
		out = slices.Clone(hidden)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out, st
}

func plainRun(t *testing.T, m *Model, ids []int32, masks func(int) []device.Mask) []float32 {
	t.Helper()
	var out []float32
	err := m.Run(t.Context(), [][]int32{ids}, RunOptions{Masks: masks}, func(_ int, hidden []float32) error {
		out = slices.Clone(hidden)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestServeIdentity: a full plan gives the bits of the plain model, and every kind with a setting that hides nothing its
// values, also where each token goes through the cache.
func TestServeIdentity(t *testing.T) {
	const total = 40
	for _, family := range servedFamilies {
		m := describe(t, testmodel.Named(family), cpu.New(2))
		ids := testmodel.Windows(1, total, m.Arch.V, 3)[0]
		want := plainRun(t, m, ids, nil)
		for name, pol := range map[string]manifest.Policy{
			"full":         manifest.Full(),
			"streaming":    manifest.Streaming(8, total-8),
			"compensated":  {Kind: manifest.KindStreaming, Sink: 4, Recent: total, Compensation: true},
			"elastic":      {Kind: manifest.KindElastic, Beta: 1, Sink: 4, Block: 8, Min: 8, Length: "prompt_plus_max_new"},
			"vertical":     {Kind: manifest.KindVerticalSlash, Vertical: total, LastQ: 8},
			"slash":        {Kind: manifest.KindVerticalSlash, Slash: total, LastQ: 8},
			"xattention":   {Kind: manifest.KindBlockTopK, Selector: "xattention", Block: 8, Stride: 4, Threshold: 1},
			"mean_pool":    {Kind: manifest.KindBlockTopK, Selector: "mean_pool", Block: 8, Blocks: 5},
			"snapkv":       {Kind: manifest.KindTokenTopK, Selector: "snapkv", Budget: total, Window: 4},
			"attention":    {Kind: manifest.KindTokenTopK, Selector: "attention", Budget: total, Window: 1},
			"local_stride": {Kind: manifest.KindLocalStride, Block: 5, LocalBlocks: 1, VertStride: 1},
			"power":        {Kind: manifest.KindPower, Block: 5, LocalBlocks: 8},
			"sink_scaled":  {Kind: manifest.KindSinkScaled, Threshold: 0.01, Scale: 1},
		} {
			plan := uniform(m, pol, pol)
			for _, prompt := range []int{0, 25, total} {
				got, st := served(t, m, ServeOptions{Plan: plan}, ids, prompt)
				if d := maxDiff(t, got, want); d != 0 {
					t.Errorf("%s, %s, prompt of %d: differs by %g", family, name, prompt, d)
				}
				dense := st.Total()
				if dense.Prefill.Density() != 1 || dense.Decode.Density() != 1 || dense.KVDensity() != 1 {
					t.Errorf("%s, %s, prompt of %d: densities %g, %g, %g", family, name, prompt, dense.Prefill.Density(), dense.Decode.Density(), dense.KVDensity())
				}
				if family == "mistral-swa" && pol.Compensation {
					continue
				}
				slow, st2 := served(t, m, ServeOptions{Plan: plan, stepwise: true}, ids, prompt)
				if d := maxDiff(t, slow, want); d > 2e-5 {
					t.Errorf("%s, %s, prompt of %d, stepwise: differs by %g", family, name, prompt, d)
				}
				if a, b := st2.Total(), dense; a.Decode != b.Decode || a.Prefill != b.Prefill || a.PeakKVBytes != b.PeakKVBytes {
					t.Errorf("%s, %s, prompt of %d, stepwise: %+v, want %+v", family, name, prompt, a, b)
				}
			}
		}
		if got, _ := served(t, m, ServeOptions{}, ids, 9); maxDiff(t, got, want) != 0 {
			t.Errorf("%s: without a plan it differs", family)
		}
	}
}

// TestServeFastPath: what one call of attention under masks gives and what is counted for it are those of chunks and
// caches, and the masks are those of the plan.
func TestServeFastPath(t *testing.T) {
	for _, family := range servedFamilies {
		m := describe(t, testmodel.Named(family), cpu.New(2))
		ids := testmodel.Windows(1, 61, m.Arch.V, 4)[0]
		plan := uniform(m, manifest.Streaming(3, 6), manifest.Streaming(3, 6))
		plan.Policies["full"] = manifest.Full()
		for l := range plan.Layers {
			if len(plan.Layers[l].KVHeads) > 1 { // heads of one layer under different masks
				plan.Layers[l].KVHeads[1].Prefill, plan.Layers[l].KVHeads[1].Decode = "full", manifest.Always("full")
			}
		}
		masks := func(l int) []device.Mask {
			a := m.Arch.Layers[l]
			out := make([]device.Mask, a.G)
			for g := range out {
				if out[g] = (device.Mask{Sink: 3, Recent: 6}); g == 1 {
					out[g] = device.Mask{Recent: a.Window}
				}
			}
			return out
		}
		want := plainRun(t, m, ids, masks)
		for _, prompt := range []int{0, 1, 5, 40, 61} {
			for _, chunk := range []int{0, 1, 7, 64} {
				fast, a := served(t, m, ServeOptions{Plan: plan, Chunk: chunk}, ids, prompt)
				slow, b := served(t, m, ServeOptions{Plan: plan, Chunk: chunk, stepwise: true}, ids, prompt)
				if maxDiff(t, fast, want) != 0 || maxDiff(t, slow, want) > 2e-5 {
					t.Errorf("%s, prompt %d, chunk %d: masks differ by %g, caches by %g", family, prompt, chunk, maxDiff(t, fast, want), maxDiff(t, slow, want))
				}
				if fmt.Sprint(a) != fmt.Sprint(b) {
					t.Errorf("%s, prompt %d, chunk %d: counts\n%+v\n%+v", family, prompt, chunk, a, b)
				}
			}
		}
	}
}

// TestServeThreads: results and counts do not depend on threads or on whether the host sees the device's memory.
func TestServeThreads(t *testing.T) {
	for name, pol := range servedPolicies() {
		var first []float32
		var counts string
		for _, dev := range []device.Device{cpu.New(1), cpu.New(3), remote{cpu.New(2)}} {
			m := describe(t, testmodel.Named("llama-gqa"), dev)
			got, st := served(t, m, ServeOptions{Plan: uniform(m, pol, pol), Chunk: 9}, testmodel.Windows(1, 50, m.Arch.V, 5)[0], 37)
			if first == nil {
				first, counts = got, fmt.Sprint(st)
			}
			if maxDiff(t, got, first) != 0 || fmt.Sprint(st) != counts {
				t.Errorf("%s: differs by %g", name, maxDiff(t, got, first))
			}
		}
	}
}
