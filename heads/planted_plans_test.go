package heads

import (
	"context"
	"testing"

	"modelpress/calib"
	"modelpress/formats/manifest"
	"modelpress/internal/nn"
	"modelpress/internal/testmodel"
)

// served returns the share of prompts that the model answers when it is served under a plan.
func served(t *testing.T, m *nn.Model, prompts []calib.Prompt, p *manifest.Plan) float64 {
	t.Helper()
	sound(t, p)
	r, err := calib.Retrieval(context.Background(), m, prompts, calib.EvalOptions{Plan: p})
	if err != nil {
		t.Fatal(err)
	}
	return r.Accuracy
}

// planOf gives every KV head the policy that pick says, in both phases.
func planOf(m *nn.Model, pick func(l, g int) manifest.Policy) *manifest.Plan {
	p := Draft(m.Arch)
	for l := range p.Layers {
		for g := range p.Layers[l].KVHeads {
			h := &p.Layers[l].KVHeads[g]
			h.Prefill = addPolicy(p, pick(l, g))
			h.Decode = manifest.Always(h.Prefill)
		}
	}
	p.Requires = p.Needs()
	return p
}

// spending keeps the named heads full and gives the others sinks and the least window at which the plan takes no fewer bytes.
func spending(m *nn.Model, full [][]bool, length int, bytes int64) *manifest.Plan {
	for recent := 1; ; recent++ {
		p := planOf(m, func(l, g int) manifest.Policy {
			if full[l][g] {
				return manifest.Full()
			}
			return manifest.Streaming(plantedSink, recent)
		})
		if PlanBytes(p, m.Arch, 2, length).Planned >= bytes {
			return p
		}
	}
}

// TestPlantedMoA: from profile to plan, the search gives the planted heads spans that reach the needles and all others short
// ones, and the plan keeps every answer at each of its lengths, where whole layers or one window for all heads, at no fewer bytes,
// keep none or few.
func TestPlantedMoA(t *testing.T) {
	const long, least = 132, 32
	eachPlanted(t, func(t *testing.T, p *testmodel.Planted, m *nn.Model, _ []calib.Prompt) {
		_, count := p.Heads(testmodel.Induction)
		total := p.Options.Layers * p.Options.G
		share := float64((count+p.Options.G-1)/p.Options.G) / float64(p.Options.Layers)
		for _, c := range []struct {
			lengths  []int
			additive bool
		}{{[]int{long}, false}, {[]int{long}, true}, {[]int{84, long}, false}} {
			if len(c.lengths) > 1 && m.Arch.Layers[0].H*len(m.Arch.Layers) > 32 {
				continue // the largest models take seconds
			}
			if c.additive && !p.BOS() {
				continue // attention is 1 to the last bit, and what taking such a key away costs is lost in the sum of influences
			}
			var inputs []ProfileInput
			var all, heldOut []calib.Prompt
			for _, length := range c.lengths {
				prompts := promptsOf(p.MultiKey(3, length-4, 4, 4, uint64(length)))
				samples, err := PromptSamples(prompts)
				if err != nil {
					t.Fatal(err)
				}
				inputs = append(inputs, ProfileInput{length, samples})
				all = append(all, prompts...)
				heldOut = append(heldOut, promptsOf(p.MultiKey(1, length-4, 4, 4, 77))...)
			}
			far := all[len(all)-3:]
			// The planted heads can be full where all others have the least span.
			budget := (float64(count) + float64(total-count)*least/float64(c.lengths[0])) / float64(total)
			r, err := MoA(t.Context(), m, MoAOptions{Inputs: inputs, Budget: budget, Candidates: 2, Additive: c.additive,
				Grid: RuleGrid{Length: long, Sink: plantedSink, Block: 8, Min: least},
				HeldOut: func(q *manifest.Plan) ([]float64, error) {
					r, err := calib.Retrieval(t.Context(), m, heldOut, calib.EvalOptions{Plan: q})
					return []float64{r.AnswerNLL}, err
				}})
			if err != nil {
				t.Fatal(err)
			}
			plan := Draft(m.Arch)
			if err := WriteMoA(plan, r.Plan); err != nil {
				t.Fatal(err)
			}
			low, high := plantedMargin(spansOf(plan, p, long), p.Retrieval)
			cache := PlanBytes(plan, m.Arch, 2, long)
			_, joint := r.Profile.Lengths[len(c.lengths)-1].Scores(plantedRecent)
			window := served(t, m, far, spending(m, allFull(m, false), long, cache.Planned))
			layers := served(t, m, far, spending(m, SelectLayers(joint.KV, share).Full, long, cache.Planned))
			accuracy := served(t, m, all, plan)
			t.Logf("%d tokens, additive %t: spans of planted heads from %g, of others to %g; density %.3f of %.3f; front of %d; accuracy %.2f, window %.2f, layers %.2f",
				c.lengths, c.additive, low, high, cache.Density(), budget, len(r.Front), accuracy, window, layers)
			if accuracy != 1 || window > 0.4 || layers > 0 || low < 112 || len(c.lengths) == 1 && low < 1.5*high || Round(cache.Density()) > Round(budget) {
				t.Errorf("%d tokens, additive %t: accuracy %g, spans %v", c.lengths, c.additive, accuracy, spansOf(plan, p, long))
			}
		}
	})
}

// spansOf returns the tokens that each KV head keeps of a sequence, [layer][KV head].
func spansOf(plan *manifest.Plan, p *testmodel.Planted, length int) [][]float64 {
	out := make([][]float64, len(p.Kind))
	for l, row := range p.Kind {
		for g := range row {
			pol, _ := plan.Resolve(l, g, manifest.Decoding, length)
			out[l] = append(out[l], float64(min(length, pol.Span(length))))
		}
	}
	return out
}

// TestPlantedBudgets: where the heads share out so few tokens that an even share does not hold a needle, HeadKV's budgets keep
// every answer, and those of PyramidKV, which starve the late layers, or equal ones keep none.
func TestPlantedBudgets(t *testing.T) {
	eachPlanted(t, func(t *testing.T, p *testmodel.Planted, m *nn.Model, prompts []calib.Prompt) {
		s, err := HeadKV(t.Context(), m, prompts, Options{})
		if err != nil {
			t.Fatal(err)
		}
		pol := BudgetPolicy{Base: 8, Window: 1, Pool: 11, Beta: 1.005} // the question is one token, its needle five
		headkv, pyramid, uniform := Draft(m.Arch), Draft(m.Arch), Draft(m.Arch)
		if err := WriteHeadKV(headkv, m.Arch, s, pol, record); err != nil {
			t.Fatal(err)
		}
		pol.Beta = 20
		if err := WritePyramid(pyramid, m.Arch, pol); err != nil {
			t.Fatal(err)
		}
		pol.Beta = 1
		if err := WritePyramid(uniform, m.Arch, pol); err != nil {
			t.Fatal(err)
		}
		h, y, u := served(t, m, prompts, headkv), served(t, m, prompts, pyramid), served(t, m, prompts, uniform)
		t.Logf("accuracy: headkv %.2f, pyramid %.2f, uniform %.2f", h, y, u)
		if h != 1 || y > 0 || u > 0 {
			t.Errorf("accuracy: headkv %g, pyramid %g, uniform %g", h, y, u)
		}
	})
}

// TestPlantedRazorPlan: with the planted heads full and a compensation token in the others the answers stay, and where the
// planted heads stream, it does not stand in for a needle.
func TestPlantedRazorPlan(t *testing.T) {
	eachPlanted(t, func(t *testing.T, p *testmodel.Planted, m *nn.Model, prompts []calib.Prompt) {
		echo, induction, err := Razor(t.Context(), m, plantedRepeat(p))
		if err != nil {
			t.Fatal(err)
		}
		_, count := p.Heads(testmodel.Induction)
		total := float64(p.Options.Layers * p.Options.G)
		accuracy := func(echo, induction *Scores, share float64) float64 {
			plan := Draft(m.Arch)
			pol := RazorPolicy{Induction: share, Sink: plantedSink, MinRecent: plantedRecent, Divisor: 6}
			if err := WriteRazor(plan, m.Arch, echo, induction, pol, record); err != nil {
				t.Fatal(err)
			}
			return served(t, m, prompts, plan)
		}
		inverse := &Scores{Method: "inverse", Unit: "u", KV: kvRows(m)}
		for l, row := range induction.KV {
			for g, v := range row {
				inverse.KV[l][g] = -v
			}
		}
		right, wrong := accuracy(echo, induction, float64(count)/total), accuracy(inverse, inverse, 1-float64(count)/total)
		t.Logf("accuracy %.2f, with the planted heads streaming alone %.2f", right, wrong)
		if right != 1 || wrong > 0 {
			t.Errorf("accuracy %g and %g", right, wrong)
		}
	})
}
