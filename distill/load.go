package distill

import (
	"slices"

	"modelpress/formats"
	"modelpress/internal/arch"
)

// check refuses a source that lacks a tensor of the model or has it with another shape or type, and places that do not follow
// one another in the tensors they share, or leave a rest.
func (l *layout) check(src formats.Source, m *arch.Model) error {
	covered := map[string]int{}
	for i, q := range l.params {
		p := l.places[i]
		if !q.fits() || p.row != covered[p.tensor] || q.Rows > p.stored-p.row {
			return formats.Errorf("", p.tensor, "%d rows from %d of %d, %d wide, after %d others",
				q.Rows, p.row, p.stored, q.Cols, covered[p.tensor])
		}
		covered[p.tensor] += q.Rows
	}
	for _, want := range m.Parameters() {
		t, ok := src.Lookup(want.Name)
		if !ok {
			return formats.Errorf("", want.Name, "no such tensor")
		}
		if !t.DType.IsFloat() || !slices.Equal(t.Shape, want.Shape) {
			return formats.Errorf("", want.Name, "%s %v where floats %v are needed", t.DType, t.Shape, want.Shape)
		}
	}
	for i := range l.params {
		if p := l.places[i]; covered[p.tensor] != p.stored {
			return formats.Errorf("", p.tensor, "projections take %d of its %d rows", covered[p.tensor], p.stored)
		}
	}
	return nil
}

// load reads the values of a parameter from its place.
func (q *Param) load(src formats.Source, p place) error {
	if p.transposed {
		return q.loadTransposed(src, p)
	}
	buf := make([]float32, min(q.Len(), serveValues))
	base := int64(p.row) * int64(q.Cols)
	for at := 0; at < q.Len(); at += len(buf) {
		v := buf[:min(len(buf), q.Len()-at)]
		if err := q.fetch(src, p.tensor, v, base+int64(at)); err != nil {
			return err
		}
		q.Write(v, at)
	}
	return nil
}

// loadTransposed reads the columns of a tensor [Cols, stored] that hold the rows of q.
func (q *Param) loadTransposed(src formats.Source, p place) error {
	v := make([]float32, q.Rows)
	for i := range q.Cols {
		if err := q.fetch(src, p.tensor, v, int64(i)*int64(p.stored)+int64(p.row)); err != nil {
			return err
		}
		for o := range v {
			q.Write(v[o:o+1], o*q.Cols+i)
		}
	}
	return nil
}

// fetch reads and checks values of a tensor from element from on.
func (q *Param) fetch(src formats.Source, tensor string, v []float32, from int64) error {
	if err := formats.ReadF32(src, tensor, v, from); err != nil {
		return err
	}
	if err := formats.CheckFinite("", tensor, v, from); err != nil {
		return err
	}
	return formats.CheckRange("", tensor, v, q.DType(), from)
}
