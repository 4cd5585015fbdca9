package pipeline

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"modelpress/formats"
	"modelpress/formats/planfile"
	"modelpress/internal/testmodel"
)

// planFrom plans with a state file, and other progress where it is given.
func (b *bench) planFrom(ctx context.Context, state string, p Progress) (*planfile.Plan, error) {
	b.t.Helper()
	r, err := ParseRecipe([]byte(b.recipe))
	b.check(err)
	env := threads(2)
	env.StateFile = state
	if p != nil {
		env.Progress = p
	}
	if b.anywhere {
		r.Target = []string{}
	}
	return Plan(ctx, PlanOptions{ModelDir: b.src, Recipe: r, RecipeDigest: sumDigest([]byte(b.recipe)), Data: b.paths(),
		Tool: planfile.Tool{Name: "test", Version: "0"}, Env: env})
}

// interruptedPlan stops planning after some steps of masks and checks that their state is kept.
func (b *bench) interruptedPlan(state string, after int) {
	b.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	if _, err := b.planFrom(ctx, state, &quiet{work: "learning masks", after: after, cancel: cancel}); !errors.Is(err, context.Canceled) {
		b.t.Fatalf("planning was not interrupted: %v", err)
	}
	if _, err := os.Stat(state + ".masks"); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) samePlan(what string, x, y *planfile.Plan) {
	b.t.Helper()
	one, err := planfile.Encode(x)
	b.check(err)
	two, err := planfile.Encode(y)
	b.check(err)
	if !bytes.Equal(one, two) {
		b.t.Errorf("%s: another plan", what)
	}
}

// Masks, and weights trained along with them: the same plan with any number of threads and after an interruption, and the same result
// after apply was stopped anywhere. Masked and written model agree within the rounding of the result.
func TestMasks(t *testing.T) {
	for _, c := range []struct{ model, prune, rest string }{
		{"llama-gqa", "params: 0.7, multiple: 4, axes: [heads, ffn], vib: {steps: 10, batch: 2}", ""},
		{"gpt2", "flops: 0.7, multiple: 4, vib: {steps: 10, batch: 2, loss: ce}", "\ndistill: {steps: 3, batch: 2, warmup: 0, lora: {rank: 2}}"},
		{"llama-mqa-tied", "axes: [ffn], multiple: 32, params: 0.8871, vib: {steps: 8, batch: 2, joint: true}", ""},
		{"qwen3-tied", "axes: [ffn], multiple: 32, params: 0.8241, vib: {steps: 8, batch: 2, joint: true}",
			"\ndistill: {steps: 3, batch: 2, warmup: 0}\nquantize: {method: gptq, bits: 8, group_size: 32, rotate: qr}"},
	} {
		t.Run(c.model, func(t *testing.T) {
			o := testmodel.Named(c.model).Options
			o.DType = formats.BF16
			b := newBench(t, testmodel.New(o), pruneData+"prune: {method: vib, "+c.prune+"}"+c.rest)
			p, err := b.plan()
			b.check(err)
			one, err := b.planOn(1)
			b.check(err)
			b.samePlan("one thread", p, one)
			state := filepath.Join(b.dir, "state")
			b.interruptedPlan(state, 5)
			resumed, err := b.planFrom(context.Background(), state, nil)
			b.check(err)
			b.samePlan("resumed", p, resumed)
			if _, err := os.Stat(state + ".masks"); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("the state of masks is left: %v", err)
			}
			b.maskedResult(p)
		})
	}
}

// maskedResult applies a plan whole and interrupted.
func (b *bench) maskedResult(p *planfile.Plan) {
	b.t.Helper()
	_, err := Apply(context.Background(), b.options(p, "whole"))
	b.check(err)
	for _, s := range []struct {
		work  string
		after int
	}{{"learning masks", 3}, {"learning masks", 8}, {"training", 64}, {"compressing", 1}} {
		opt := b.options(p, "resumed")
		ctx, cancel := context.WithCancel(context.Background())
		opt.Env.Progress = &quiet{work: s.work, after: s.after, cancel: cancel}
		_, err := Apply(ctx, opt)
		if err == nil { // the plan has no such work
			cancel()
		} else if !errors.Is(err, context.Canceled) {
			b.t.Fatal(err)
		}
		opt.Env = threads(3)
		_, err = Apply(context.Background(), opt)
		b.check(err)
		b.sameDirs(filepath.Join(b.dir, "whole"), opt.Out)
		b.check(os.RemoveAll(opt.Out))
	}
}

// A state of masks belongs to its recipe.
func TestMasksOfAnotherRecipe(t *testing.T) {
	b := newBench(t, testmodel.New(smallLlama), "")
	b.anywhere = true
	section := func(share, rate string) string {
		return pruneData + "prune: {layout: compact, multiple: 4, params: " + share + ", vib: {steps: 12, batch: 2, rate: " + rate + "}}"
	}
	state := filepath.Join(b.dir, "state")
	b.recipe = section("0.8", "0.5")
	b.interruptedPlan(state, 6)
	b.recipe = section("0.6", "0.05")
	if _, err := b.planFrom(context.Background(), state, nil); KindOf(err) != KindStale {
		t.Errorf("a state of another recipe gives %v", err)
	}
}

// A stored copy of a tied head goes where anything is trained: it would not be one any more.
func TestTiedCopyIsNotKept(t *testing.T) {
	for _, section := range []string{
		distillRecipe("steps: 2, batch: 2, ce: 1, warmup: 0, rate: 0.01"),
		pruneData + "prune: {axes: [ffn], multiple: 4, params: 0.8, layout: compact, vib: {steps: 6, batch: 2, joint: true}}",
		pruneData + "prune: {axes: [hidden, ffn], multiple: 4, params: 0.8, layout: compact, vib: {steps: 6, batch: 2}}",
	} {
		b := newBench(t, testmodel.New(smallLlama), section)
		b.anywhere = true
		m := testmodel.New(smallLlama)
		v, err := m.Values("model.embed_tokens.weight")
		b.check(err)
		m.Set("lm_head.weight", v)
		b.src = b.write("tied", m)
		path := filepath.Join(b.src, "config.json")
		raw, err := os.ReadFile(path)
		b.check(err)
		tied := bytes.Replace(raw, []byte(`"tie_word_embeddings": false`), []byte(`"tie_word_embeddings": true`), 1)
		if bytes.Equal(tied, raw) {
			t.Fatalf("%s", raw)
		}
		b.check(os.WriteFile(path, tied, 0o644))
		p, err := b.plan()
		b.check(err)
		opt := b.options(p, "out")
		_, err = Apply(context.Background(), opt)
		b.check(err)
		s := b.open(opt.Out)
		if _, ok := s.ck.Lookup("lm_head.weight"); ok {
			t.Error("the copy is still there")
		}
	}
}

// Training along with masks is counted, in plan and apply.
func TestJointMemory(t *testing.T) {
	b := newBench(t, testmodel.New(smallLlama), pruneData+"prune: {multiple: 4, params: 0.8, vib: {steps: 2, batch: 2}}")
	s := b.open(b.src)
	frozen, err := ParseRecipe([]byte(b.recipe))
	b.check(err)
	joint, err := ParseRecipe([]byte(pruneData + "prune: {multiple: 4, params: 0.8, vib: {steps: 2, batch: 2, joint: true}}"))
	b.check(err)
	set, err := loadData(context.Background(), s, frozen, b.paths())
	b.check(err)
	more := pruneMemory(s, joint, set, 1<<20) - pruneMemory(s, frozen, set, 1<<20)
	if n := s.arch.NumParameters(); more < 16*n || more > 20*n {
		t.Errorf("%d values trained along take %d bytes", n, more)
	}
}
