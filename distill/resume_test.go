package distill

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"modelpress/internal/arch"
	"modelpress/internal/nn"
	"modelpress/internal/testmodel"
)

// countdown is a context that ends after so many looks at it: a run under it stops at any place where it may.
type countdown struct {
	context.Context
	left int
}

func (c *countdown) Err() error {
	if c.left--; c.left < 0 {
		return context.Canceled
	}
	return nil
}

// resumable are runs with every kind of state: what is trained, how it is evaluated, what the objective trains along.
func resumable(t testing.TB, threads int) map[string]func() *Trainer {
	o := testmodel.Options{Layers: 2, D: 8, H: 2, K: 4, F: 12, V: 16, Context: 12, Seed: 3}
	tied := o
	tied.Tied, tied.G = true, 1
	// Where the host cannot address the gradients by a tied head, they join those by the embedding at the end: another order of sums.
	near := threads
	if threads == 3 {
		near = 4
	}
	setting := func(m *nn.Model, p *Params, teacher *nn.Model) *Trainer {
		return &Trainer{Model: m, Params: p, Data: text(7, 8, 16, 1), Heldout: text(2, 8, 16, 2), Origin: []byte("test"),
			Objective: Objective{CE: 0.5, KL: 1, Teacher: teacher, Hidden: []HiddenTerm{
				{Student: 0, Teacher: 0, Map: NewMap("map", 8, 12, 3), Weight: 0.3, Balance: true}}},
			Options: Options{Schedule: Schedule{Steps: 5, Warmup: 1, LR: 0.02, Decay: Linear}, Batch: 2, Accumulate: 2, Seed: 9, Clip: 1,
				Evaluate: 2, KeepBest: true}}
	}
	teacher := func() *nn.Model {
		return frozen(t, testmodel.Options{Layers: 1, D: 12, H: 2, K: 6, F: 8, V: 16, Context: 12, Seed: 4}, threads)
	}
	return map[string]func() *Trainer{
		"all": func() *Trainer { m, p := student(t, o, threads); return setting(m, p, teacher()) },
		"bfloat16": func() *Trainer {
			src := testmodel.New(tied)
			p := newTestParams(t, src, described(t, src.Config, src), true)
			r := setting(nn.New(deviceOf(near), p, p.Arch), p, teacher())
			r.Options.Evaluate, r.Options.KeepBest = 0, false
			return r
		},
		"adapters": func() *Trainer {
			m, l := adapted(t, o, threads, arch.Q, arch.V, arch.Down)
			r := setting(m, nil, teacher())
			r.LoRA = l
			return r
		},
		"masks": func() *Trainer {
			r := setting(frozen(t, o, threads), nil, teacher())
			r.Masks = newTestMasks(r.Model.Arch)
			r.Options.KeepBest = false
			return r
		},
		"joint": func() *Trainer {
			m, p := student(t, tied, near)
			r := setting(m, p, teacher())
			r.Masks = newTestMasks(r.Model.Arch)
			r.Options.KeepBest = false
			return r
		},
	}
}

// outcomeOf is the bytes of all that a run has trained and seen.
func outcomeOf(t testing.TB, r *Trainer) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "state")
	if err := r.Save(path); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// TestInterruptedRuns: a run that is interrupted wherever it looks at its context, or killed there, and goes on in another process
// from the last checkpoint, ends with the bytes of one that is not.
func TestInterruptedRuns(t *testing.T) {
	stride := map[string]int{"all": 5, "bfloat16": 23, "adapters": 29, "masks": 19, "joint": 31} // between the places
	for name, make := range resumable(t, 1) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			whole := make()
			train(t, whole)
			want := outcomeOf(t, whole)
			path := filepath.Join(t.TempDir(), "checkpoint")
			for looks := 1; ; looks += stride[name] {
				if interrupted(t, make, path, looks, want) {
					return
				}
			}
		})
	}
}

// interrupted stops a run at one look at its context, by an interrupt or, at even ones, as if it was killed, and lets another go on; it
// reports whether the run ended before.
func interrupted(t *testing.T, make func() *Trainer, path string, looks int, want string) bool {
	t.Helper()
	ctx := &countdown{t.Context(), looks}
	r := make()
	r.Options.SaveEvery, r.Options.Save = 2, func(s *State) error {
		if ctx.left < 0 && looks%2 == 0 {
			return nil
		}
		return WriteState(path, s)
	}
	err := r.Train(ctx)
	if err == nil {
		if outcomeOf(t, r) != want {
			t.Error("checkpoints change the run")
		}
		return true
	}
	if !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	again, steps := make(), r.Steps()
	if looks%2 == 0 {
		steps -= steps % 2
	}
	if _, err := os.Stat(path); err == nil || steps > 0 {
		if err := again.Resume(path); err != nil {
			t.Fatal(err)
		}
	}
	if again.Steps() != steps {
		t.Fatalf("after %d looks: interrupted after %d steps, resumed after %d", looks, r.Steps(), again.Steps())
	}
	train(t, again)
	train(t, r) // the one that was interrupted can go on too
	for _, x := range []*Trainer{again, r} {
		if outcomeOf(t, x) != want {
			t.Fatalf("after %d looks: another outcome", looks)
		}
	}
	os.Remove(path)
	return false
}

// TestTrainingOnThreads: the number of threads changes no bit.
func TestTrainingOnThreads(t *testing.T) {
	want := map[string]string{}
	for threads := 1; threads <= 3; threads++ {
		for name, make := range resumable(t, threads) {
			r := make()
			train(t, r)
			got := outcomeOf(t, r)
			if threads == 1 {
				want[name] = got
			} else if got != want[name] {
				t.Errorf("%s: %d threads give another outcome", name, threads)
			}
		}
	}
}

// TestResumeRefuses: checkpoints of runs that differ in any setting.
func TestResumeRefuses(t *testing.T) {
	make := resumable(t, 1)["all"]
	path := filepath.Join(t.TempDir(), "checkpoint")
	r := make()
	if err := r.Save(path); err != nil {
		t.Fatal(err)
	}
	if err := make().Resume(path); err != nil {
		t.Fatal(err)
	}
	for i, change := range []func(r *Trainer){
		func(r *Trainer) { r.Options.Seed++ }, func(r *Trainer) { r.Options.Schedule.LR *= 2 }, func(r *Trainer) { r.Options.Batch = 4 },
		func(r *Trainer) { r.Data = text(7, 8, 16, 3) }, func(r *Trainer) { r.Heldout = text(2, 8, 16, 1) }, func(r *Trainer) { r.Origin = nil },
		func(r *Trainer) { r.Objective.Hidden[0].Weight = 0.5 }, func(r *Trainer) { r.Objective.CE = 0 }, func(r *Trainer) { r.Options.KeepBest = false },
		func(r *Trainer) { r.Options.AdamW = DefaultAdamW(); r.Options.AdamW.Decay = 0.1 },
	} {
		r := make()
		change(r)
		if err := r.Resume(path); !errors.Is(err, ErrOtherRun) {
			t.Errorf("change %d: %v", i, err)
		}
	}
}
