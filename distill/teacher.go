package distill

import (
	"context"
	"slices"

	"modelpress/internal/nn"
)

// teacher runs the teacher over the windows of a part and keeps what the losses ask for.
type teacher struct {
	*Objective
	model   *nn.Model // as far up as the objective looks; nil for none
	lengths []int
	// dir and memLimit say where states go, and past how many bytes.
	dir      string
	memLimit int64
	states   *nn.States // those of the windows, in the end the final ones

	hidden [][][]float32 // of each hidden term and window, [T, D]
	heads  [][]HeadStates
}

func newTeacher(o *Objective, dir string, memLimit int64) *teacher {
	t := &teacher{Objective: o, dir: dir, memLimit: memLimit, hidden: make([][][]float32, len(o.Hidden)), heads: make([][]HeadStates, len(o.Relations))}
	if o.Teacher != nil && (o.terms() > 0 || o.KL != 0 && o.TopK == nil) {
		t.model = shortened(o.Teacher, o.teacherTop())
	}
	return t
}

// close gives back what is kept on disk.
func (t *teacher) close() error {
	if t == nil || t.states == nil {
		return nil
	}
	err := t.states.Close()
	t.states = nil
	return err
}

// run makes what it keeps that of the given windows.
func (t *teacher) run(ctx context.Context, ids [][]int32) error {
	if t.model == nil {
		return nil
	}
	if n := lengths(ids); t.states == nil || !slices.Equal(n, t.lengths) {
		if err := t.close(); err != nil {
			return err
		}
		s, err := nn.NewStates(t.dir, n, t.model.Arch.D, t.memLimit)
		if err != nil {
			return err
		}
		t.states, t.lengths = s, n
		for i := range t.hidden {
			t.hidden[i] = make([][]float32, len(ids))
		}
		for i := range t.heads {
			t.heads[i] = make([]HeadStates, len(ids))
		}
	}
	opt := nn.RunOptions{States: t.states, Together: Together}
	if len(t.Hidden) > 0 {
		opt.Output, opt.At = t.output, func(l int) bool {
			return slices.ContainsFunc(t.Hidden, func(h HiddenTerm) bool { return h.Teacher == l })
		}
	}
	if len(t.Relations) > 0 {
		opt.Pass = t.pass
	}
	return t.model.Run(ctx, ids, opt, nil)
}

func (t *teacher) output(l, w int, x []float32) error {
	for i, h := range t.Hidden {
		if h.Teacher == l {
			t.hidden[i][w] = append(t.hidden[i][w][:0], x...)
		}
	}
	return nil
}

func (t *teacher) pass(l, w int) *nn.Pass {
	if !slices.ContainsFunc(t.Relations, func(r RelationTerm) bool { return r.Teacher == l }) {
		return nil
	}
	return &nn.Pass{TapAttn: func(a *nn.AttnState) {
		for i, r := range t.Relations {
			if r.Teacher == l {
				t.heads[i][w].copy(stateOf(a))
			}
		}
	}}
}

// copy makes h a copy of o.
func (h *HeadStates) copy(o *HeadStates) {
	q, k, v := append(h.Q[:0], o.Q...), append(h.K[:0], o.K...), append(h.V[:0], o.V...)
	*h = HeadStates{T: o.T, H: o.H, G: o.G, Dim: o.Dim, Q: q, K: k, V: v}
}

// logits calls f with the teacher's logits of some rows of a window.
func (t *teacher) logits(w, row, rows int, f func(logits *nn.Logits) error) error {
	x, err := t.states.Buf(w)
	if err != nil {
		return err
	}
	d := t.model.Arch.D
	return t.model.HeadLogitsBuf(t.model.Dev.Slice(x, row*d, rows*d), rows, rows, func(_ int, l *nn.Logits) error { return f(l) })
}
