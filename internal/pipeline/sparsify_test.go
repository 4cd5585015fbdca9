package pipeline

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"modelpress/calib"
	"modelpress/formats"
	"modelpress/internal/arch"
	"modelpress/internal/nn"
	"modelpress/internal/testmodel"
	"modelpress/prune/sparse"
	"modelpress/quantize"
)

func sparsifyRecipe(section string) string {
	return "calibration: {sequences: 8, holdout: 2, length: 32}\nsparsify: {" + section + "}"
}

// weightsOf returns every projection of a checkpoint in its logical form, by layer and role.
func (b *bench) weightsOf(dir string) (list [][arch.NumRoles][]float32, m *arch.Model) {
	b.t.Helper()
	model := b.open(dir).model(testEnv().Device)
	for l := range model.Arch.Layers {
		blk, err := model.LoadBlock(l)
		b.check(err)
		var ws [arch.NumRoles][]float32
		for role, lin := range blk.Arch().Linears {
			if lin.Present() {
				ws[role], err = blk.Weight(arch.Role(role))
				b.check(err)
			}
		}
		list = append(list, ws)
		blk.Free()
	}
	return list, model.Arch
}

// TestSparsify runs methods and patterns on families of every layout: the pattern is in what was written, everything else stays byte for
// byte, the files are those of the plan, and the report counts what lies on disk.
func TestSparsify(t *testing.T) {
	for _, c := range []struct {
		model, section string
		store          formats.DType
	}{
		{"llama-gqa", "", formats.F32}, {"llama-gqa", "pattern: '2:4'", formats.BF16}, {"llama-gqa", "method: wanda", formats.F16},
		{"llama-gqa", "method: wanda, pattern: '4:8'", formats.F32}, {"llama-gqa", "method: magnitude, ratio: 0.25, per: row", formats.BF16},
		{"llama-gqa", "ratio: 0.3, block: 48, ignore: ['re:model.layers.0.', 're:.*down_proj']", formats.F32},
		{"gpt2", "", formats.BF16}, {"gpt2", "pattern: '2:4', block: 64", formats.F32}, {"gpt2", "method: wanda, per: matrix, ratio: 0.4", formats.F32},
		{"gpt2", "method: magnitude, pattern: '1:2', ignore: ['re:.*c_fc']", formats.F16},
		{"llama-mqa-tied", "pattern: '2:4'", formats.F16}, {"qwen3-tied", "ratio: 0.4", formats.BF16}, {"qwen2", "method: wanda, pattern: '2:4'", formats.F32},
		{"mistral-swa", "method: magnitude", formats.F32},
	} {
		t.Run(c.model+"/"+c.section, func(t *testing.T) {
			options := testmodel.Named(c.model).Options
			options.DType = c.store
			b := newBench(t, testmodel.New(options), sparsifyRecipe(c.section))
			p, err := b.plan()
			b.check(err)
			o := b.options(p, "out")
			res, err := Apply(context.Background(), o)
			b.check(err)
			if e := b.logitError(b.src, o.Out); e == 0 || e > 1 {
				t.Errorf("relative logit error %g", e)
			}
			checkSizes(t, p, o.Out)
			b.checkSparse(p.Steps[0].Decision, o.Out, res.Report)
			changed := map[string]bool{}
			for _, ch := range p.Changes {
				changed[ch.Tensor] = ch.Reason == reasonSparsified && ch.Step == stepSparsify
			}
			b.sameTensors(o.Out, func(name string) bool { return changed[name] })
			if res.Report.BytesAfter != res.Report.BytesBefore || p.Output.Quantization != "" {
				t.Errorf("%d bytes became %d, %q", res.Report.BytesBefore, res.Report.BytesAfter, p.Output.Quantization)
			}
			config, err := os.ReadFile(filepath.Join(o.Out, configName))
			b.check(err)
			for _, word := range []string{"spars", "quantization_config", "compress"} {
				if bytes.Contains(config, []byte(word)) {
					t.Errorf("config.json holds %q", word)
				}
			}
			if v, err := Verify(context.Background(), o.Out, testEnv()); err != nil || len(v.Faults) > 0 {
				t.Errorf("%v, %+v", err, v)
			}
		})
	}
}

// checkSparse counts the zeros of a result and compares them with the decision and the report.
func (b *bench) checkSparse(decision []byte, out string, rep *Report) {
	b.t.Helper()
	d := &sparsifyDecision{}
	b.check(decodeDecision(decision, d))
	s, err := d.scheme()
	b.check(err)
	have, m := b.weightsOf(out)
	source, _ := b.weightsOf(b.src)
	noted := map[string][]tensorNote{}
	for _, n := range rep.Matrices {
		noted[n.Tensor] = append(noted[n.Tensor], n)
	}
	var weights, zeros int64
	for l, ws := range have {
		for role, w := range ws {
			lin := m.Layers[l].Linears[role]
			if w == nil || !d.has(lin.Module()) {
				if !slices.Equal(w, source[l][role]) {
					b.t.Errorf("%s changed", lin.Weight)
				}
				continue
			}
			n, err := s.Holds(w, lin.Out, lin.In)
			if err != nil || n != s.Zeros(lin.Out, lin.In) {
				b.t.Errorf("%s: %d zeros, want %d: %v", lin.Weight, n, s.Zeros(lin.Out, lin.In), err)
			}
			weights, zeros = weights+int64(len(w)), zeros+int64(n)
			found := slices.ContainsFunc(noted[lin.Weight], func(t tensorNote) bool {
				return t.Weights == int64(len(w)) && t.Zeros == int64(n) && t.Loss > 0 && t.Loss < 1 && (t.Metric == "output") == d.needsData()
			})
			if !found {
				b.t.Errorf("%s has %d zeros of %d, noted is %+v", lin.Weight, n, len(w), noted[lin.Weight])
			}
		}
	}
	if r := rep.Sparsity; r == nil || r.Weights != weights || r.Zeros != zeros || r.Method != d.Method || zeros == 0 {
		b.t.Errorf("report %+v, %d zeros of %d", r, zeros, weights)
	}
}

// TestSparsifyIdentity: a share so small that no weight goes leaves every tensor byte for byte.
func TestSparsifyIdentity(t *testing.T) {
	for _, model := range []string{"llama-gqa", "gpt2"} {
		for _, method := range []string{"sparsegpt", "wanda", "magnitude"} {
			b := newBench(t, testmodel.Named(model), sparsifyRecipe("method: "+method+", ratio: 0.000001"))
			p, rep, out := b.run()
			if kept := b.sameTensors(out, none); kept != len(p.Source.Tensors) || rep.Sparsity.Zeros != 0 || rep.SourceWeights != rep.WeightsDigest {
				t.Errorf("%s, %s: %d tensors of %d kept, %+v", model, method, kept, len(p.Source.Tensors), rep.Sparsity)
			}
		}
	}
}

// TestSparsifySeesWhatIsSparse: each projection was chosen on the inputs that it has in the result, which those before it give.
func TestSparsifySeesWhatIsSparse(t *testing.T) {
	for _, name := range []string{"llama-gqa", "gpt2"} {
		b := newBench(t, testmodel.Named(name), sparsifyRecipe("method: wanda, ratio: 0.5"))
		_, _, out := b.run()
		r, err := ParseRecipe([]byte(b.recipe))
		b.check(err)
		s := b.open(b.src)
		set, err := loadData(context.Background(), s, r, b.paths())
		b.check(err)
		source, _ := b.weightsOf(b.src)
		written, _ := b.weightsOf(out)
		result := b.open(out).model(testEnv().Device)
		var states [][]float32
		for _, ids := range set.set.Calib.IDs {
			x := make([]float32, len(ids)*result.Arch.D)
			b.check(result.Embed(x, ids))
			states = append(states, x)
		}
		for l := range result.Arch.Layers {
			blk, err := result.LoadBlock(l)
			b.check(err)
			grams := map[nn.Site]*calib.Gram{}
			for _, site := range blk.Arch().Sites() {
				grams[site] = calib.NewGram(blk.Arch().Width(site))
			}
			for i, x := range states {
				b.check(blk.Forward(x, len(set.set.Calib.IDs[i]), &nn.Pass{Tap: func(site nn.Site, in []float32, rows, _ int) { grams[site].Add(in, rows, nil, nil) }}))
			}
			for _, site := range blk.Arch().Sites() {
				g := grams[site]
				for _, role := range site.Roles() {
					lin := blk.Arch().Linears[role]
					if !lin.Present() {
						continue
					}
					second := make([]float64, lin.In)
					for j := range second {
						second[j] = g.H[j*lin.In+j]
					}
					want, _, err := sparse.Wanda(source[l][role], lin.Out, lin.In, second, sparse.Scheme{Pattern: sparse.Pattern{Ratio: 0.5}, PerRow: true}, s.weightDType(lin.Weight), nil)
					b.check(err)
					if !slices.Equal(want, written[l][role]) {
						t.Errorf("%s: layer %d: %s was chosen on other inputs than it has", name, l, role)
					}
				}
			}
			blk.Free()
		}
	}
}

// TestSparseIsWhatWasDecided: the result holds the very values that were put into the forward pass, however states were kept.
func TestSparseIsWhatWasDecided(t *testing.T) {
	b := newBench(t, testmodel.Named("llama-gqa"), sparsifyRecipe("pattern: '2:4'"))
	_, _, out := b.run()
	r, err := ParseRecipe([]byte(b.recipe))
	b.check(err)
	s := b.open(b.src)
	d, err := decideSparsify(s.arch, r.Sparsify)
	b.check(err)
	set, err := loadData(context.Background(), s, r, b.paths())
	b.check(err)
	written, _ := b.weightsOf(out)
	model := s.model(testEnv().Device)
	z := &sparsifier{d: d, dev: model.Dev, store: s.weightDType}
	l := 0
	b.followBlocks(z, model, set.set.Calib.IDs, func(blk *nn.Block, _ map[arch.Role]*quantize.Matrix) {
		for role, want := range written[l] {
			if have, err := blk.Weight(arch.Role(role)); err != nil || !slices.Equal(have, want) {
				t.Errorf("layer %d, %s differs from what was decided (%v)", l, arch.Role(role), err)
			}
		}
		l++
	})
}

// TestSparsifyMethods: corrections lose less than the right choice, and that less than magnitude, on held-out text as in each matrix.
func TestSparsifyMethods(t *testing.T) {
	kl := map[string]float64{}
	for _, method := range []string{"sparsegpt", "wanda", "magnitude"} {
		b := newBench(t, testmodel.New(testmodel.Options{Layers: 3, D: 64, H: 4, G: 2, F: 128, V: 96, Seed: 5}),
			"calibration: {sequences: 14, holdout: 2, length: 32}\nsparsify: {pattern: '2:4', method: "+method+"}")
		_, rep, _ := b.run()
		kl[method] = toFloat(rep.Quality.Source.KL)
	}
	t.Logf("KL on held-out windows %v", kl)
	if !(kl["sparsegpt"] < kl["wanda"] && kl["wanda"] < kl["magnitude"]) {
		t.Error(kl)
	}
}

// TestSparsifyResume interrupts an apply after every part; the result is that of a run in one go.
func TestSparsifyResume(t *testing.T) {
	b := newBench(t, testmodel.New(testmodel.Options{Layers: 4, D: 64, H: 4, G: 2, F: 128, V: 128, Seed: 21}), sparsifyRecipe("pattern: '2:4'"))
	p, err := b.plan()
	b.check(err)
	whole := b.options(p, "whole")
	_, err = Apply(context.Background(), whole)
	b.check(err)
	for parts := 1; parts <= 5; parts++ {
		o := b.options(p, "resumed")
		b.interrupted(o, parts)
		if parts < 5 {
			b.interrupted(o, parts+1)
		}
		res, err := Apply(context.Background(), o)
		b.check(err)
		if !res.Resumed {
			t.Errorf("after %d parts: not resumed", parts)
		}
		b.sameDirs(whole.Out, o.Out)
		b.check(os.RemoveAll(o.Out))
	}
}

// TestSparsifyBesides: the steps before it are for the model that it makes sparse.
func TestSparsifyBesides(t *testing.T) {
	b := newBench(t, testmodel.New(mergeOptions(0)), "calibration: {sequences: 8, holdout: 2, length: 32}\nkvmerge: {kv_heads: 2, mix: true}\n"+
		"heads: {method: projected_error, full_share: 0.5, sink: 2, recent: 8}\nsparsify: {pattern: '2:4'}")
	p, rep, out := b.run()
	var names []string
	for _, s := range p.Steps {
		names = append(names, s.Name)
	}
	if fmt.Sprint(names) != "[kvmerge heads sparsify]" {
		t.Error(names)
	}
	checkSizes(t, p, out)
	d := &sparsifyDecision{}
	b.check(decodeDecision(p.Steps[2].Decision, d))
	s, err := d.scheme()
	b.check(err)
	ws, m := b.weightsOf(out)
	var zeros int64
	for l := range ws {
		for role, w := range ws[l] {
			lin := m.Layers[l].Linears[role]
			n, err := s.Holds(w, lin.Out, lin.In)
			b.check(err)
			zeros += int64(n)
		}
	}
	if m.Layers[0].G != 2 || zeros != rep.Sparsity.Zeros {
		t.Errorf("%d KV heads, %d zeros, reported %d", m.Layers[0].G, zeros, rep.Sparsity.Zeros)
	}
	if v, err := Verify(context.Background(), out, testEnv()); err != nil || len(v.Faults) > 0 {
		t.Errorf("%v, %+v", err, v)
	}
}

// TestSparsifyThenQuantize: rounding to nearest, in a second run, keeps the zeros of the first.
func TestSparsifyThenQuantize(t *testing.T) {
	b := newBench(t, testmodel.Named("llama-gqa"), sparsifyRecipe("pattern: '2:4'"))
	_, _, out := b.run()
	for _, section := range []string{"bits: 4", "bits: 4, symmetric: false", "bits: 3, group_size: 64"} {
		second := &bench{t: t, dir: t.TempDir(), src: out, recipe: "quantize: {method: rtn, group_size: 32, " + section + "}"}
		if strings.Contains(section, "group_size") {
			second.recipe = "quantize: {method: rtn, " + section + "}"
		}
		_, _, quantized := second.run()
		ws, m := b.weightsOf(quantized)
		for l := range ws {
			for role, w := range ws[l] {
				lin := m.Layers[l].Linears[role]
				if _, err := (sparse.Scheme{Pattern: sparse.Pattern{N: 2, M: 4}}).Holds(w, lin.Out, lin.In); err != nil {
					t.Errorf("%s: %s: %v", section, lin.Weight, err)
				}
			}
		}
	}
}

// TestSparsifyRules: groups that do not divide the inputs are refused at plan time, tensor by tensor.
func TestSparsifyRules(t *testing.T) {
	b := newBench(t, testmodel.New(testmodel.Options{D: 64, H: 4, G: 2, F: 100, V: 96, Seed: 5}), sparsifyRecipe("pattern: '4:8', block: 64"))
	_, err := b.plan()
	if KindOf(err) != KindUsage || !strings.Contains(err.Error(), `down_proj.weight", * = 0-1): 100 inputs do not divide into groups of 8; fix: set sparsify.pattern to unstructured, or add the module to sparsify.ignore`) {
		t.Error(err)
	}
	b.recipe = sparsifyRecipe("pattern: '4:8', block: 64, ignore: ['re:.*down_proj']")
	_, err = b.plan()
	b.check(err)
}
