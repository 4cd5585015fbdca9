package pipeline

import (
	"context"
	"fmt"
	"testing"

	"modelpress/formats"
	"modelpress/internal/testmodel"
)

// idle is a model of which one layer adds nothing, so that the best shape has a layer less than the one that is nearest to an even cut.
func idle(o testmodel.Options, layer int) *testmodel.Model {
	m := testmodel.New(o)
	for _, name := range []string{"self_attn.o_proj", "mlp.down_proj"} {
		tensor := fmt.Sprintf("model.layers.%d.%s.weight", layer, name)
		info, _ := m.Lookup(tensor)
		m.Set(tensor, make([]float32, info.Shape[0]*info.Shape[1]))
	}
	return m
}

// TestPruneBesides: the steps after it are for the model that pruning leaves, whatever its depth and sizes.
func TestPruneBesides(t *testing.T) {
	wide := testmodel.Options{Layers: 4, D: 128, H: 8, G: 4, F: 256, V: 128, Seed: 31}
	const shallow = "prune: {method: minitron, params: 0.7636, axes: [ffn, layers], multiple: 32}\n"
	for _, c := range []struct{ name, steps, want string }{
		{"quantize", shallow + "quantize: {method: rtn, bits: 8, group_size: 32}", "[prune quantize]"},
		{"gptq rotated", shallow + "quantize: {method: gptq, bits: 8, group_size: 32, rotate: hadamard}", "[prune quantize]"},
		{"low bits", shallow + "quantize: {method: rtn, bits: 3, group_size: 32, ignore: ['re:.*(0|1|2).mlp.*']}", "[prune quantize]"},
		{"sparsify", shallow + "sparsify: {pattern: '2:4'}", "[prune sparsify]"},
		{"sparsify without data", shallow + "sparsify: {method: magnitude}", "[prune sparsify]"},
		{"heads", shallow + "heads: {method: projected_error, full_share: 0.5, sink: 2, recent: 8}", "[prune heads]"},
		{"kvmerge", shallow + "kvmerge: {kv_heads: 2, mix: true}", "[prune kvmerge]"},
		{"kvmerge under a budget", shallow + "kvmerge: {kv_budget: 0.5, mix: true}", "[prune kvmerge]"},
		{"all", "prune: {method: minitron, params: 0.7636, axes: [hidden, heads, ffn, layers], multiple: 32}\nkvmerge: {kv_heads: 2, mix: true}\n" +
			"distill: {steps: 2, batch: 2, warmup: 0}\nheads: {method: projected_error, full_share: 0.5, sink: 2, recent: 8}\nquantize: {method: gptq, bits: 8, group_size: 32, rotate: hadamard}",
			"[prune kvmerge distill heads quantize]"},
		{"all but quantization", "prune: {method: minitron, params: 0.7636, axes: [hidden, heads, ffn, layers], multiple: 32}\nkvmerge: {kv_heads: 2, mix: true}\n" +
			"distill: {steps: 2, batch: 2, warmup: 0}\nheads: {method: projected_error, full_share: 0.5, sink: 2, recent: 8}\nsparsify: {pattern: '2:4'}",
			"[prune kvmerge distill heads sparsify]"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, idle(wide, 2), pruneData+c.steps)
			p, rep, out := b.run()
			var names []string
			for _, s := range p.Steps {
				names = append(names, s.Name)
			}
			if fmt.Sprint(names) != c.want {
				t.Errorf("steps %v", names)
			}
			checkSizes(t, p, out)
			if v, err := Verify(context.Background(), out, testEnv()); err != nil || len(v.Faults) > 0 {
				t.Errorf("%v, %+v", err, v)
			}
			d := &pruneDecision{}
			b.check(decodeDecision(p.Steps[0].Decision, d))
			small, err := d.Cut.Arch(b.open(b.src).arch)
			b.check(err)
			r := b.open(out)
			if r.arch.D != small.D || len(r.arch.Layers) != len(small.Layers) || r.arch.Layers[0].F != small.Layers[0].F {
				t.Errorf("width %d of %d layers with %d FFN channels, decided were %d, %d and %d", r.arch.D, len(r.arch.Layers), r.arch.Layers[0].F, small.D, len(small.Layers), small.Layers[0].F)
			}
			if p.Output.Quantization == "" {
				ids := testmodel.Windows(1, 24, r.arch.V, 5)[0]
				fast, err := r.model(testEnv().Device).Logits(ids)
				b.check(err)
				if d := farthest(t, fast, b.logits64(b.stock(out), ids)); !(d <= 1e-4) {
					t.Errorf("logits of the forward pass and of the reference differ by %.3g", d)
				}
			}
			ppl, source := toFloat(rep.Quality.Source.PPL), toFloat(rep.Quality.Source.SourcePPL)
			t.Logf("%s: %d of %d layers, perplexity %g, of the source %g", d.Metric, len(r.arch.Layers), len(d.Cut.Layers), ppl, source)
			if len(r.arch.Layers) != 3 || !d.Cut.Layers[2].Drop {
				t.Errorf("%d layers are left", len(r.arch.Layers))
			}
			if !(ppl < 2*source) {
				t.Errorf("perplexity %g of %g", ppl, source)
			}
		})
	}
}

// TestPrunedThenPruned: a result is a source like any other.
func TestPrunedThenPruned(t *testing.T) {
	for _, c := range []struct{ model, share string }{{"llama-bias", "0.6667"}, {"gpt2", "0.75"}} {
		section := "method: minitron, params: 0.66, axes: [hidden, heads, ffn, layers], multiple: 4"
		b := newBench(t, deep(c.model, 4, formats.F32), pruneRecipe(section))
		first := b.runPruned()
		second := &bench{t: t, dir: t.TempDir(), src: first.out, data: b.data, recipe: pruneRecipe("method: random, params: 0.7, multiple: 4, layout: compact, axes: [ffn]"), anywhere: true}
		second.checkPruned(second.runPruned())
		third := &bench{t: t, dir: t.TempDir(), src: second.dir + "/out", data: b.data, recipe: pruneRecipe("method: minitron, layout: compact, axes: [layers], kv: " + c.share), anywhere: true}
		third.checkPruned(third.runPruned())
	}
}

// TestTrainedThenRotated: a rotation is of the weights that training leaves, of masks' companions as of a student.
func TestTrainedThenRotated(t *testing.T) {
	for _, steps := range []string{
		"prune: {method: vib, params: 0.7636, axes: [ffn, layers], multiple: 32, candidates: 2, vib: {steps: 6, batch: 2, joint: true}}\n",
		"distill: {steps: 2, batch: 2, ce: 1, rate: 0.01}\n",
	} {
		b := newBench(t, testmodel.New(testmodel.Options{Layers: 4, D: 128, H: 8, G: 4, F: 256, V: 128, Seed: 31}), pruneData+steps)
		_, _, plain := b.run()
		b.recipe += "quantize: {method: rtn, bits: 8, group_size: 32, rotate: hadamard}"
		p, err := b.plan()
		b.check(err)
		o := b.options(p, "rotated")
		_, err = Apply(context.Background(), o)
		b.check(err)
		if moved := b.logitError(b.src, plain); moved < 1e-3 {
			t.Errorf("%s: logits moved by %g", steps, moved)
		}
		if e := b.logitError(plain, o.Out); !(e > 0 && e < 0.03) {
			t.Errorf("%s: relative logit error %g", steps, e)
		}
	}
}
