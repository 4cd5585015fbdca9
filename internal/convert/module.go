package convert

import (
	"context"
	"errors"

	"modelpress/formats"
	"modelpress/quantize"
)

// gridded is a weight that is written as codes on grids.
type gridded struct {
	src    formats.Source
	quant  formats.Quantized // where the weight's codes are read, nil where it has none that fit
	weight string
	module string // name of the module in the result
	out    int
	in     int
	set    *setting
	from   string // how it is stored
	why    string // codes are not carried over, where there are some
}

func (g gridded) outs() []formats.TensorInfo {
	return g.set.grid.Tensors(g.module, int64(g.out), int64(g.in))
}

func (g gridded) values() int64 { return int64(g.out) * int64(g.in) }

// memory is that of the codes, of what they are packed into and of the scales. Codes that are carried over are compared in the end:
// those of the source and of the result, each beside what they are unpacked from.
func (g gridded) memory() int64 {
	n := streamed + g.values() + tensorBytes(g.outs())
	if g.quant != nil {
		n += 3 * g.values()
	}
	return n
}

func (g gridded) do(ctx context.Context, w *task) error {
	note := Note{Tensor: g.weight, From: g.from, To: g.set.name, How: Requantized, Why: g.why}
	var m *formats.Affine
	var err error
	var inexact *formats.Inexact
	carry := g.quant != nil
	if carry {
		note.How = Carried
		if m, err = g.quant.Affine(g.weight); errors.As(err, &inexact) { // blocks with an offset that is no multiple of the scale
			carry, note.How, note.Why = false, Requantized, inexact.Cause
		} else if err != nil {
			return err
		}
	}
	if !carry {
		if m, err = g.quantize(ctx, w, &note); err != nil {
			return err
		}
	}
	list, err := g.set.grid.Encode(g.module, m)
	if errors.As(err, &inexact) && carry {
		note.How, note.Why = Requantized, inexact.Error()
		list, err = g.rescaled(m, &note)
	}
	if errors.As(err, &inexact) { // of version 1 of GPTQ: zero points that are the lowest code
		return usage("choose a format that has them, such as gptq_v2, or leave modules out with --ignore", "%s: %w", g.set.name, inexact)
	}
	if err != nil {
		return err
	}
	for _, t := range list {
		if err := w.whole(t); err != nil {
			return err
		}
	}
	w.noted(g.outs()[0].Name, note)
	return nil
}

// rescaled keeps the codes of a weight whose scales a type does not hold, and rounds the scales to it.
func rescaled(weight string, m *formats.Affine, dt formats.DType) (*formats.Affine, error) {
	r := *m
	r.Scale, r.Scales = dt, make([]float32, len(m.Scales))
	if err := formats.CheckRange("", weight, m.Scales, dt, 0); err != nil {
		return nil, err
	}
	b := make([]byte, len(m.Scales)*dt.Size())
	if err := formats.Encode(b, m.Scales, dt); err != nil {
		return nil, err
	}
	return &r, formats.Decode(r.Scales, b, dt)
}

// rescaled encodes the weight with rounded scales.
func (g gridded) rescaled(m *formats.Affine, note *Note) ([]formats.Tensor, error) {
	r, err := rescaled(g.weight, m, g.set.scales)
	if err != nil {
		return nil, err
	}
	list, err := g.set.grid.Encode(g.module, r)
	if err != nil {
		return nil, err
	}
	var sum errorSum
	compare(m, r, &sum)
	sum.into(note)
	return list, nil
}

// compare adds the values of two weights of one shape.
func compare(a, b *formats.Affine, sum *errorSum) {
	rows := max(1, chunk/4/a.In)
	x, y := make([]float32, rows*a.In), make([]float32, rows*a.In)
	for r := 0; r < a.Out; r += rows {
		n := min(rows, a.Out-r) * a.In
		a.Dequantize(x[:n], r)
		b.Dequantize(y[:n], r)
		sum.add(x[:n], y[:n])
	}
}

// quantize rounds the weight to grids, some rows at a time.
func (g gridded) quantize(ctx context.Context, w *task, note *Note) (*formats.Affine, error) {
	s := quantize.Scheme{Bits: g.set.bits, Group: g.set.size, Symmetric: g.set.symmetric, Clip: true}
	m := &formats.Affine{Out: g.out, In: g.in, Bits: s.Bits, Group: s.Group, Scale: g.set.scales, Codes: make([]int8, 0, g.out*g.in)}
	rows := newRowReader(g.src, g.weight, []int64{int64(g.out), int64(g.in)})
	var back []float32
	var sum errorSum
	for rows.next() {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		v, err := rows.read()
		if err != nil {
			return nil, err
		}
		part, err := quantize.RTN(v, len(v)/g.in, g.in, s, g.set.scales, nil)
		if err != nil {
			return nil, formats.Errorf("", g.weight, "%w", err)
		}
		m.Codes, m.Scales = append(m.Codes, part.Codes...), append(m.Scales, part.Scales...)
		if !s.Symmetric {
			m.Zeros = append(m.Zeros, part.Zeros...)
		}
		back = grown(back, len(v))
		rowsOf(m, len(v)/g.in).Dequantize(back, 0)
		sum.add(v, back)
		w.done(int64(len(v)))
	}
	if err := sum.narrow(g.src, g.weight); err != nil {
		return nil, err
	}
	sum.into(note)
	return m, nil
}

// rowsOf is the last n rows of a weight.
func rowsOf(m *formats.Affine, n int) *formats.Affine {
	p := *m
	p.Out = n
	p.Codes, p.Scales = m.Codes[len(m.Codes)-n*m.In:], m.Scales[len(m.Scales)-n*m.Groups():]
	if m.Zeros != nil {
		p.Zeros = m.Zeros[len(m.Zeros)-n*m.Groups():]
	}
	return &p
}
