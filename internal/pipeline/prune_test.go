package pipeline

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"strings"
	"testing"

	"modelpress/formats"
	"modelpress/internal/testmodel"
	"modelpress/prune"
)

const pruneData = "seed: 3\ncalibration: {sequences: 4, holdout: 2, length: 32}\n"

func pruneRecipe(section string) string { return pruneData + "prune: {" + section + "}" }

// deep is a model of a family from which layers can go, of values whose norms and biases would be missed.
func deep(name string, layers int, d formats.DType) *testmodel.Model {
	o := testmodel.Named(name).Options
	if o.PerLayer == nil {
		o.Layers = layers
	}
	o.DType = d
	return testmodel.New(o)
}

// TestPrune cuts every family by every method to every kind of target in both layouts: the result opens as an ordinary checkpoint, a second
// implementation computes on it what the source computes with masks, it costs what was asked for, and its tensors are bytes of the
// source.
func TestPrune(t *testing.T) {
	for _, c := range []struct {
		model, section string
		layers         int
		store          formats.DType
	}{
		{"llama-mha", "method: minitron, params: 0.7, multiple: 4", 2, formats.F32},
		{"llama-mha", "method: minitron, params: 0.6, axes: [layers, ffn], rounds: 2, depth: perplexity, multiple: 4", 4, formats.F32},
		{"llama-gqa", "method: taylor, flops: 0.6, multiple: 4", 2, formats.BF16},
		{"llama-gqa", "method: taylor, kv: 0.5, layout: compact", 3, formats.F32},
		{"llama-mqa-tied", "method: minitron, params: 0.8, axes: [hidden, ffn], multiple: 4", 2, formats.F16},
		{"llama-bias", "method: minitron, params: 0.66, axes: [hidden, heads, ffn, layers], multiple: 4, candidates: 3", 3, formats.F32},
		{"llama-bias", "method: magnitude, flops: 0.5, layout: compact, multiple: 4", 2, formats.BF16},
		{"llama-wide-heads", "method: random, params: 0.6, multiple: 4", 2, formats.F32},
		{"llama-rope-linear", "method: random, kv: 0.5", 2, formats.F32},
		{"llama-rope-dynamic", "method: magnitude, params: 0.75, multiple: 4", 2, formats.F32},
		{"llama-rope-llama3", "method: minitron, kv: 0.5, axes: [layers]", 4, formats.BF16},
		{"llama-rope-yarn", "method: minitron, flops: 0.55, aggregate: var, rounds: 2, multiple: 4", 2, formats.F32},
		{"mistral-swa", "method: taylor, flops: 0.7, length: 128, multiple: 4", 2, formats.F32},
		{"mistral-swa", "method: minitron, params: 0.5, axes: [hidden, heads, ffn, layers], layout: compact, multiple: 4, aggregate: mean", 3, formats.F32},
		{"mistral-full", "method: random, params: 0.45, layout: compact, multiple: 2", 2, formats.F16},
		{"qwen2", "method: minitron, params: 0.7, multiple: 4, any_heads: true", 2, formats.F32},
		{"qwen2-tied", "method: taylor, params: 0.6, axes: [ffn], layout: compact, multiple: 2", 2, formats.F32},
		{"qwen3", "method: taylor, params: 0.65, axes: [hidden, heads, ffn, layers], multiple: 4, depth: perplexity", 3, formats.F32},
		{"qwen3-tied", "method: minitron, flops: 0.7, layout: compact, multiple: 2", 2, formats.BF16},
		{"gpt2", "method: minitron, params: 0.604, multiple: 4", 2, formats.F32},
		{"gpt2", "method: taylor, kv: 0.5, any_heads: true, axes: [hidden, heads, ffn, layers]", 4, formats.F32},
		{"gpt2", "method: magnitude, params: 0.66, layout: compact, multiple: 4, axes: [ffn, layers]", 3, formats.BF16},
		{"gpt2", "method: random, flops: 0.7, layout: compact, multiple: 4", 2, formats.F16},
		{"llama-mha", "method: minitron, params: 1", 2, formats.F32},
		{"llama-pruned", "method: taylor, params: 0.6, layout: compact, multiple: 4", 4, formats.F32},
		{"llama-pruned", "method: minitron, kv: 0.5, layout: compact, axes: [hidden, heads, ffn, layers]", 4, formats.BF16},
		{"llama-bias", "method: minitron, kv: 0.5, layout: compact, axes: [layers]", 4, formats.F32},
	} {
		t.Run(c.model+"/"+c.section, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, deep(c.model, c.layers, c.store), pruneRecipe(c.section))
			b.anywhere = strings.Contains(c.section, layoutCompact)
			z := b.runPruned()
			b.checkPruned(z)
			r, err := ParseRecipe([]byte(b.recipe))
			b.check(err)
			target := r.Prune.goal()
			before, after := b.costOfFiles(b.src, r.Prune.Length), b.costOfFiles(z.out, r.Prune.Length)
			if before != z.d.Before || after != z.d.After {
				t.Errorf("%+v became %+v, the decision says %+v and %+v", before, after, z.d.Before, z.d.After)
			}
			of := func(c prunedCost) float64 {
				return float64(target.Of(prune.Cost{Params: c.Params, FLOPs: c.FLOPs, KVBytes: c.KVBytes}))
			}
			share := of(after) / of(before)
			t.Logf("%s: %.4f of %v asked for %v: %s", z.d.Method, share, target.Metric, target.Share, z.d.summary(z.s.arch, z.r.arch))
			if !(math.Abs(share/target.Share-1) <= 0.005) {
				t.Errorf("%v of %v is left", share, target.Metric)
			}
			if v, err := Verify(context.Background(), z.out, testEnv()); err != nil || len(v.Faults) > 0 {
				t.Errorf("%v, %+v", err, v)
			}
		})
	}
}

// checkPruned compares a result with what its decision means: as a function, and byte for byte.
func (b *bench) checkPruned(z *pruned) {
	b.t.Helper()
	const most = 1e-4
	masked, stock := b.masked(b.src, z.d.Cut), b.stock(z.out)
	model := z.r.model(testEnv().Device)
	for _, ids := range testmodel.Windows(2, 24, z.s.arch.V, 5) {
		want, have := b.logits64(masked, ids), b.logits64(stock, ids)
		fast, err := model.Logits(ids)
		b.check(err)
		if d := farthest(b.t, have, want); !(d <= 1e-9) {
			b.t.Errorf("logits of the result and of the source with masks differ by %.3g", d)
		}
		if d := farthest(b.t, fast, have); !(d <= most) {
			b.t.Errorf("logits of the forward pass and of the reference differ by %.3g", d)
		}
	}
	want := slicesOf(b.t, z.s, z.r, z.d.Cut)
	for _, info := range z.r.ck.Tensors() {
		raw, ok := want[info.Name]
		if !ok || !bytes.Equal(raw, tensorBytes(b.t, z.r.ck, info)) {
			b.t.Errorf("%s: other bytes than those of the source", info.Name)
		}
		delete(want, info.Name)
	}
	for name := range want {
		b.t.Errorf("%s is not in the result", name)
	}
}

// TestPruneIsWhatWasMeasured: what a plan says of the pruned model on held-out data is what its result measures.
func TestPruneIsWhatWasMeasured(t *testing.T) {
	for _, model := range []string{"llama-gqa", "gpt2"} {
		b := newBench(t, testmodel.Named(model), pruneRecipe("method: minitron, params: 0.7, multiple: 4"))
		z := b.runPruned()
		q := z.rep.Quality.Source
		if len(z.d.HeldOut) != 2 || z.d.HeldOut[0].Name != namePerplexity || z.d.HeldOut[0].Dense != q.SourcePPL || z.d.HeldOut[0].Plan != q.PPL || z.d.HeldOut[1].Plan != q.KL {
			t.Errorf("%s: planned %+v, applied %+v", model, z.d.HeldOut, q)
		}
	}
}

// TestPruneThreads: any number of threads gives the same plan and the same bytes.
func TestPruneThreads(t *testing.T) {
	for _, method := range []string{"minitron", "taylor", "magnitude"} {
		for _, layout := range []string{layoutPortable, layoutCompact} {
			b := newBench(t, testmodel.Named("llama-gqa"), pruneRecipe("params: 0.7, multiple: 4, method: "+method+", layout: "+layout))
			b.anywhere = true
			var first string
			for _, n := range []int{1, 2, 3} {
				p, err := b.planOn(n)
				b.check(err)
				o := b.options(p, fmt.Sprint("out", n))
				if o.Env = threads(n); first == "" {
					first = string(o.PlanBytes)
				}
				if string(o.PlanBytes) != first {
					t.Fatalf("%s, %s: %d threads make another plan", method, layout, n)
				}
				_, err = Apply(context.Background(), o)
				b.check(err)
			}
			b.sameDirs(b.dir+"/out1", b.dir+"/out2")
			b.sameDirs(b.dir+"/out1", b.dir+"/out3")
		}
	}
}
