package pipeline

import (
	"context"
	"testing"

	"modelpress/formats"
	"modelpress/formats/manifest"
	"modelpress/prune"
)

// samePruned compares what every head that stays may see with what it might see before.
func samePruned(t *testing.T, got, source *manifest.Plan, s *source, c *prune.Cut) (streaming int) {
	t.Helper()
	kept := c.Kept()
	if len(got.Layers) != len(kept) {
		t.Fatalf("%d layers are planned for, %d stay", len(got.Layers), len(kept))
	}
	for i, l := range kept {
		a := &s.arch.Layers[l]
		heads, per := unitList(&c.Layers[l].Heads, a.G), 0
		if a.G > 0 {
			per = a.H / a.G
		}
		if h, g := got.Counts(i); g != len(heads) || h != per*g {
			t.Fatalf("layer %d has %d query and %d KV heads, %d stay", i, h, g, len(heads))
		}
		for j, g := range heads {
			for _, n := range []int{1, 9, 31, 64, 4096} {
				a, _ := got.Resolve(i, j, manifest.Decoding, n)
				b, _ := source.Resolve(l, g, manifest.Decoding, n)
				if !sameJSON(a, b) {
					t.Errorf("layer %d KV head %d, once %d and %d: %+v, want %+v", i, j, l, g, a, b)
				}
				if n == 4096 && a.Kind == manifest.KindStreaming {
					streaming++
				}
				for q := range per {
					a, _ := got.ResolveQuery(i, j*per+q, manifest.Prefill, n)
					if b, _ := source.ResolveQuery(l, g*per+q, manifest.Prefill, n); !sameJSON(a, b) {
						t.Errorf("layer %d query head %d: %+v, want %+v", i, j*per+q, a, b)
					}
				}
			}
		}
	}
	return streaming
}

// TestPruneCarriesPlans: an attention plan beside the source follows layers and heads that are renumbered; the result is evaluated by it.
func TestPruneCarriesPlans(t *testing.T) {
	for _, c := range []struct{ model, section, rest string }{
		{"llama-bias", "method: random, params: 0.66, axes: [hidden, heads, ffn, layers], multiple: 4", ""},
		{"llama-bias", "method: random, kv: 0.375, axes: [heads, layers], layout: compact", ""},
		{"llama-bias", "method: random, kv: 0.5, axes: [heads]", "\nkvmerge: {kv_heads: 1}"},
		{"mistral-swa", "method: random, kv: 0.5, axes: [layers]", "\ndistill: {steps: 1, batch: 2, warmup: 0}"},
		{"gpt2", "method: random, kv: 0.25, any_heads: true, axes: [hidden, heads, layers]", "\nquantize: {method: rtn, bits: 3, group_size: -1}"},
		{"qwen3", "method: random, kv: 0.5, axes: [heads]", "\nsparsify: {method: magnitude}"},
		{"llama-gqa", "method: random, params: 0.6952, axes: [ffn], multiple: 4", ""}, // no head goes
	} {
		t.Run(c.model+"/"+c.section+c.rest, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, deep(c.model, 4, formats.F32), planHeads)
			_, _, b.src = b.run()
			b.dir, b.recipe, b.anywhere = t.TempDir(), pruneRecipe(c.section)+c.rest, true
			source, err := manifest.Decode(b.read(b.src, manifestName))
			b.check(err)
			p, rep, out := b.run()
			checkSizes(t, p, out)
			d := &pruneDecision{}
			b.check(decodeDecision(p.Steps[0].Decision, d))
			got, err := manifest.Decode(b.read(out, manifestName))
			b.check(err)
			b.check(got.CheckModel(rep.WeightsDigest, rep.HeadersDigest, rep.ConfigDigest))
			if got.CheckModel(rep.SourceWeights, "", "") == nil {
				t.Error("the plan takes the source for its model")
			}
			b.check(checkPlanFits(got, b.open(out).arch))
			if c.rest != "\nkvmerge: {kv_heads: 1}" && samePruned(t, got, source, b.open(b.src), d.Cut) == 0 {
				t.Error("no head that stays streams")
			}
			if v, err := Verify(context.Background(), out, testEnv()); err != nil || len(v.Faults) > 0 {
				t.Errorf("%v, %v", v, err)
			}
			e, err := Evaluate(context.Background(), EvalOptions{ModelDir: out, AttentionPlan: "auto", Data: b.data, Length: 32, BOS: "auto", Windows: 2, Env: testEnv()})
			b.check(err)
			if e.Plan != sumDigest(b.read(out, manifestName)) {
				t.Errorf("evaluated under %s", e.Plan)
			}
		})
	}
}
