package pipeline

import (
	"context"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"testing"

	"modelpress/formats"
	"modelpress/internal/testmodel"
)

const mergeRecipe = "calibration: {sequences: 6, holdout: 2, length: 32}\nkvmerge: {kv_heads: 2}"

// mergeOptions is a model of four KV heads.
func mergeOptions(d formats.DType) testmodel.Options {
	return testmodel.Options{Layers: 3, D: 64, H: 8, G: 4, F: 128, V: 128, DType: d, Seed: 31}
}

// TestMergedCheckpointIsStock: another implementation, which knows nothing of merging, reads what apply wrote and computes the same
// function.
func TestMergedCheckpointIsStock(t *testing.T) {
	if testing.Short() {
		t.Skip("a float64 forward pass of one thread")
	}
	const most = 5e-5
	example := filepath.Join("..", "..", "examples", "tiny-llama")
	for _, c := range []struct {
		name   string
		model  *testmodel.Model // nil for the example
		recipe string
	}{
		{"llama F32", testmodel.New(mergeOptions(formats.F32)), mergeRecipe},
		{"llama BF16", testmodel.New(mergeOptions(formats.BF16)), mergeRecipe},
		{"llama of biases", testmodel.Named("llama-bias"), mergeRecipe},
		{"llama with dynamic positions", testmodel.Named("llama-rope-dynamic"), "calibration: {sequences: 6, holdout: 2, length: 32}\nkvmerge: {kv_heads: 1}"},
		{"compact", testmodel.New(mergeOptions(formats.F32)), "target: [llama.cpp]\ncalibration: {sequences: 6, holdout: 2, length: 32}\nkvmerge: {kv_budget: 0.6, mix: true, layout: compact}"},
		{"portable", testmodel.New(mergeOptions(formats.F32)), "calibration: {sequences: 6, holdout: 2, length: 32}\nkvmerge: {kv_budget: 0.6, mix: true}"},
		{"mistral", testmodel.Named("mistral-swa"), mergeRecipe},
		{"qwen2", testmodel.Named("qwen2"), "calibration: {sequences: 6, holdout: 2, length: 32}\nkvmerge: {kv_heads: 1}"},
		{"qwen3", testmodel.Named("qwen3"), "calibration: {sequences: 6, holdout: 2, length: 32}\nkvmerge: {kv_heads: 1}"},
		{"gpt2", testmodel.Named("gpt2"), mergeRecipe},
		{"tiny-llama", nil, "calibration: {sequences: 6, holdout: 2, length: 64}\nkvmerge: {kv_heads: 1}"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var b *bench
			if c.model != nil {
				b = newBench(t, c.model, c.recipe)
			} else {
				b = &bench{t: t, dir: t.TempDir(), src: filepath.Join(example, "model"), data: filepath.Join(example, "data", "calib.safetensors"), recipe: c.recipe}
			}
			_, rep, out := b.run()
			s := b.open(out)
			config, err := os.ReadFile(filepath.Join(out, configName))
			b.check(err)
			ref, err := testmodel.NewReference(config, s.ck)
			b.check(err)
			largest, differ := 0.0, 0.0
			for _, ids := range testmodel.Windows(2, 40, s.arch.V, 5) {
				want, err := ref.Logits(ids)
				b.check(err)
				have, err := s.model(testEnv().Device).Logits(ids)
				b.check(err)
				if len(have) != len(want) {
					t.Fatalf("%d logits, want %d", len(have), len(want))
				}
				for i, w := range want {
					largest = math.Max(largest, math.Abs(float64(w)))
					differ = math.Max(differ, math.Abs(float64(have[i])-float64(w)))
				}
			}
			moved := b.logitError(b.src, out)
			t.Logf("logits up to %.2f differ by %.2g at most; merging moves them by %.3f; KL %s", largest, differ, moved, rep.Quality.Source.KL)
			if !(differ <= most) || moved == 0 {
				t.Errorf("logits differ by %g, merging moves them by %g", differ, moved)
			}
		})
	}
}

// TestMergePlanTellsTheResult: what a plan measures on held-out data is what its result measures, and its layers have the heads that
// were planned. A result of 16-bit weights is rounded where the plan was not.
func TestMergePlanTellsTheResult(t *testing.T) {
	for _, c := range []struct {
		name   string
		model  *testmodel.Model
		recipe string
		most   float64 // relative difference of perplexities
	}{
		{"llama F32", testmodel.New(mergeOptions(formats.F32)), mergeRecipe, 1e-5},
		{"llama BF16", testmodel.New(mergeOptions(formats.BF16)), mergeRecipe, 1e-2},
		{"compact", testmodel.New(mergeOptions(formats.F32)), "target: [llama.cpp]\ncalibration: {sequences: 6, holdout: 2, length: 32}\nkvmerge: {kv_budget: 0.6, mix: true, layout: compact}", 1e-5},
		{"portable", testmodel.New(mergeOptions(formats.F32)), "calibration: {sequences: 6, holdout: 2, length: 32}\nkvmerge: {kv_budget: 0.6, refit: false}", 1e-5},
		{"gpt2", testmodel.Named("gpt2"), mergeRecipe, 1e-5},
		{"qwen3", testmodel.Named("qwen3-tied"), "calibration: {sequences: 6, holdout: 2, length: 32}\nkvmerge: {kv_heads: 1}", 1e-5},
	} {
		b := newBench(t, c.model, c.recipe)
		p, err := b.plan()
		b.check(err)
		o := b.options(p, "out")
		res, err := Apply(context.Background(), o)
		b.check(err)
		d := &mergeDecision{}
		b.check(decodeDecision(p.Steps[0].Decision, d))
		ppl, have := toFloat(d.HeldOut[0].Plan), toFloat(res.Report.Quality.Source.PPL)
		t.Logf("%s: perplexity %s, planned %.6f, applied %.6f", c.name, d.HeldOut[0].Dense, ppl, have)
		if d.HeldOut[0].Name != namePerplexity || d.HeldOut[0].Dense != res.Report.Quality.Source.SourcePPL || !(math.Abs(ppl-have) <= c.most*ppl) {
			t.Errorf("%s: perplexity %s -> %g was planned, %s -> %g came out", c.name, d.HeldOut[0].Dense, ppl, res.Report.Quality.Source.SourcePPL, have)
		}
		s := b.open(o.Out)
		for l := range s.arch.Layers {
			a, m := &s.arch.Layers[l], d.Layers[l]
			if want := len(m.Groups) * max(1, m.Repeat); a.HasAttention() && a.G != want {
				t.Errorf("%s: layer %d has %d KV heads, planned %d", c.name, l, a.G, want)
			}
		}
		checkSizes(t, p, o.Out)
		changed := map[string]bool{}
		for _, ch := range p.Changes {
			changed[ch.Tensor] = ch.Reason == reasonMerged
		}
		if kept := b.sameTensors(o.Out, func(name string) bool { return changed[name] }); kept+countTrue(changed) != len(p.Source.Tensors) {
			t.Errorf("%s: %d kept, %d merged of %d tensors", c.name, kept, countTrue(changed), len(p.Source.Tensors))
		}
	}
}

func countTrue(m map[string]bool) (n int) {
	for _, v := range m {
		if v {
			n++
		}
	}
	return n
}

// TestMergeKeepsTwins: heads that are copies of each other share without any loss, by every method, and are told from the others.
func TestMergeKeepsTwins(t *testing.T) {
	for _, keys := range []string{"pca", "procrustes", "mean", "first", "select"} {
		m := testmodel.New(mergeOptions(formats.F32))
		k := m.Options.D / m.Options.H
		for l := range 3 {
			for _, name := range []string{"k_proj", "v_proj"} {
				tensor := fmt.Sprintf("model.layers.%d.self_attn.%s.weight", l, name)
				w, err := m.Values(tensor)
				if err != nil {
					t.Fatal(err)
				}
				n := k * m.Options.D
				copy(w[2*n:3*n], w[:n]) // heads 0 and 2, 1 and 3
				copy(w[3*n:], w[n:2*n])
				m.Set(tensor, w)
			}
		}
		b := newBench(t, m, fmt.Sprintf("calibration: {sequences: 6, holdout: 2, length: 32}\nkvmerge: {kv_heads: 2, mix: true, refit: false, keys: %[1]s, values: %[1]s}", keys))
		p, _, out := b.run()
		d := &mergeDecision{}
		b.check(decodeDecision(p.Steps[0].Decision, d))
		for l, layer := range d.Layers {
			if fmt.Sprint(layer.Groups) != "[[0 2] [1 3]]" || !layer.Exact {
				t.Errorf("%s: layer %d: groups %v", keys, l, layer.Groups)
			}
		}
		e := b.logitError(b.src, out)
		t.Logf("%s: relative logit error %.2g", keys, e)
		if !(e <= 1e-5) {
			t.Errorf("%s: relative logit error %g", keys, e)
		}
	}
}
