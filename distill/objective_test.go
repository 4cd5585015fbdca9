package distill

import (
	"context"
	"errors"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"modelpress/calib"
	"modelpress/internal/nn"
	"modelpress/internal/testmodel"
)

// taught returns a teacher that has learnt the text, and its width.
func taught(t testing.TB) *nn.Model {
	t.Helper()
	m, p := student(t, testmodel.Options{Layers: 3, D: 24, H: 4, K: 6, F: 48, V: 32, Context: 24, Seed: 77}, 1)
	r := newRun(m, p, 60)
	train(t, r)
	return m
}

// smaller is what is distilled into.
func smaller(t testing.TB) (*nn.Model, *Params) {
	return student(t, testmodel.Options{Layers: 2, D: 16, H: 2, G: 1, K: 8, F: 24, V: 32, Context: 24, Seed: 8}, 1)
}

func measure(t testing.TB, m []Measure, name string) float64 {
	t.Helper()
	i := slices.IndexFunc(m, func(m Measure) bool { return m.Name == name })
	if i < 0 {
		t.Fatalf("no measure %s in %v", name, m)
	}
	return m[i].Value
}

// falls trains and returns the held-out loss before and after.
func falls(t testing.TB, r *Trainer) (before, after Heldout) {
	t.Helper()
	before, err := r.Evaluate(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	train(t, r)
	if after, err = r.Evaluate(t.Context()); err != nil {
		t.Fatal(err)
	}
	return before, after
}

// TestDistillation: each objective falls on held-out windows, and what it is a means to with it.
func TestDistillation(t *testing.T) {
	teacher := taught(t)
	divergence := func(t *testing.T, m *nn.Model) float64 {
		c, err := calib.Compare(t.Context(), teacher, m, text(4, 16, 32, 2), calib.EvalOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return c.KL
	}
	for name, c := range map[string]struct {
		objective Objective
		most      float64 // of the held-out loss at the start
		kl        float64 // of the divergence at the start; 0 for no matter
	}{
		"logits":           {Objective{KL: 1, Teacher: teacher}, 0.5, 0.5},
		"hot logits, ce":   {Objective{KL: 1, CE: 0.5, Temperature: 2, Teacher: teacher}, 0.6, 0.5},
		"cosine":           {Objective{Teacher: teacher, Hidden: []HiddenTerm{{Student: 1, Teacher: 2, Map: NewMap("m", 16, 24, 1), Weight: 1}}}, 0.8, 0},
		"logits, balanced": {Objective{KL: 1, Teacher: teacher, Hidden: []HiddenTerm{{Student: 0, Teacher: 1, Map: NewMap("m", 16, 24, 1), Weight: 1, Balance: true}}}, 0.5, 0.5},
		"minilm":           {DistillLayers(teacher, 1, 1, false), 0.8, 0},
		"minilm v2":        {DistillLayers(teacher, 2, 1, true), 0.8, 0},
	} {
		t.Run(name, func(t *testing.T) {
			m, p := smaller(t)
			r := newRun(m, p, 60)
			r.Objective = c.objective
			kl := divergence(t, m)
			before, after := falls(t, r)
			t.Logf("held out %.4f to %.4f, divergence %.3f to %.3f", before.Loss, after.Loss, kl, divergence(t, m))
			if !(after.Loss < c.most*before.Loss) {
				t.Error("the objective does not fall")
			}
			if now := divergence(t, m); c.kl > 0 && !(now < c.kl*kl) {
				t.Errorf("the divergence goes from %g to %g", kl, now)
			}
			if v := measure(t, after.Parts, after.Parts[0].Name); c.objective.KL == 1 && c.objective.CE == 0 && math.Abs(v-divergence(t, m)) > 0.05*v { // which leaves out the last token of each window
				t.Errorf("the held-out divergence is %g, package calib has %g", v, divergence(t, m))
			}
		})
	}
}

// TestTeacherAssistant: a model between the two is distilled first and then teaches, as MiniLM has it for students much smaller than
// their teacher. Both are runs like any other.
func TestTeacherAssistant(t *testing.T) {
	teacher := taught(t)
	m, p := student(t, testmodel.Options{Layers: 3, D: 16, H: 4, K: 4, F: 32, V: 32, Context: 24, Seed: 9}, 1)
	first := newRun(m, p, 40)
	first.Objective = DistillLayers(teacher, 2, 2, true)
	_, a := falls(t, first)
	s, sp := smaller(t)
	second := newRun(s, sp, 40)
	second.Objective = DistillLayers(m, 2, 1, true)
	b, c := falls(t, second)
	if !(c.Loss < 0.8*b.Loss) || a.Loss <= 0 {
		t.Errorf("assistant %g, student %g to %g", a.Loss, b.Loss, c.Loss)
	}
}

// TestSelfDistillation: a student that is its teacher has no divergence, no relations to learn and no gradient.
func TestSelfDistillation(t *testing.T) {
	o := trainModels()[1].Options
	m, p := student(t, o, 1)
	teacher := frozen(t, o, 1)
	for _, obj := range []Objective{{KL: 1, Teacher: teacher}, DistillLayers(teacher, 1, 1, false), DistillLayers(teacher, 0, 0, true),
		{Teacher: teacher, Hidden: []HiddenTerm{{Student: 0, Teacher: 0, Distance: SquaredDistance, Weight: 1}}}} {
		r := newRun(m, p, 3)
		r.Objective = obj
		got, err := r.Step(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if got.Loss != 0 || got.Norm != 0 {
			t.Errorf("loss %g, norm %g", got.Loss, got.Norm)
		}
	}
}

// TestBalance: a hidden loss that is balanced is worth as much as the logits, and its gradient is that of the factor as a constant.
func TestBalance(t *testing.T) {
	teacher := frozen(t, testmodel.Options{Layers: 1, D: 16, H: 2, K: 8, F: 24, V: 32, Context: 24, Seed: 3}, 1)
	gradients := func(h HiddenTerm) (r *Trainer, out [][]float32) {
		m, p := smaller(t)
		r = newRun(m, p, 4)
		r.Options.Batch, r.Options.Accumulate = 1, 1
		r.Objective = Objective{KL: 0.7, Teacher: teacher, Hidden: []HiddenTerm{h}}
		if err := r.prepare(); err != nil {
			t.Fatal(err)
		}
		if err := r.gradient(t.Context(), []int{0}); err != nil {
			t.Fatal(err)
		}
		for _, g := range onHost(r.sink.grads()) {
			out = append(out, slices.Clone(g))
		}
		return r, out
	}
	balanced, got := gradients(HiddenTerm{Student: 0, Teacher: 0, Weight: 0.5, Balance: true})
	alpha := 0.5 * balanced.part.sums.Loss / balanced.part.terms[0]
	if l := balanced.part.loss(); math.Abs(l-1.5*balanced.part.sums.Loss) > 1e-9 {
		t.Errorf("loss %g, of which logits %g", l, balanced.part.sums.Loss)
	}
	_, want := gradients(HiddenTerm{Student: 0, Teacher: 0, Weight: alpha})
	for i := range want {
		if !sameBits(got[i], want[i]) {
			t.Fatalf("gradient %d differs", i)
		}
	}
}

// TestParts: how a step is split into parts changes its loss and gradients by no more than the order of sums does.
func TestParts(t *testing.T) {
	teacher := frozen(t, testmodel.Options{Layers: 2, D: 24, H: 2, G: 1, K: 12, F: 24, V: 32, Context: 24, Seed: 3}, 1)
	for name, obj := range objectives(trainModels()[0].Options, teacher, 16) {
		if name == "minilm" || name == "all" || name == "cosine" {
			continue // they ask for a third layer
		}
		var want [][]float32
		var loss float64
		for _, batch := range []int{4, 2, 1} {
			m, p := student(t, trainModels()[0].Options, 2)
			r := newRun(m, p, 4)
			r.Objective, r.Options.Batch, r.Options.Accumulate = obj, batch, 4/batch
			if err := r.prepare(); err != nil {
				t.Fatal(err)
			}
			if err := r.gradient(t.Context(), []int{2, 0, 1, 2}); err != nil {
				t.Fatal(err)
			}
			got := onHost(r.sink.grads())
			if want == nil {
				for _, g := range got {
					want = append(want, slices.Clone(g))
				}
				loss = r.part.loss()
			}
			if math.Abs(r.part.loss()-loss) > 1e-9*loss {
				t.Errorf("%s: parts of %d windows have a loss of %v, not %v", name, batch, r.part.loss(), loss)
			}
			for i := range got {
				most := 0.0
				for _, v := range want[i] {
					most = max(most, math.Abs(float64(v)))
				}
				for j, v := range want[i] {
					if math.Abs(float64(got[i][j]-v)) > 1e-5*most {
						t.Fatalf("%s: parts of %d windows have a gradient of %g, not %g (largest %g)", name, batch, got[i][j], v, most)
					}
				}
			}
		}
	}
}

// TestTopKTraining: predictions from a file teach as the teacher does, nearly so where they are most of the vocabulary.
func TestTopKTraining(t *testing.T) {
	teacher := taught(t)
	path := filepath.Join(t.TempDir(), "top")
	heldout := filepath.Join(t.TempDir(), "heldout")
	m, p := smaller(t)
	r := newRun(m, p, 60)
	for path, w := range map[string]calib.Windows{path: r.Data, heldout: r.Heldout} {
		if err := CacheTopK(t.Context(), path, teacher, w, TopKOptions{K: 28}); err != nil {
			t.Fatal(err)
		}
	}
	open := func(path string) *TopKFile {
		f, err := OpenTopK(path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		return f
	}
	r.Objective = Objective{KL: 1, TopK: open(path), HeldoutTopK: open(heldout)}
	before, after := falls(t, r)
	if !(after.Loss < 0.5*before.Loss) {
		t.Errorf("held out %g to %g", before.Loss, after.Loss)
	}
	m, p = smaller(t)
	fly := newRun(m, p, 60)
	fly.Objective = Objective{KL: 1, Teacher: teacher}
	_, want := falls(t, fly)
	t.Logf("held out %.4f to %.4f, from the teacher itself %.4f", before.Loss, after.Loss, want.Loss)
	if math.Abs(after.Loss-want.Loss) > 0.1*want.Loss {
		t.Errorf("held out %g, from the teacher itself %g", after.Loss, want.Loss)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := CacheTopK(ctx, path+"2", teacher, r.Data, TopKOptions{K: 2}); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	if left, _ := filepath.Glob(path + "2*"); len(left) > 0 {
		t.Errorf("%v stay behind", left)
	}
}

// TestTrainingStopsEarly: a run that learns too few windows by heart ends, with the parameters of its best evaluation.
func TestTrainingStopsEarly(t *testing.T) {
	m, p := student(t, trainModels()[0].Options, 1)
	r := newRun(m, p, 300)
	r.Data = calib.NewWindows(r.Data.IDs[:4])
	r.Options.Evaluate, r.Options.Patience, r.Options.KeepBest = 5, 3, true
	var losses []float64
	r.Options.Evaluated = func(h Heldout) {
		if h.Step != 5*len(losses) || h.Best != (len(losses) == 0 || h.Loss < slices.Min(losses)) {
			t.Errorf("evaluation %+v after %v", h, losses)
		}
		losses = append(losses, h.Loss)
	}
	train(t, r)
	step, best, ok := r.Best()
	if n := len(losses); !ok || r.Steps() == 300 || r.Steps() != 5*(n-1) || step != 5*(n-4) || best != slices.Min(losses) {
		t.Fatalf("best %g after %d of %d steps, %v", best, step, r.Steps(), losses)
	}
	h, err := r.Evaluate(t.Context())
	if err != nil || h.Loss != best {
		t.Errorf("the parameters have a loss of %g, the best was %g (%v)", h.Loss, best, err)
	}
	if _, err := r.Step(t.Context()); err == nil {
		t.Error("a step after the end")
	}
}

// TestDiverged: a rate that is far too high ends in an error that says so, whatever it makes of the numbers.
func TestDiverged(t *testing.T) {
	for _, c := range []struct {
		lr, explode float64
		want        string
	}{{1e30, 0, "not finite"}, {30, 4, "has grown"}, {1e38, 0, "not finite"}} {
		m, p := student(t, trainModels()[0].Options, 1)
		r := newRun(m, p, 40)
		r.Options.Schedule = Schedule{Steps: 40, LR: c.lr}
		r.Options.Explode = c.explode
		err := r.Train(t.Context())
		var d *Diverged
		if !errors.As(err, &d) || d.Step != r.Steps() || d.Rate != c.lr || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "lower rate") {
			t.Errorf("rate %g: %v", c.lr, err)
		}
	}
}

// TestTrainerRefuses: runs that make no sense.
func TestTrainerRefuses(t *testing.T) {
	o := trainModels()[0].Options
	teacher := frozen(t, o, 1)
	other := o
	other.V = 33
	for i, c := range []struct {
		change func(r *Trainer)
		want   string
	}{
		{func(r *Trainer) { r.Model = nil }, "no model"},
		{func(r *Trainer) { r.Params = nil }, "nothing is trained"},
		{func(r *Trainer) { r.Model = teacher }, "does not read"},
		{func(r *Trainer) { r.Objective = Objective{} }, "no loss"},
		{func(r *Trainer) { r.Objective.CE = -1 }, "weights"},
		{func(r *Trainer) { r.Objective = Objective{KL: 1} }, "without a teacher"},
		{func(r *Trainer) { r.Objective = Objective{KL: 1, Teacher: r.Model} }, "the teacher is the student"},
		{func(r *Trainer) { r.Objective = Objective{KL: 1, Teacher: frozen(t, other, 1)} }, "33 tokens"},
		{func(r *Trainer) { r.Objective = DistillLayers(teacher, 2, 0, true) }, "no such layers"},
		{func(r *Trainer) { r.Objective = DistillLayers(nil, 0, 0, true) }, "without a teacher"},
		{func(r *Trainer) { r.Objective.Hidden = []HiddenTerm{{Weight: 1}} }, "without a teacher"},
		{func(r *Trainer) {
			r.Objective = Objective{Teacher: teacher, Hidden: []HiddenTerm{{Weight: 1, Balance: true}}}
		}, "balanced"},
		{func(r *Trainer) { r.Data = calib.NewWindows([][]int32{{1}}) }, "1 tokens"},
		{func(r *Trainer) { r.Data = calib.NewWindows([][]int32{{1, 32}}) }, "outside the vocabulary"},
		{func(r *Trainer) { r.Data = calib.Windows{} }, "0 windows"},
		{func(r *Trainer) { r.Options.Batch = 0 }, "0 windows"},
		{func(r *Trainer) { r.Options.KeepBest = true }, "without evaluations"},
		{func(r *Trainer) { r.Options.Evaluate = 2; r.Heldout = calib.Windows{} }, "without held-out"},
		{func(r *Trainer) { r.Options.SaveEvery = 2 }, "without a place"},
		{func(r *Trainer) {
			r.Objective = Objective{KL: 1, TopK: &TopKFile{}}
			r.Options.Evaluate = 1
		}, "no predictions"},
		{func(r *Trainer) { r.Options.Schedule.LR = 0 }, "rate"},
		{func(r *Trainer) { r.Options.Clip = math.NaN() }, "norm"},
		{func(r *Trainer) {
			r.Masks = newTestMasks(r.Model.Arch)
			r.Options.Evaluate, r.Options.Patience = 1, 1
		}, "masks"},
	} {
		m, p := student(t, o, 1)
		r := newRun(m, p, 3)
		c.change(r)
		if err := r.Train(t.Context()); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("case %d: %v, want %q", i, err, c.want)
		}
	}
}
