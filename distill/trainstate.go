package distill

import (
	"errors"
	"fmt"
	"math"
)

// State returns all that the run goes on from, in its own memory: what it holds is valid until the next step.
func (t *Trainer) State() (*State, error) {
	if err := t.prepare(); err != nil {
		return nil, err
	}
	s := &State{Run: t.digest, Step: t.state.step, Stop: t.state.stop}
	t.numbers = []float64{float64(t.state.tokens), float64(t.state.evaluated), t.state.first}
	s.Vectors = append(s.Vectors, Vector{Name: "run", F64: t.numbers})
	s.Vectors = append(s.Vectors, t.optimizer.Vectors()...)
	for _, q := range t.best {
		s.Vectors = append(s.Vectors, q.vector("best/"+q.Name))
	}
	if t.Masks != nil {
		for _, v := range t.Masks.Vectors() {
			v.Name = "mask/" + v.Name
			s.Vectors = append(s.Vectors, v)
		}
	}
	return s, nil
}

// Save writes a checkpoint of the run to a file; see [WriteState].
func (t *Trainer) Save(path string) error {
	s, err := t.State()
	if err != nil {
		return err
	}
	return WriteState(path, s)
}

// Resume makes the run one that has come as far as the checkpoint, which one of the same run must have written: then it goes on
// as if it had never ended. An error that has [ErrOtherRun] in its chain says that it is of another one; after one about damage
// nothing has changed.
func (t *Trainer) Resume(path string) error {
	s, err := t.State()
	if err != nil {
		return err
	}
	if err := ReadState(path, s); err != nil {
		return err
	}
	tokens, evaluated, first := t.numbers[0], t.numbers[1], t.numbers[2]
	switch {
	case s.Step > int64(t.Options.Schedule.Steps), !(tokens >= 0 && tokens < 1<<53), !(evaluated >= -1 && evaluated <= float64(s.Step)),
		math.IsNaN(first) || math.IsInf(first, 0):
		return errors.New("distill: checkpoint: it holds numbers that no run leaves")
	}
	t.state = runState{step: s.Step, tokens: int64(tokens), evaluated: int64(evaluated), judged: int64(evaluated), saved: s.Step, first: first, stop: s.Stop}
	t.optimizer.Resume(s.Step)
	t.refresh()
	return nil
}

// setting is what distinguishes runs: all that changes the values of a step, as far as it is known here.
func (t *Trainer) setting() []byte {
	o, j := &t.Options, &t.Objective
	b := fmt.Appendf(nil, "%v %v %d %d %d %t %g %d %g %t %d\n", o.Schedule, o.AdamW, o.Batch, o.Accumulate, o.Seed, o.InOrder, o.Clip,
		o.Evaluate, o.Margin, o.KeepBest, o.Patience)
	b = fmt.Appendf(b, "%s %s\n%g %g %g %t\n", t.Data.Digest, t.Heldout.Digest, j.CE, j.KL, j.Temperature, j.TopK != nil)
	for _, h := range j.Hidden {
		b = fmt.Appendf(b, "%d %d %s %t %g %t\n", h.Student, h.Teacher, h.Distance, h.Map != nil, h.Weight, h.Balance)
	}
	for _, r := range j.Relations {
		b = fmt.Appendf(b, "%d %d %v %g\n", r.Student, r.Teacher, r.MiniLM, r.Weight)
	}
	if t.LoRA != nil {
		b = fmt.Appendf(b, "%g\n", t.LoRA.scale)
	}
	for _, l := range t.Model.Arch.Layers {
		b = fmt.Appendf(b, "%d %d %d %d\n", l.H, l.G, l.K, l.F)
	}
	return b
}
