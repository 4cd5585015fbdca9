package distill

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"modelpress/calib"
	"modelpress/internal/arch"
	"modelpress/internal/nn"
	"modelpress/internal/testmodel"
)

// trainModels are small models of the families and shapes that training has cases for.
func trainModels() []testmodel.Case {
	base := testmodel.Options{Layers: 2, D: 16, H: 4, K: 4, F: 24, V: 32, Context: 24, Seed: 31}
	with := func(f func(o *testmodel.Options)) testmodel.Options { o := base; f(&o); return o }
	return []testmodel.Case{
		{Name: "llama", Options: base},
		{Name: "llama-gqa-bias", Options: with(func(o *testmodel.Options) { o.G, o.Bias = 2, true })},
		{Name: "llama-tied", Options: with(func(o *testmodel.Options) { o.G, o.Tied = 1, true })},
		{Name: "llama-uneven", Options: with(func(o *testmodel.Options) {
			o.Layers, o.G = 4, 4
			o.PerLayer = map[int]testmodel.Sizes{1: {NoAttention: true}, 2: {H: 4, G: 2, F: 20}, 3: {NoFeedFwd: true}}
		})},
		{Name: "qwen3", Options: with(func(o *testmodel.Options) { o.Family, o.G, o.K = "qwen3", 2, 8 })},
		{Name: "gpt2", Options: with(func(o *testmodel.Options) { o.Family, o.F = "gpt2", 64 })},
	}
}

// student reads a model for training.
func student(t testing.TB, o testmodel.Options, threads int) (*nn.Model, *Params) {
	t.Helper()
	src := testmodel.New(o)
	p := newTestParams(t, src, described(t, src.Config, src), false)
	return nn.New(deviceOf(threads), p, p.Arch), p
}

// frozen reads a model that is not trained.
func frozen(t testing.TB, o testmodel.Options, threads int) *nn.Model {
	t.Helper()
	src := testmodel.New(o)
	return nn.New(deviceOf(threads), src, described(t, src.Config, src))
}

// text returns windows with something to learn: each token follows from the one before it but for a tenth, which is drawn.
func text(n, length, vocab int, seed uint64) calib.Windows {
	rng := rand.New(rand.NewPCG(seed, 7))
	out := make([][]int32, n)
	for i := range out {
		ids := make([]int32, length)
		for j := range ids {
			if j == 0 || rng.IntN(10) == 0 {
				ids[j] = int32(rng.IntN(vocab))
				continue
			}
			ids[j] = (5*ids[j-1] + 3) % int32(vocab)
		}
		out[i] = ids
	}
	return calib.NewWindows(out)
}

// run is a short training run.
func newRun(m *nn.Model, p *Params, steps int) *Trainer {
	return &Trainer{Model: m, Params: p, Objective: Objective{CE: 1}, Data: text(40, 16, m.Arch.V, 1), Heldout: text(4, 16, m.Arch.V, 2),
		Options: Options{Schedule: Schedule{Steps: steps, Warmup: 2, LR: 1e-2, Decay: Cosine, Floor: 0.1}, Batch: 2, Accumulate: 2, Seed: 5, Clip: 1}}
}

func train(t testing.TB, r *Trainer) []Report {
	t.Helper()
	var out []Report
	r.Options.Progress = func(p Report) { out = append(out, p) }
	if err := r.Train(t.Context()); err != nil {
		t.Fatal(err)
	}
	return out
}

// TestTrainingFromScratch: the loss falls well below that of guessing, in every family.
func TestTrainingFromScratch(t *testing.T) {
	for _, c := range trainModels() {
		t.Run(c.Name, func(t *testing.T) {
			t.Parallel()
			o := c.Options
			m, p := student(t, o, 1)
			r := newRun(m, p, 60)
			before, err := r.Evaluate(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			reports := train(t, r)
			after, err := r.Evaluate(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			last := reports[len(reports)-1]
			t.Logf("loss %.3f to %.3f, held out %.3f to %.3f", reports[0].Loss, last.Loss, before.Loss, after.Loss)
			if len(reports) != 60 || last.Step != 60 || last.Tokens != 60*4*16 {
				t.Errorf("%d reports, the last is %+v", len(reports), last)
			}
			if !(last.Loss < 0.6*reports[0].Loss) || !(after.Loss < 0.9*before.Loss) {
				t.Error("nothing was learnt")
			}
		})
	}
}

// objectives are those whose gradients are checked. teacher has another width, depth and number of heads than the student.
func objectives(o testmodel.Options, teacher *nn.Model, d int) map[string]Objective {
	last := max(o.Layers, 2) - 1
	m := func(name string) *Map { return NewMap(name, d, teacher.Arch.D, 3) }
	return map[string]Objective{
		"ce":                {CE: 1},
		"kl":                {KL: 1, Teacher: teacher, Temperature: 1},
		"kl, ce at tau 2.5": {KL: 0.7, CE: 0.4, Teacher: teacher, Temperature: 2.5},
		"cosine": {Teacher: teacher, Hidden: []HiddenTerm{{Student: 0, Teacher: 1, Map: m("a"), Weight: 1.5},
			{Student: last, Teacher: 2, Map: m("b"), Weight: 0.5}}},
		"mse of the embedding": {Teacher: teacher, Hidden: []HiddenTerm{{Student: -1, Teacher: -1, Distance: SquaredDistance, Map: m("a"), Weight: 2}}},
		"minilm":               DistillLayers(teacher, 2, 0, false),
		"minilm v2":            DistillLayers(teacher, 1, 0, true),
		"all": {CE: 0.3, KL: 0.5, Teacher: teacher, Hidden: []HiddenTerm{{Student: 0, Teacher: 1, Map: m("a"), Weight: 0.4}},
			Relations: DistillLayers(teacher, 2, 0, true).Relations},
	}
}

// TestGradientOfObjective compares the gradient of a step with central differences of the objective, as an evaluation measures it: for
// each tensor, along its gradient and along a random direction.
func TestGradientOfObjective(t *testing.T) {
	teacherOptions := testmodel.Options{Layers: 3, D: 24, H: 4, G: 2, K: 6, F: 32, V: 32, Context: 24, Seed: 77}
	for _, c := range trainModels() {
		names := []string{"ce", "all"}
		if c.Name == "llama-gqa-bias" || c.Name == "gpt2" {
			names = []string{"ce", "kl", "kl, ce at tau 2.5", "cosine", "mse of the embedding", "minilm", "minilm v2", "all"}
		}
		for _, name := range names {
			t.Run(c.Name+"/"+name, func(t *testing.T) {
				t.Parallel()
				m, p := student(t, c.Options, 1)
				r := newRun(m, p, 10)
				r.Objective = objectives(c.Options, frozen(t, teacherOptions, 1), m.Arch.D)[name]
				r.Heldout = calib.NewWindows([][]int32{r.Data.IDs[0], r.Data.IDs[1][:9], r.Data.IDs[2]})
				r.Data = r.Heldout
				r.Options.InOrder, r.Options.Batch, r.Options.Accumulate = true, 2, 2 // the fourth window is the first again
				r.Heldout = calib.NewWindows(append(slices.Clone(r.Data.IDs), r.Data.IDs[0]))
				if err := r.prepare(); err != nil {
					t.Fatal(err)
				}
				checkGradient(t, r)
			})
		}
	}
}

func checkGradient(t *testing.T, r *Trainer) {
	t.Helper()
	if err := r.gradient(t.Context(), r.windowsOf(0)); err != nil {
		t.Fatal(err)
	}
	loss := r.part.loss()
	var grads [][]float32
	if r.sink != nil {
		grads = onHost(r.sink.grads())
	}
	grads = append(slices.Clone(grads), r.Objective.grads()...)
	eval := func() float64 {
		h, err := r.Evaluate(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return h.Loss
	}
	if v := eval(); math.Abs(v-loss) > 1e-6*math.Abs(v) {
		t.Errorf("the step has a loss of %v, the evaluation %v", loss, v)
	}
	rng, checked := rand.New(rand.NewPCG(1, 2)), 0
	for i, q := range r.optimizer.Params() {
		if grads[i] == nil {
			checkUntouched(t, r, q, loss, eval)
			continue
		}
		size := 0.0
		for _, g := range grads[i] {
			size += float64(g) * float64(g)
		}
		size = math.Sqrt(size)
		// Along the gradient the loss changes most; a random direction has no reason to agree.
		for try := range 2 {
			u, norm, slope := make([]float64, q.Len()), 0.0, 0.0
			for j, g := range grads[i] {
				if u[j] = rng.NormFloat64(); try == 0 && size > 0 {
					u[j] = float64(g)
				}
				norm += u[j] * u[j]
			}
			for j, g := range grads[i] {
				u[j] /= math.Sqrt(norm)
				slope += float64(g) * u[j]
			}
			const h = 1e-2
			got := (4*difference(r, q, u, h/2, eval) - difference(r, q, u, h, eval)) / 3
			if tol := 2e-3*math.Abs(got) + 1e-4*max(1, loss); !(math.Abs(got-slope) <= tol) {
				t.Errorf("%s: slope %g, difference %g, tolerance %g (direction %d)", q.Name, slope, got, tol, try)
			}
			checked++
		}
	}
	t.Logf("%d directions, loss %.4f", checked, loss)
}

// difference is the central difference of f along u at distance h.
func difference(r *Trainer, q *Param, u []float64, h float64, f func() float64) float64 {
	was := make([]float32, q.Len())
	q.Read(was, 0)
	at := func(h float64) float64 {
		v := make([]float32, len(was))
		for j := range v {
			v[j] = float32(float64(was[j]) + h*u[j])
		}
		q.Write(v, 0)
		r.refresh()
		return f()
	}
	d := (at(h) - at(-h)) / (2 * h)
	q.Write(was, 0)
	r.refresh()
	return d
}

// checkUntouched: what the objective is said not to depend on, it does not depend on.
func checkUntouched(t *testing.T, r *Trainer, q *Param, loss float64, eval func() float64) {
	t.Helper()
	was := make([]float32, q.Len())
	q.Read(was, 0)
	v := slices.Clone(was)
	for j := range v {
		v[j] += 0.5
	}
	q.Write(v, 0)
	r.refresh()
	if got := eval(); math.Abs(got-loss) > 1e-6*math.Abs(loss) {
		t.Errorf("%s is left out, and changes the loss from %v to %v", q.Name, loss, got)
	}
	q.Write(was, 0)
	r.refresh()
}

// adapted puts adapters whose factors are not zero on the projections of a model.
func adapted(t testing.TB, o testmodel.Options, threads int, roles ...arch.Role) (*nn.Model, *LoRA) {
	t.Helper()
	m, p := student(t, o, threads)
	l, err := NewLoRA(p, LoRAOptions{Roles: roles, Rank: 3, Alpha: 6, Seed: 2})
	if err != nil {
		t.Fatal(err)
	}
	drawB(l)
	return nn.New(m.Dev, l, p.Arch), l
}

// TestGradientOfAdapters compares the gradients by adapters with differences, also where the objective does not reach all of them.
func TestGradientOfAdapters(t *testing.T) {
	teacher := testmodel.Options{Layers: 3, D: 24, H: 4, G: 2, K: 6, F: 32, V: 32, Context: 24, Seed: 77}
	for _, c := range trainModels() {
		for _, name := range []string{"ce", "minilm"} {
			m, l := adapted(t, c.Options, 2, arch.Roles()...)
			r := newRun(m, nil, 10)
			r.LoRA, r.Objective = l, objectives(c.Options, frozen(t, teacher, 1), m.Arch.D)[name]
			r.Data = calib.NewWindows(r.Data.IDs[:4])
			r.Heldout, r.Options.InOrder = r.Data, true
			if err := r.prepare(); err != nil {
				t.Fatal(err)
			}
			checkGradient(t, r)
		}
	}
}

// TestGradientOfMasks compares the gradients by masks with differences, with weights that are read from a source and with such
// that are trained along, whose gradients the masks change.
func TestGradientOfMasks(t *testing.T) {
	for _, c := range trainModels() {
		for _, joint := range []bool{false, true} {
			m, p := student(t, c.Options, 2)
			if !joint {
				m, p = frozen(t, c.Options, 2), nil
			}
			r := newRun(m, p, 10)
			masks := newTestMasks(m.Arch)
			masks.noise, masks.kept = 0, masks.Kept()
			r.Masks, r.Data, r.Options.InOrder = masks, calib.NewWindows(r.Data.IDs[:4]), true
			r.Heldout = r.Data
			if err := r.prepare(); err != nil {
				t.Fatal(err)
			}
			if err := r.beginMasks(0, 4); err != nil {
				t.Fatal(err)
			}
			checkGradient(t, r)
			if err := r.beginMasks(0, 4); err != nil {
				t.Fatal(err)
			}
			if err := r.gradient(t.Context(), r.windowsOf(0)); err != nil {
				t.Fatal(err)
			}
			type group struct {
				v []float32
				g []float64
			}
			var groups []group
			masks.each(func(v []float32, g []float64) { groups = append(groups, group{v, slices.Clone(g)}) })
			for i, g := range groups {
				for _, at := range []int{0, len(g.v) / 2} {
					if len(g.v) == 0 {
						continue
					}
					checkMask(t, r, fmt.Sprintf("%s, group %d, unit %d", c.Name, i, at), &g.v[at], g.g[at])
				}
			}
		}
	}
}

func checkMask(t *testing.T, r *Trainer, what string, v *float32, slope float64) {
	t.Helper()
	const h = 1e-2
	was := *v
	at := func(h float32) float64 {
		*v = was + h
		got, err := r.Evaluate(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return got.Loss
	}
	got := (4*(at(h/2)-at(-h/2))/h - (at(h)-at(-h))/(2*h)) / 3
	*v = was
	if math.Abs(got-slope) > 2e-3*math.Abs(got)+3e-4 {
		t.Errorf("%s: slope %g, difference %g", what, slope, got)
	}
}
