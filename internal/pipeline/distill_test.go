package pipeline

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"modelpress/formats"
	"modelpress/formats/planfile"
	"modelpress/internal/arch"
	"modelpress/internal/testmodel"
)

const distillData = "seed: 5\ncalibration: {sequences: 14, holdout: 2, length: 32}\n"

func distillRecipe(section string) string { return distillData + "distill: {" + section + "}" }

// learner is a bench of a small model, and of a teacher like it of other weights where wanted.
func learner(t *testing.T, o testmodel.Options, section string, teacher *testmodel.Model) *bench {
	t.Helper()
	b := newBench(t, testmodel.New(o), distillRecipe(section))
	if teacher != nil {
		b.more.Teacher = b.write("teacher", teacher)
	}
	return b
}

// write writes a checkpoint below the bench's directory.
func (b *bench) write(name string, m *testmodel.Model) string {
	b.t.Helper()
	dir := filepath.Join(b.dir, name)
	b.check(os.Mkdir(dir, 0o755))
	b.check(m.Write(dir, 0))
	return dir
}

var smallLlama = testmodel.Options{Layers: 3, D: 32, H: 4, G: 2, F: 64, V: 96, Seed: 41}

// like is smallLlama with other weights.
func like(seed uint64) *testmodel.Model {
	o := smallLlama
	o.Seed = seed
	return testmodel.New(o)
}

// TestDistillFromItself: a model that predicts what its teacher does has nothing to learn, and keeps every byte.
func TestDistillFromItself(t *testing.T) {
	for _, c := range []struct {
		model, section string
		store          formats.DType
	}{
		{"llama-gqa", "steps: 3, batch: 2", formats.F32},
		{"llama-bias", "steps: 3, batch: 2, accumulate: 2, temperature: 2, schedule: linear", formats.BF16},
		{"llama-mqa-tied", "steps: 3, batch: 2, relations: {version: 2}", formats.F16},
		{"mistral-swa", "steps: 3, batch: 3, hidden: {loss: mse, weight: 1}, schedule: constant", formats.F32},
		{"qwen2", "steps: 3, batch: 2, master: bf16", formats.BF16},
		{"qwen3-tied", "steps: 3, batch: 2, lora: {rank: 4, alpha: 8}", formats.F32},
		{"llama-pruned", "steps: 3, batch: 2, eval_every: 1, patience: 2", formats.F32},
		{"gpt2", "steps: 3, batch: 2", formats.F32},
		{"gpt2", "steps: 3, batch: 2, relations: {version: 1}, lora: {rank: 2}", formats.BF16},
	} {
		t.Run(c.model+"/"+c.section, func(t *testing.T) {
			t.Parallel()
			o := testmodel.Named(c.model).Options
			o.DType = c.store
			b := newBench(t, testmodel.New(o), distillRecipe(c.section+", warmup: 0, rate: 0.01"))
			b.anywhere = true
			p, rep, out := b.run()
			checkSizes(t, p, out)
			if kept := b.sameTensors(out, none); kept != len(p.Source.Tensors) || rep.SourceWeights != rep.WeightsDigest {
				t.Errorf("%d of %d tensors kept", kept, len(p.Source.Tensors))
			}
			if q := rep.Quality.Source; toFloat(q.KL) != 0 || q.PPL != q.SourcePPL {
				t.Errorf("%+v", q)
			}
		})
	}
}

// learningCases are objectives and ways of training.
var learningCases = []struct{ name, section string }{
	{"logits", ""},
	{"temperature and ce", "temperature: 2, ce: 0.1"},
	{"top k", "top_k: 24"},
	{"top k and accumulate", "top_k: 24, temperature: 1.5, accumulate: 2, batch: 2"},
	{"hidden", "hidden: {layers: [[-2, -2], [0, 1]]}"},
	{"hidden by squares", "hidden: {loss: mse, weight: 0.1, layers: [[-1, -1]], embedding: true}"},
	{"relations v1", "relations: {version: 1}"},
	{"relations v2", "relations: {version: 2, heads: 2, student: 1, teacher: 0}, logits: 1"},
	{"bf16", "master: bf16, rate: 0.01"},
	{"lora", "lora: {rank: 4, alpha: 8}, rate: 0.02"},
	{"lora of some", "lora: {rank: 2, alpha: 4, roles: [v, down]}, rate: 0.02, top_k: 24"},
	{"looks at held-out data", "eval_every: 2, decay: 0.01, clip: 0.5"},
}

// TestDistillLearns: every objective and way of training brings a student closer to its teacher, the bytes do not depend on threads, and the
// result is an ordinary checkpoint, which a second implementation reads.
func TestDistillLearns(t *testing.T) {
	for _, c := range learningCases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := learner(t, smallLlama, with(c.section, "steps: 8, batch: 4, warmup: 1, rate: 0.003"), like(77))
			p, err := b.planOn(1)
			b.check(err)
			before := b.divergence(b.src, b.more.Teacher)
			for _, n := range []int{1, 2, 3} {
				o := b.options(p, fmt.Sprint("out", n))
				o.Env = threads(n)
				_, err := Apply(context.Background(), o)
				b.check(err)
				if n > 1 {
					b.sameDirs(filepath.Join(b.dir, "out1"), o.Out)
				}
			}
			out := filepath.Join(b.dir, "out1")
			checkSizes(t, p, out)
			after := b.divergence(out, b.more.Teacher)
			t.Logf("KL to the teacher %.4f -> %.4f on windows that were not trained on", before, after)
			if !(after < 0.97*before) {
				t.Errorf("KL to the teacher %.4f became %.4f", before, after)
			}
			ids := testmodel.Windows(1, 24, smallLlama.V, 5)[0]
			fast, err := b.open(out).model(testEnv().Device).Logits(ids)
			b.check(err)
			if d := farthest(t, fast, b.logits64(b.stock(out), ids)); !(d <= 1e-4) {
				t.Errorf("logits of the forward pass and of the reference differ by %.3g", d)
			}
			b.checkTrained(c.section, out)
		})
	}
}

// with is a section with settings of its own besides others, in the place of those of the same name.
func with(own, others string) string {
	list := []string{}
	if own != "" {
		list = append(list, own)
	}
	for _, o := range strings.Split(others, ", ") {
		name, _, _ := strings.Cut(o, " ")
		if !strings.HasPrefix(own, name) && !strings.Contains(own, ", "+name) {
			list = append(list, o)
		}
	}
	return strings.Join(list, ", ")
}

// divergence is the mean KL of a model from another on text that neither trained on.
func (b *bench) divergence(dir, from string) float64 {
	b.t.Helper()
	e, err := Evaluate(context.Background(), EvalOptions{ModelDir: dir, Reference: from, Data: b.fresh(), Length: 32, BOS: "none", Env: testEnv()})
	b.check(err)
	return e.Compare.KL
}

// fresh is a file of windows that the bench's data has not.
func (b *bench) fresh() string {
	b.t.Helper()
	path := filepath.Join(b.dir, "fresh.npy")
	b.check(os.WriteFile(path, npy(testmodel.Windows(6, 32, smallLlama.V, 1234)), 0o644))
	return path
}

// checkTrained: with low-rank changes, only the projections that were named changed, by matrices of that rank; all values of a result that
// was held in bf16 are such; else every tensor moved.
func (b *bench) checkTrained(section, out string) {
	b.t.Helper()
	s, r := b.open(b.src), b.open(out)
	for l := range s.arch.Layers {
		for role, lin := range s.arch.Layers[l].Linears {
			if !lin.Present() || !strings.Contains(section, "lora") {
				continue
			}
			trained := !strings.Contains(section, "roles") || role == int(arch.V) || role == int(arch.Down)
			was, is := float32s(b.t, s.ck, lin.Weight), float32s(b.t, r.ck, lin.Weight)
			delta := make([]float64, len(was))
			for i := range was {
				delta[i] = float64(is[i]) - float64(was[i])
			}
			rank, most := rankOf(delta, lin.Out, lin.In), 0
			if trained {
				if most = 2; !strings.Contains(section, "roles") {
					most = 4
				}
			}
			if rank > most || trained && rank == 0 {
				b.t.Errorf("%s changed by a matrix of rank %d", lin.Weight, rank)
			}
		}
	}
	for _, info := range s.ck.Tensors() {
		was, is := float32s(b.t, s.ck, info.Name), float32s(b.t, r.ck, info.Name)
		if len(info.Shape) == 1 || info.Name == s.arch.Embed || info.Name == s.arch.LMHead {
			if slices.Equal(was, is) != strings.Contains(section, "lora") {
				b.t.Errorf("%s: changed %t", info.Name, !slices.Equal(was, is))
			}
		}
		for i, v := range is {
			if strings.Contains(section, "bf16") && math.Float32bits(v)&0xffff != 0 {
				b.t.Fatalf("%s: value %d is %v", info.Name, i, v)
			}
		}
	}
}

// rankOf is the rank of a matrix [rows, cols] by elimination with full pivots, as far as it exceeds what rounding leaves.
func rankOf(a []float64, rows, cols int) int {
	largest := 0.0
	for _, v := range a {
		largest = max(largest, math.Abs(v))
	}
	for rank := range min(rows, cols) {
		at, best := 0, 0.0
		for i, v := range a {
			if math.Abs(v) > best {
				at, best = i, math.Abs(v)
			}
		}
		if best <= 1e-4*largest || best == 0 {
			return rank
		}
		r, c := at/cols, at%cols
		row := slices.Clone(a[r*cols : (r+1)*cols])
		for i := range rows {
			f := a[i*cols+c] / row[c]
			for j := range cols {
				a[i*cols+j] -= f * row[j]
			}
		}
	}
	return min(rows, cols)
}

// TestDistillRecovers: training from the source gives back some of what pruning lost, for a student of other width and depth.
func TestDistillRecovers(t *testing.T) {
	for _, c := range []struct{ model, prune, distill string }{
		{"llama-gqa", "params: 0.6537, multiple: 4, axes: [hidden, ffn]", "hidden: {layers: [[-1, -1]]}"},
		{"gpt2", "params: 0.66, axes: [ffn, layers], multiple: 4", "relations: {version: 2}"},
		{"qwen3-tied", "params: 0.6537, multiple: 4", "lora: {rank: 8}, rate: 0.003"},
		{"mistral-swa", "kv: 0.75, axes: [layers]", ""},
		{"llama-bias", "kv: 0.75, axes: [heads], layout: compact", "relations: {version: 2}"}, // three KV heads beside four
	} {
		t.Run(c.model, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, deep(c.model, 4, formats.F32), "")
			b.anywhere = true
			b.recipe = distillData + "prune: {method: minitron, " + c.prune + "}\ndistill: {" + with(c.distill, "steps: 14, batch: 4, rate: 0.0007, warmup: 1") + "}"
			p, rep, out := b.run()
			checkSizes(t, p, out)
			d := &pruneDecision{}
			b.check(decodeDecision(p.Steps[0].Decision, d))
			before, after := toFloat(d.HeldOut[1].Plan), toFloat(rep.Quality.Source.KL)
			t.Logf("KL to the source %.4f after pruning, %.4f after training", before, after)
			if !(after < before) {
				t.Errorf("KL to the source %.4f after pruning, %.4f after training", before, after)
			}
		})
	}
}

// TestDistillTeacher: apply takes the teacher that was planned with, and no other.
func TestDistillTeacher(t *testing.T) {
	b := learner(t, smallLlama, "steps: 2, batch: 2", like(77))
	other, foreign := b.write("other", like(78)), smallLlama
	foreign.V = 128
	wide := b.write("wide", testmodel.New(foreign))
	p, err := b.plan()
	b.check(err)
	d := &distillDecision{}
	b.check(decodeDecision(p.Steps[0].Decision, d))
	if d.Teacher == nil || !strings.HasPrefix(p.Steps[0].Summary, "2 steps from another teacher") {
		t.Errorf("%+v, %s", d, p.Steps[0].Summary)
	}
	apply := func(p *planfile.Plan, teacher string) error {
		o := b.options(p, "out")
		o.Data.Teacher = teacher
		_, err := Apply(context.Background(), o)
		if _, serr := os.Stat(o.Out); (serr == nil) != (err == nil) {
			t.Errorf("%v, and the output: %v", err, serr)
		}
		return err
	}
	for _, c := range []struct {
		teacher string
		kind    Kind
		want    string
	}{
		{"", KindUsage, "this plan needs its teacher\n  next: give the teacher that the plan was made with: --teacher DIR"},
		{other, KindStale, "the teacher is not the one that the plan was made with"},
		{b.src, KindStale, "the teacher is not the one that the plan was made with"},
		{wide, KindUsage, "the teacher has a vocabulary of 128 tokens, the model of 96"},
		{filepath.Join(b.dir, "nowhere"), 0, "nowhere"},
		{b.more.Teacher, 0, ""},
	} {
		if err := apply(p, c.teacher); KindOf(err) != c.kind || (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want kind %d with %q", c.teacher, err, c.kind, c.want)
		}
	}
	b.check(os.RemoveAll(filepath.Join(b.dir, "out")))

	// A teacher that changes while it is learnt from.
	o := b.options(p, "out")
	o.Env.Progress = &onStep{work: "training", at: 64, do: func() {
		path := filepath.Join(b.more.Teacher, configName)
		b.check(os.WriteFile(path, append(b.read(b.more.Teacher, configName), '\n'), 0o644))
	}}
	if _, err := Apply(context.Background(), o); err == nil || !strings.Contains(err.Error(), configName) {
		t.Errorf("a teacher that changes: %v", err)
	}
	b.check(os.RemoveAll(o.Out + partialSuffix))

	b.more.Teacher = ""
	p, err = b.plan()
	b.check(err)
	if err := apply(p, other); KindOf(err) != KindUsage || !strings.Contains(err.Error(), "the plan was made with the model itself as teacher") {
		t.Error(err)
	}
	for _, c := range []struct{ teacher, recipe, want string }{
		{wide, b.recipe, "the teacher has a vocabulary of 128 tokens, the model of 96\n  next: take a teacher of the same vocabulary"},
		{other, "calibration: {sequences: 2, holdout: 1, length: 32}\nsparsify: {pattern: '2:4'}", "a teacher is given, and the recipe has no section distill"},
	} {
		b.more.Teacher, b.recipe = c.teacher, c.recipe
		if _, err := b.plan(); KindOf(err) != KindUsage || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v, want %q", err, c.want)
		}
	}
}

// TestDistillOtherShapes: a teacher of other sizes teaches logits, hidden states through a map, and relations.
func TestDistillOtherShapes(t *testing.T) {
	large := testmodel.New(testmodel.Options{Family: "qwen3", Layers: 4, D: 64, H: 8, G: 4, K: 16, F: 128, V: 96, Seed: 5})
	b := learner(t, smallLlama, "steps: 8, batch: 4, rate: 0.003, warmup: 1, hidden: {layers: [[-1, -1], [0, 1]]}, relations: {version: 2}", large)
	before := b.divergence(b.src, b.more.Teacher)
	p, _, out := b.run()
	checkSizes(t, p, out)
	if after := b.divergence(out, b.more.Teacher); !(after < 0.97*before) {
		t.Errorf("KL to the teacher %.4f became %.4f", before, after)
	}
	for _, c := range []struct{ section, want string }{
		{"steps: 2, hidden: {layers: [[3, 0]]}", "recipe: distill.hidden.layers: layer 3 of a model of 3"},
		{"steps: 2, hidden: {layers: [[0, -6]]}", "recipe: distill.hidden.layers: layer -2 of a model of 4"},
		{"steps: 2, relations: {teacher: 4}", "recipe: distill.relations: layer 4 of a model of 4"},
		{"steps: 2, relations: {student: -4}", "recipe: distill.relations: layer -1 of a model of 3"},
		{"steps: 2, relations: {version: 2, heads: 7}", "recipe: distill: objective: relations of layer 2, by layer 3 of the teacher: 7 relation heads do not divide vectors of width 32"},
		{"steps: 2, top_k: 96", "recipe: distill.top_k 96: the vocabulary has 96 tokens\n  next: set it to 0, which keeps all of them"},
		{"steps: 2, lora: {rank: 33}", "recipe: distill.lora.rank 33: layer 0's q is 32 x 32"},
	} {
		b.recipe = distillRecipe(c.section + ", warmup: 0")
		if _, err := b.plan(); KindOf(err) != KindUsage || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", c.section, err)
		}
	}
}

// TestDistillTrainingData: windows to train on that repeat held-out text are left out, and such data that has no others is refused.
func TestDistillTrainingData(t *testing.T) {
	b := learner(t, smallLlama, "steps: 2, batch: 2", nil)
	rows := testmodel.Windows(16, 32, smallLlama.V, 11) // those of the bench's data
	var err error
	held := func() [][]int32 {
		s := b.open(b.src)
		r, err := ParseRecipe([]byte(b.recipe))
		b.check(err)
		set, err := loadData(context.Background(), s, r, DataPaths{Calib: b.data})
		b.check(err)
		return set.set.Heldout.IDs
	}()
	if len(held) != 2 {
		t.Fatalf("%d held-out windows", len(held))
	}
	put := func(name string, rows [][]int32) string {
		path := filepath.Join(b.dir, name)
		b.check(os.WriteFile(path, npy(rows), 0o644))
		return path
	}
	other := testmodel.Windows(7, 32, smallLlama.V, 999)
	b.more.Train = put("mixed.npy", slices.Concat(held[:1], other[:3], held[1:], other[3:]))
	p, err := b.plan()
	b.check(err)
	d := &distillDecision{}
	b.check(decodeDecision(p.Steps[0].Decision, d))
	if d.Count != 7 || d.Tokens != 2*2*32 {
		t.Errorf("%d windows, %d tokens", d.Count, d.Tokens)
	}
	o := b.options(p, "out")
	o.Data.Train = ""
	if _, err := Apply(context.Background(), o); KindOf(err) != KindUsage || !strings.Contains(err.Error(), "this plan needs its training data") {
		t.Errorf("without the training data: %v", err)
	}
	o.Data.Train = put("other.npy", other)
	if _, err := Apply(context.Background(), o); err != nil { // the same windows are left of it
		t.Errorf("with the same windows: %v", err)
	}
	o = b.options(p, "out2")
	o.Data.Train = put("rows.npy", rows)
	if _, err := Apply(context.Background(), o); KindOf(err) != KindStale || !strings.Contains(err.Error(), "the training data is not what the plan was made with") {
		t.Errorf("with other training data: %v", err)
	}
	b.more.Train = put("held.npy", held)
	var input *formats.Error
	if _, err := b.plan(); !errors.As(err, &input) || !strings.Contains(err.Error(), "every window shares text with the held-out side: give other training data") {
		t.Errorf("held-out data alone: %v", err)
	}
	b.more.Train = put("ids.npy", [][]int32{other[0], {96, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31}})
	if _, err := b.plan(); err == nil || !strings.Contains(err.Error(), "96") {
		t.Errorf("an id outside the vocabulary: %v", err)
	}
	b.more.Train, b.recipe = put("more.npy", other), "calibration: {sequences: 2, holdout: 1, length: 32}\nsparsify: {pattern: '2:4'}"
	if _, err := b.plan(); KindOf(err) != KindUsage || !strings.Contains(err.Error(), "training data is given, and the recipe trains nothing") {
		t.Error(err)
	}
}

// TestDistillStopsEarly: text of which nothing can be learnt is worse with every step, and the weights from before the first are the best.
func TestDistillStopsEarly(t *testing.T) {
	b := learner(t, smallLlama, "steps: 100, batch: 2, warmup: 0, rate: 0.02, clip: 0, logits: 0, ce: 1, eval_every: 1, patience: 3", nil)
	p, err := b.plan()
	b.check(err)
	o := b.options(p, "out")
	count := &trained{}
	o.Env.Progress = count
	_, err = Apply(context.Background(), o)
	b.check(err)
	t.Logf("%d steps", count.steps)
	if count.steps < 3 || count.steps > 30 {
		t.Errorf("%d steps", count.steps)
	}
	if count.steps == 3 && b.sameTensors(o.Out, none) == 0 {
		t.Error("no tensor is as it was before the first step")
	}
}

// trained counts the steps of training in a run.
type trained struct {
	now   string
	first bool
	steps int
}

func (c *trained) Start(name string, _ int64) { c.now, c.first = name, true }
func (c *trained) Done()                      {}
func (c *trained) Add(int64) {
	if c.now == "training" && !c.first { // the first are those of earlier runs
		c.steps++
	}
	c.first = false
}

// TestDistillDiverges: a rate past all reason is a failure that says what to do, and leaves no output.
func TestDistillDiverges(t *testing.T) {
	for _, section := range []string{"rate: 10, clip: 0", "rate: 10, clip: 0, master: bf16, eval_every: 1", "rate: 10, clip: 0, hidden: {}, top_k: 8", "rate: 10, logits: 0, ce: 1"} {
		b := learner(t, smallLlama, "steps: 60, batch: 2, warmup: 0, schedule: constant, "+section, like(77))
		p, err := b.plan()
		b.check(err)
		o := b.options(p, "out")
		for range 2 { // the second time from the state that the first left
			_, err = Apply(context.Background(), o)
			t.Logf("%s: %v", section, err)
			if KindOf(err) != KindGate || !strings.Contains(err.Error(), "next: lower distill.rate and plan again") {
				t.Errorf("%s: %v", section, err)
			}
			if _, err := os.Stat(o.Out); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("%s: there is an output: %v", section, err)
			}
		}
	}
}
