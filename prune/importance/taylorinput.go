package importance

import (
	"errors"
	"slices"

	"modelpress/internal/device"
	"modelpress/internal/nn"
)

// tokenGrads collects the gradients by the embedding: of the tokens that the windows have, or of all where it is the head too.
type tokenGrads struct {
	rows []int32 // ids of the rows of sums, ascending; nil for all
	sums moments
	head *nn.States // the gradients by a tied head of the tokens of each window, where squares are needed
}

func (t *taylor) beginInput() (err error) {
	a := t.m.Arch
	if !a.Tied {
		t.input.rows = distinct(slices.Concat(t.w.IDs...))
		t.input.sums = newMoments(len(t.input.rows)*a.D, t.term.squares())
		return nil
	}
	if t.term.squares() {
		var lengths []int
		for _, ids := range t.w.IDs {
			lengths = append(lengths, len(distinct(ids)))
		}
		t.input.head, err = nn.NewStates(t.Dir, lengths, a.D, t.MemLimit)
	}
	return err
}

// distinct returns the different ids, ascending.
func distinct(ids []int32) []int32 {
	out := slices.Clone(ids)
	slices.Sort(out)
	return slices.Compact(out)
}

// keepRows keeps the gradients of a window by the rows of a tied head that the window has the tokens of.
func (t *taylor) keepRows(window int) error {
	if t.input.head == nil {
		return nil
	}
	ids, d, m := distinct(t.w.IDs[window]), t.m.Arch.D, t.m
	buf, err := m.Alloc(device.F32, len(ids)*d)
	if err != nil {
		return err
	}
	defer buf.Free()
	m.Dev.Gather(buf, t.head.grads.W, ids, d)
	rows := make([]float32, len(ids)*d)
	m.Dev.Download(rows, buf, 0)
	return t.input.head.Put(window, rows)
}

// addInput adds the gradients g [T, D] by the embedded tokens of a window to those by the rows of the embedding. Where these are rows
// of the head too, with gradients u of their own, squares grow from u² to (u+v)².
func (t *taylor) addInput(window int, g []float32) (err error) {
	ids, d, in := t.w.IDs[window], t.m.Arch.D, &t.input
	tokens := distinct(ids)
	sums, head := make([]float32, len(tokens)*d), []float32(nil)
	for i, id := range ids {
		at, _ := slices.BinarySearch(tokens, id)
		for j, v := range g[i*d : (i+1)*d] {
			sums[at*d+j] += v
		}
	}
	if in.head != nil {
		if head, err = in.head.View(window); err != nil {
			return err
		}
	}
	root := t.root(window)
	for i, id := range tokens {
		row := int(id)
		if in.rows != nil {
			row, _ = slices.BinarySearch(in.rows, id)
		}
		part := in.part(row, d)
		part.add(sums[i*d:(i+1)*d], root)
		for j := 0; head != nil && j < d; j++ {
			u, v := root*head[i*d+j], root*sums[i*d+j]
			part.square[j] += 2 * float32(u*v)
		}
	}
	return nil
}

// part returns a row of the sums.
func (in *tokenGrads) part(row, d int) moments {
	m := moments{sum: in.sums.sum[row*d : (row+1)*d]}
	if in.sums.square != nil {
		m.square = in.sums.square[row*d : (row+1)*d]
	}
	return m
}

// countInput scores what stands before the first layer.
func (t *taylor) countInput() error {
	a, n := t.m.Arch, len(t.input.rows)
	if t.input.rows == nil {
		n = a.V
	}
	counted := func(s *moments) func(w []float32, row int) counts {
		return func(w []float32, row int) counts { return t.term.counts(w, s, row*a.D) }
	}
	if err := t.table(a.Embed, t.input.rows, n, counted(&t.input.sums)); err != nil || a.PosEmbed == "" {
		return err
	}
	return t.table(a.PosEmbed, nil, t.w.Longest(), counted(&t.places))
}

// closeInput gives the kept rows back, keeping err.
func (t *taylor) closeInput(err error) error {
	if t.input.head == nil {
		return err
	}
	return errors.Join(err, t.input.head.Close())
}
