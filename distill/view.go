package distill

import (
	"fmt"
	"slices"

	"modelpress/formats"
	"modelpress/internal/arch"
)

// View returns src with the tensors of the model m in it replaced by the trained values, under the names and in the layout that
// they have there (GPT-2's projections fused and transposed), as F32. All other tensors are shown as they are, but for a second
// copy of a tied embedding, which follows it. m is the model that the parameters were read as. An untouched Params shows the
// values of src, rounded to the master copy's type. Errors are *formats.Error.
//
// Memory: 64 KiB for each read at a time.
func (p *Params) View(src formats.Source, m *arch.Model) (formats.Source, error) {
	l := newLayout(m)
	if err := l.check(src, m); err != nil {
		return nil, fmt.Errorf("distill: view: %w", err)
	}
	if len(l.params) != len(p.list) {
		return nil, formats.Errorf("", "", "distill: view: %d parameters are trained, the model has %d", len(p.list), len(l.params))
	}
	v := &view{Source: src, tensors: map[string]*viewTensor{}}
	for i, want := range l.params {
		q := p.list[i]
		if q.Name != want.Name || q.Rows != want.Rows || q.Cols != want.Cols {
			return nil, formats.Errorf("", l.places[i].tensor, "distill: view: %s %dx%d is trained, the model has %s %dx%d there",
				q.Name, q.Rows, q.Cols, want.Name, want.Rows, want.Cols)
		}
		v.add(q, l.places[i])
	}
	v.tied(m)
	v.infos = slices.Clone(src.Tensors())
	for i, t := range v.infos {
		if n := v.tensors[t.Name]; n != nil {
			v.infos[i] = n.info
		}
	}
	return v, nil
}

// view is a source in which some tensors come from parameters.
type view struct {
	formats.Source
	infos   []formats.TensorInfo
	tensors map[string]*viewTensor
}

// viewTensor is a stored tensor and the parameters that make it up.
type viewTensor struct {
	info  formats.TensorInfo
	place place // of the first part
	parts []viewPart
}

type viewPart struct {
	q   *Param
	row int
}

func (v *view) add(q *Param, p place) {
	t := v.tensors[p.tensor]
	if t == nil {
		own, _ := v.Source.Lookup(p.tensor)
		t = &viewTensor{info: formats.TensorInfo{Name: own.Name, DType: formats.F32, Shape: own.Shape}, place: p}
		v.tensors[p.tensor] = t
	}
	t.parts = append(t.parts, viewPart{q, p.row})
}

// tied has a stored copy of a tied embedding follow it: a copy that differs would be refused.
func (v *view) tied(m *arch.Model) {
	const name = arch.HeadModule + ".weight"
	head, there := v.Source.Lookup(name)
	e := v.tensors[m.Embed]
	if !m.Tied || !there || v.tensors[name] != nil || !slices.Equal(head.Shape, e.info.Shape) {
		return
	}
	c := *e
	c.info.Name = name
	v.tensors[name] = &c
}

// Tensors implements [formats.Source].
func (v *view) Tensors() []formats.TensorInfo { return v.infos }

// Lookup implements [formats.Source].
func (v *view) Lookup(name string) (formats.TensorInfo, bool) {
	if t := v.tensors[name]; t != nil {
		return t.info, true
	}
	return v.Source.Lookup(name)
}

// ReadAt implements [formats.Source].
func (v *view) ReadAt(name string, b []byte, off int64) error {
	t := v.tensors[name]
	if t == nil {
		return v.Source.ReadAt(name, b, off)
	}
	size, err := t.info.Bytes()
	if err != nil {
		return formats.Errorf("", name, "%w", err)
	}
	if err := checkRead(name, len(b), off, size); err != nil {
		return err
	}
	return serve(b, off, formats.F32, t.read)
}

// read fills dst with the values of the stored tensor from element from on.
func (t *viewTensor) read(dst []float32, from int) error {
	for len(dst) > 0 {
		n := t.run(dst, from)
		dst, from = dst[n:], from+n
	}
	return nil
}

// run fills the beginning of dst with values of one part and returns how many.
func (t *viewTensor) run(dst []float32, from int) int {
	cols, stored := t.parts[0].q.Cols, t.place.stored
	output, input := from/cols, 0
	if t.place.transposed {
		output, input = from%stored, from/stored
	}
	for _, p := range t.parts {
		at := output - p.row
		if at < 0 || at >= p.q.Rows {
			continue
		}
		if !t.place.transposed {
			first := from - p.row*cols
			n := min(len(dst), p.q.Len()-first)
			p.q.Read(dst[:n], first)
			return n
		}
		n := min(len(dst), p.q.Rows-at)
		p.q.gather(dst[:n], at*cols+input, cols)
		return n
	}
	panic(fmt.Sprintf("distill: output %d of %s belongs to no parameter", output, t.info.Name))
}
