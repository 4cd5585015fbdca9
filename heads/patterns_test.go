package heads

import (
	"context"
	"encoding/json"
	"math"
	"slices"
	"strings"
	"testing"

	"modelpress/calib"
	"modelpress/formats/manifest"
	"modelpress/internal/arch"
	"modelpress/internal/device"
	"modelpress/internal/nn"
	"modelpress/internal/testmodel"
)

// TestPatternsOfStructuredHeads: heads made to look near, at columns and at blocks get the A-shape, vertical_slash and
// block_topk, at equal work.
func TestPatternsOfStructuredHeads(t *testing.T) {
	const tokens = 256
	r := structured(tokens)
	opt := MInferenceOptions{Sink: 4, Recent: 60, LastQ: 16, Block: 16}
	for h, want := range []string{manifest.KindStreaming, manifest.KindVerticalSlash, manifest.KindBlockTopK} {
		head := r.head(h)
		ranked := nn.RankVerticalSlash(nn.Estimate(head, 0, tokens, opt.LastQ))
		dense := matrix(r.AttnState, h, device.Mask{})
		best, least := "", math.Inf(1)
		for _, c := range opt.candidates(tokens, ranked) {
			seen := seenUnder(c.policy, r, h, dense)
			if n := pairsOf(seen); n != c.pairs || n > maskPairs(tokens, 4, 60) || float64(n) < 0.8*float64(maskPairs(tokens, 4, 60)) {
				t.Errorf("head %d, %s: %d pairs, counted %d, A-shape %d", h, policyID(c.policy), n, c.pairs, maskPairs(tokens, 4, 60))
			}
			got := r.patternLoss(h, sampleRows(tokens, 16, 0, 0), opt.pattern(c, head, ranked))
			slow := slowPatternLoss(r, h, dense, seen)
			if !near(got.relative(), slow.relative(), 2e-5) || !near(got.retained(), slow.retained(), 2e-5) {
				t.Errorf("head %d, %s: error %g and mass %g, want %g and %g", h, policyID(c.policy), got.relative(), got.retained(), slow.relative(), slow.retained())
			}
			if v := Round(got.relative()); v < least {
				best, least = c.policy.Kind, v
			}
		}
		if best != want {
			t.Errorf("head %d gets %s with an error of %g, want %s", h, best, least, want)
		}
	}
}

// patternWindows are windows of different lengths, the longest not first.
func patternWindows(m *nn.Model) calib.Windows {
	return calib.NewWindows([][]int32{testmodel.Windows(1, 48, m.Arch.V, 2)[0], testmodel.Windows(1, 96, m.Arch.V, 3)[0]})
}

// eachHead runs the dense model and calls f for every query head of layers without a window.
func eachHead(t *testing.T, m *nn.Model, windows [][]int32, f func(layer, window, h int, r rows, dense [][]float64)) {
	t.Helper()
	err := (Options{}).observe(context.Background(), m, windows, func(layer, window int, r rows) {
		r.Read(everything)
		for h := 0; h < r.Shape.H && r.window == 0; h++ {
			f(layer, window, h, r, matrix(r.AttnState, h, device.Mask{}))
		}
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
}

// slowTotals sums the slow loss of every head's chosen policy over windows.
func slowTotals(t *testing.T, m *nn.Model, windows [][]int32, policy func(l, h int) manifest.Policy) [][]patternLoss {
	out := make([][]patternLoss, len(m.Arch.Layers))
	for l, a := range m.Arch.Layers {
		out[l] = make([]patternLoss, a.H)
	}
	eachHead(t, m, windows, func(l, _, h int, r rows, dense [][]float64) {
		out[l][h].add(slowPatternLoss(r, h, dense, seenUnder(policy(l, h), r, h, dense)))
	})
	return out
}

var patternFamilies = []string{"llama-gqa", "qwen3", "gpt2", "llama-pruned", "mistral-swa"}

// servesAs checks that a runtime that follows the plan attends in prefill to the pairs that the planner counted.
func servesAs(t *testing.T, m *nn.Model, p *manifest.Plan, ids []int32, chosen *Patterns) {
	t.Helper()
	for _, f := range p.Validate() {
		if !strings.HasPrefix(f.Path, "model") {
			t.Errorf("plan: %s", f)
		}
	}
	st, err := m.Serve(context.Background(), [][]int32{ids}, nn.ServeOptions{Plan: p}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for l, a := range m.Arch.Layers {
		got, want := st.Windows[0].Layers[l].Prefill, 0.0
		for h := range a.H {
			want += chosen.Work[l][h] * float64(got.Dense) / float64(a.H)
		}
		tolerance := 0.01
		if l > 0 { // what is chosen by scores depends on the layers before
			tolerance = 0.03 * want
		}
		if math.Abs(float64(got.Attended)-want) > tolerance {
			t.Errorf("layer %d: %d pairs served, planned %g", l, got.Attended, want)
		}
	}
}

// TestMInferenceAgainstTheMatrix: errors and masses are those of whole float64 matrices, no other candidate is better, and
// the plan is served at the work that was counted.
func TestMInferenceAgainstTheMatrix(t *testing.T) {
	for _, name := range patternFamilies {
		m := open(t, testmodel.Named(name))
		w, p := patternWindows(m), Draft(m.Arch)
		opt := MInferenceOptions{Sink: 2, Recent: 18, LastQ: 12, Block: 8}
		got, err := MInference(context.Background(), m, w, p, opt)
		if err != nil {
			t.Fatal(err)
		}
		slow := slowTotals(t, m, w.IDs, func(l, h int) manifest.Policy { return got.Policy[l][h] })
		for l, a := range m.Arch.Layers {
			for h := 0; h < a.H; h++ {
				if a.Window > 0 {
					if got.Policy[l][h].Kind != "" || got.Work[l][h] != 1 {
						t.Errorf("%s: layer %d has a window and a pattern", name, l)
					}
					continue
				}
				closeTo(t, name+": error", l, h, got.Error.Query[l][h], slow[l][h].relative())
				closeTo(t, name+": mass", l, h, got.Mass[l][h], slow[l][h].retained())
			}
		}
		longest := longestFirst(w.IDs)
		others := map[[3]int]patternLoss{}
		budgets := map[[2]int][]candidate{}
		eachHead(t, m, longest, func(l, window, h int, r rows, dense [][]float64) {
			at := [2]int{l, h}
			if window == 0 {
				ranked := nn.RankVerticalSlash(nn.Estimate(r.head(h), 0, r.Shape.T, opt.LastQ))
				budgets[at] = opt.candidates(r.Shape.T, ranked)
			}
			for c, b := range budgets[at] {
				sum := others[[3]int{l, h, c}]
				sum.add(slowPatternLoss(r, h, dense, seenUnder(b.policy, r, h, dense)))
				others[[3]int{l, h, c}] = sum
			}
		})
		for at, list := range budgets {
			for c := range list {
				if o := others[[3]int{at[0], at[1], c}]; o.relative() < got.Error.Query[at[0]][at[1]]-2e-5 {
					t.Errorf("%s: head %v gets an error of %g, %s has %g", name, at, got.Error.Query[at[0]][at[1]], policyID(list[c].policy), o.relative())
				}
			}
		}
		if e := p.Evidence[0]; e.Method != "minference" || e.Per != "q_head" || e.DataDigest != w.Digest {
			t.Errorf("evidence %+v", e)
		}
		servesAs(t, m, p, longest[0], got)
	}
}

// TestVerticalSlashPairs counts the union of columns and diagonals by brute force, for every budget.
func TestVerticalSlashPairs(t *testing.T) {
	r := randomState(50, 1, 1, 8, 0, 1)
	columns, diagonals := nn.Estimate(r.head(0), 0, 50, 10)
	for v := 0; v <= 50; v += 3 {
		for s := 0; s <= 50; s += 4 {
			p := nn.TopVerticalSlash(columns, diagonals, v, s, 1, 2)
			want := 0
			for i := range 50 {
				want += nn.Covered(p.Spans(nil, i))
			}
			if got := p.Pairs(50); got != int64(want) {
				t.Errorf("%d columns and %d diagonals: %d pairs, want %d", v, s, got, want)
			}
		}
	}
}

// TestXAttentionThresholds: each threshold retains the share on every window by whole matrices, and the next smaller one of
// the grid does not.
func TestXAttentionThresholds(t *testing.T) {
	for _, name := range patternFamilies {
		m := open(t, testmodel.Named(name))
		w, p := patternWindows(m), Draft(m.Arch)
		opt := XAttentionOptions{Block: 8, Stride: 4, Share: 0.8, Grid: []float64{0.9, 0.2, 0.6, 0.73, 0.77, 0.75, 0.74, 0.76, 0.78, 0.79, 0.8, 0.82}}
		got, err := XAttention(context.Background(), m, w, p, opt)
		if err != nil {
			t.Fatal(err)
		}
		if err := opt.fill(); err != nil {
			t.Fatal(err)
		}
		least := map[[3]int]float64{}
		eachHead(t, m, w.IDs, func(l, window, h int, r rows, dense [][]float64) {
			for n, threshold := range opt.Grid {
				loss := slowPatternLoss(r, h, dense, seenUnder(opt.policy(threshold), r, h, dense))
				at := [3]int{l, h, n}
				if v, seen := least[at]; !seen || loss.retained() < v {
					least[at] = loss.retained()
				}
			}
		})
		kinds := map[float64]int{}
		for l, a := range m.Arch.Layers {
			for h := 0; h < a.H && a.Window == 0; h++ {
				want := 1.0
				for n := len(opt.Grid) - 1; n >= 0 && least[[3]int{l, h, n}] >= opt.Share; n-- {
					want = opt.Grid[n]
				}
				pol := got.Policy[l][h]
				if want == 1 && pol.Kind != manifest.KindFull || want < 1 && pol.Threshold != want {
					t.Errorf("%s: head %d.%d has %s, want a threshold of %g", name, l, h, policyID(pol), want)
				}
				kinds[want]++
			}
		}
		if name != "mistral-swa" && len(kinds) < 2 {
			t.Errorf("%s: thresholds %v tell no heads apart", name, kinds)
		}
		servesAs(t, m, p, longestFirst(w.IDs)[0], got)
	}
}

// TestStaticAgainstTheMatrix: the choice per KV head by whole matrices, at a work below the density, for both phases.
func TestStaticAgainstTheMatrix(t *testing.T) {
	for _, name := range patternFamilies {
		m := open(t, testmodel.Named(name))
		w, p := patternWindows(m), Draft(m.Arch)
		opt := StaticOptions{Density: 0.55, Block: 6, Sink: 2, Strides: []int{2, 3, 5}, Prefill: true, Decode: true}
		got, err := Static(context.Background(), m, w, p, opt)
		if err != nil {
			t.Fatal(err)
		}
		sums := map[[3]int]patternLoss{}
		eachHead(t, m, w.IDs, func(l, window, h int, r rows, dense [][]float64) {
			g := h / (r.Shape.H / r.Shape.G)
			for c, cand := range opt.candidates(96, g) {
				seen := seenUnder(cand.policy, r, h, dense)
				if r.Shape.T == 96 && (pairsOf(seen) != cand.pairs || float64(cand.pairs) > 0.55*float64(maskPairs(96, 0, 96))) {
					t.Errorf("%s: %d pairs, counted %d", policyID(cand.policy), pairsOf(seen), cand.pairs)
				}
				sum := sums[[3]int{l, g, c}]
				sum.add(slowPatternLoss(r, h, dense, seen))
				sums[[3]int{l, g, c}] = sum
			}
		})
		for l, a := range m.Arch.Layers {
			for g := 0; g < kvHeads(a) && a.Window == 0; g++ {
				least := math.Inf(1)
				for c := range opt.candidates(96, g) {
					sum := sums[[3]int{l, g, c}]
					least = min(least, sum.relative())
				}
				if !near(got.Error.KV[l][g], least, 2e-5) {
					t.Errorf("%s: head %d.%d has an error of %g, the least is %g", name, l, g, got.Error.KV[l][g], least)
				}
				pre, _ := p.Resolve(l, g, manifest.Prefill, 96)
				dec, _ := p.Resolve(l, g, manifest.Decoding, 96)
				if policyID(pre) != policyID(dec) || pre.Kind != got.Policy[l][g*(a.H/a.G)].Kind {
					t.Errorf("%s: head %d.%d prefills by %s and decodes by %s", name, l, g, policyID(pre), policyID(dec))
				}
			}
		}
		servesAs(t, m, p, longestFirst(w.IDs)[0], got)
	}
}

// TestPlannersThreads: plans are the same bytes at any number of threads and with states on disk.
func TestPlannersThreads(t *testing.T) {
	src := testmodel.NewPlanted(2)
	a, err := arch.Describe(src.Config, src)
	if err != nil {
		t.Fatal(err)
	}
	plan := func(threads int, opt Options) string {
		m, ctx := nn.New(deviceOf(threads), src, a), context.Background()
		w := patternWindows(m)
		var out strings.Builder
		for _, f := range []func(p *manifest.Plan) error{
			func(p *manifest.Plan) error {
				_, err := MInference(ctx, m, w, p, MInferenceOptions{Sink: 2, Recent: 20, Block: 8, LastQ: 8, SampleBlocks: 5, Options: opt})
				return err
			},
			func(p *manifest.Plan) error {
				_, err := XAttention(ctx, m, w, p, XAttentionOptions{Block: 8, Stride: 4, Share: 0.9, SampleBlocks: 5, Options: opt})
				return err
			},
			func(p *manifest.Plan) error {
				_, err := Static(ctx, m, w, p, StaticOptions{Density: 0.5, Block: 4, Prefill: true, SampleBlocks: 5, Options: opt})
				return err
			},
		} {
			p := Draft(m.Arch)
			if err := f(p); err != nil {
				t.Fatal(err)
			}
			text, err := json.Marshal(p)
			if err != nil {
				t.Fatal(err)
			}
			out.Write(text)
		}
		return out.String()
	}
	want := plan(1, Options{})
	for _, threads := range []int{2, 3} {
		if plan(threads, Options{}) != want {
			t.Errorf("%d threads: another plan", threads)
		}
	}
	if plan(2, Options{Dir: t.TempDir(), MemLimit: 1}) != want {
		t.Error("states on disk: another plan")
	}
}

// TestPlannedPrefillAnswers: on the planted model, at the work of an A-shape that loses every needle, the patterns that the
// search finds on the prompts' last queries keep the first token of the answers.
func TestPlannedPrefillAnswers(t *testing.T) {
	_, m, prompts := planted(t)
	ctx := context.Background()
	var windows [][]int32
	for _, p := range prompts {
		windows = append(windows, p.IDs)
	}
	accuracy := func(p *manifest.Plan) float64 {
		right := 0
		_, err := m.Serve(ctx, windows, nn.ServeOptions{Plan: p}, func(i int, h []float32) error {
			return m.Head(h[len(h)-m.Arch.D:], 1, 1, func(_, _ int, logits []float32) error {
				if slices.Index(logits, slices.Max(logits)) == int(prompts[i].Answer[0]) {
					right++
				}
				return nil
			})
		})
		if err != nil {
			t.Fatal(err)
		}
		return float64(right) / float64(len(prompts))
	}
	shape := Draft(m.Arch)
	shape.Policies["a"] = manifest.Streaming(4, 36)
	for l := range shape.Layers {
		for g := range shape.Layers[l].KVHeads {
			shape.Layers[l].KVHeads[g].Prefill = "a"
		}
	}
	found := Draft(m.Arch)
	opt := MInferenceOptions{Sink: 4, Recent: 36, LastQ: 4, Block: 8, From: len(windows[0]) - 1}
	if _, err := MInference(ctx, m, calib.NewWindows(windows), found, opt); err != nil {
		t.Fatal(err)
	}
	dense, a, f := accuracy(Draft(m.Arch)), accuracy(shape), accuracy(found)
	t.Logf("accuracy: dense %.2f, A-shape %.2f, found %.2f", dense, a, f)
	if dense != 1 || a > 0.1 || f < 0.9 {
		t.Errorf("accuracy: dense %g, A-shape %g, found %g", dense, a, f)
	}
}

// TestPlannerRefusals: options that make no sense, and plans for other heads.
func TestPlannerRefusals(t *testing.T) {
	m := open(t, testmodel.Named("llama-gqa"))
	ctx, w := context.Background(), patternWindows(m)
	for name, err := range map[string]error{
		"short":      patternError(MInference(ctx, m, w, Draft(m.Arch), MInferenceOptions{Sink: 90, Recent: 6})),
		"no recent":  patternError(MInference(ctx, m, w, Draft(m.Arch), MInferenceOptions{Sink: 9})),
		"no windows": patternError(MInference(ctx, m, calib.Windows{}, Draft(m.Arch), MInferenceOptions{Sink: 1, Recent: 6})),
		"no entries": patternError(MInference(ctx, m, w, manifest.New(manifest.Model{Layers: 2}, manifest.Producer{}), MInferenceOptions{Sink: 1, Recent: 6})),
		"share":      patternError(XAttention(ctx, m, w, Draft(m.Arch), XAttentionOptions{Share: 1.5})),
		"grid":       patternError(XAttention(ctx, m, w, Draft(m.Arch), XAttentionOptions{Share: 0.5, Grid: []float64{math.NaN()}})),
		"x windows":  patternError(XAttention(ctx, m, calib.Windows{}, Draft(m.Arch), XAttentionOptions{Share: 0.5})),
		"phase":      patternError(Static(ctx, m, w, Draft(m.Arch), StaticOptions{Density: 0.5})),
		"density":    patternError(Static(ctx, m, w, Draft(m.Arch), StaticOptions{Density: 0.001, Prefill: true})),
		"stride":     patternError(Static(ctx, m, w, Draft(m.Arch), StaticOptions{Density: 0.5, Prefill: true, Strides: []int{0}})),
	} {
		if err == nil || !strings.HasPrefix(err.Error(), "heads: ") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func patternError(_ *Patterns, err error) error { return err }
