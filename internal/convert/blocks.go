package convert

import (
	"context"
	"errors"

	"modelpress/formats"
	"modelpress/formats/ggml"
	"modelpress/internal/llamacpp"
)

// blocks is a tensor of a GGUF file.
type blocks struct {
	src        formats.Source
	quant      formats.Quantized // where the weight's codes are read, nil where it has none that the type holds
	t          *llamacpp.Tensor
	typ        ggml.Type
	importance []float32 // of each input, nil for none
	from       string    // how it is stored
	why        string    // codes are not carried over, where there are some
	all        bool      // the error is measured over all values, not over one chunk in sampled
}

// sampled is the share of chunks over which the error of types is measured that are written faster than they are read back.
const sampled = 16

func (b blocks) outs() []formats.TensorInfo {
	rows, columns := b.t.Size()
	n, err := b.typ.RowBytes(columns)
	if err != nil {
		n = 0 // the plan of the file refuses it
	}
	return []formats.TensorInfo{{Name: b.t.Name, DType: formats.U8, Shape: []int64{rows * n}}}
}

// memory is that of some rows, or of codes that are carried over: those read, in another order, and written.
func (b blocks) memory() int64 {
	_, columns := b.t.Size()
	n := streamed + 16*columns
	if b.t.Transposed {
		n += 4 * transposed
	}
	if b.quant != nil {
		n += 2*b.values() + 2*tensorBytes(b.outs())
	}
	return n
}

func (b blocks) do(ctx context.Context, w *task) error {
	note := Note{Tensor: b.t.From, From: b.from, To: b.typ.String(), How: Requantized, Why: b.why}
	if b.quant != nil {
		done, err := b.carry(w, &note)
		if done || err != nil {
			return err
		}
	}
	switch {
	case b.t.From == "":
		note.Tensor, note.How, note.From = b.t.Name, Computed, "config.json"
	case b.typ.Block() == 1 && note.From == b.typ.String():
		note.How = Copied
	case b.typ.Block() == 1 && !b.stored():
		note.How = Dequantized
	case b.typ.Block() == 1:
		note.How = Cast
	}
	sum, err := b.stream(ctx, w, note.How != Copied)
	if err != nil {
		return err
	}
	if err := sum.narrow(b.src, b.t.From); err != nil {
		return err
	}
	sum.into(&note)
	note.Sampled = note.How != Copied && sum.n < b.values()
	w.noted(b.t.Name, note)
	return nil
}

// values is the number of them that the tensor has.
func (b blocks) values() int64 {
	rows, columns := b.t.Size()
	return rows * columns
}

// stored reports whether the checkpoint has the tensor's values as such, so that bytes can be read.
func (b blocks) stored() bool {
	t, ok := b.src.Lookup(b.t.From)
	if q, is := b.src.(formats.Quantized); is {
		if _, quantized := q.Storage(b.t.From); quantized {
			return false
		}
	}
	return ok && (t.DType == formats.BF16 || t.DType == formats.F16 || t.DType == formats.F32)
}

// stream converts some rows at a time. Where the bytes are others, it measures what that does to values.
func (b blocks) stream(ctx context.Context, w *task, others bool) (errorSum, error) {
	var sum errorSum
	rows, columns := b.t.Size()
	size, err := b.typ.RowBytes(columns)
	if err != nil {
		return sum, formats.Errorf("", b.t.From, "%w", err)
	}
	s := w.sink(b.t.Name)
	r := &rowConverter{b: b, columns: columns}
	step := r.step(rows)
	out := make([]byte, step*size)
	for first, i := int64(0), 0; first < rows; first, i = first+step, i+1 {
		if err := ctx.Err(); err != nil {
			return sum, err
		}
		n := min(step, rows-first)
		p := out[:n*size]
		if err := r.convert(p, first, n); err != nil {
			return sum, err
		}
		if others && (b.all || i%sampled == 0) {
			if err := r.measure(&sum, p); err != nil {
				return sum, err
			}
		}
		if err := s.write(p); err != nil {
			return sum, err
		}
		w.done(n * columns)
	}
	s.close()
	return sum, nil
}

// rowConverter turns rows of the checkpoint into rows of blocks.
type rowConverter struct {
	b       blocks
	columns int64
	dt      formats.DType // of raw
	raw     []byte        // the rows as stored, where they are read as such
	values  []float32     // else
	got     []float32
}

// transposed is how many bytes of values are read at once of a tensor that is stored the other way round.
const transposed = 16 << 20

// step is how many rows are done at once: a chunk's worth. Of a transposed tensor few rows at a time are slow to read.
func (r *rowConverter) step(rows int64) int64 {
	if r.b.t.From != "" && r.b.stored() {
		t, _ := r.b.src.Lookup(r.b.t.From)
		r.dt = t.DType
	}
	most := int64(chunk)
	if r.b.t.Transposed {
		most = transposed
	}
	return min(rows, max(1, most/(4*r.columns)))
}

func (r *rowConverter) convert(dst []byte, first, n int64) error {
	if r.dt == formats.Invalid {
		r.values = grown(r.values, int(n*r.columns))
		if err := r.b.t.Rows(r.b.src, first, n, r.values); err != nil {
			return err
		}
		return r.named(ggml.Quantize(r.b.typ, dst, r.values, int(r.columns), r.b.importance), first)
	}
	r.raw = grown(r.raw, int(n*r.columns)*r.dt.Size())
	if err := r.b.t.Bytes(r.b.src, first, n, r.raw); err != nil {
		return err
	}
	return r.named(ggml.QuantizeFrom(r.b.typ, dst, r.raw, r.dt, int(r.columns), r.b.importance), first)
}

// named says of an error which tensor and rows it is of.
func (r *rowConverter) named(err error, first int64) error {
	if err == nil {
		return nil
	}
	return formats.Errorf("", r.b.t.From, "from row %d on: %w", first, err)
}

// measure compares the blocks with the rows that they were made of.
func (r *rowConverter) measure(sum *errorSum, blocks []byte) error {
	if r.dt != formats.Invalid {
		r.values = grown(r.values, len(r.raw)/r.dt.Size())
		if err := formats.Decode(r.values, r.raw, r.dt); err != nil {
			return err
		}
	}
	r.got = grown(r.got, len(r.values))
	if err := ggml.Dequantize(r.b.typ, r.got, blocks); err != nil {
		return err
	}
	sum.add(r.values, r.got)
	return nil
}

// carry writes the codes that the weight has, with scales that are rounded where the type does not hold them. It reports false where it does not
// hold the codes; then nothing was written.
func (b blocks) carry(w *task, note *Note) (bool, error) {
	var inexact *formats.Inexact
	var data []byte
	m, err := b.quant.Affine(b.t.From)
	if err == nil {
		m = b.t.Affine(m)
		data, err = ggml.EncodeAffine(b.typ, m)
	}
	note.How = Carried
	if errors.As(err, &inexact) {
		note.How, note.Why = Requantized, inexact.Cause
		if data = b.rescaled(m, note); data == nil {
			return false, nil
		}
	} else if err != nil {
		return false, err
	}
	if err := w.whole(formats.Tensor{TensorInfo: b.outs()[0], Data: data}); err != nil {
		return false, err
	}
	w.noted(b.t.Name, *note)
	return true, nil
}

// rescaled returns the blocks of a weight with its codes and scales that are rounded to F16, nil where there are none such.
func (b blocks) rescaled(m *formats.Affine, note *Note) []byte {
	if m == nil { // it lies on no grid
		return nil
	}
	r, err := rescaled(b.t.From, m, formats.F16)
	if err != nil {
		return nil
	}
	data, err := ggml.EncodeAffine(b.typ, r)
	if err != nil {
		return nil
	}
	var sum errorSum
	compare(m, r, &sum)
	sum.into(note)
	return data
}

// sourceRow is the row of the checkpoint that a row of blocks is: in a head, row 2j+t there is row t*K/2+j here (see [llamacpp.Tensor]).
func (b blocks) sourceRow(r int) int {
	if b.t.Heads == 0 {
		return r
	}
	rows, _ := b.t.Size()
	k := int(rows) / b.t.Heads
	return r/k*k + r%2*(k/2) + r%k/2
}

// prove reads the blocks again and compares every value with the source's codes, row by row, wherever writing put them.
func (b blocks) prove(read func(name string, p []byte, off int64) error, proof *Proof) error {
	m, err := b.quant.Affine(b.t.From)
	if err != nil {
		return err
	}
	size, err := b.typ.RowBytes(int64(m.In))
	if err != nil {
		return err
	}
	step := max(1, chunk/4/m.In)
	buf, want, got := make([]byte, step*int(size)), make([]float32, step*m.In), make([]float32, step*m.In)
	var sum errorSum
	for first := 0; first < m.Out; first += step {
		n := min(step, m.Out-first)
		if err := read(b.t.Name, buf[:n*int(size)], int64(first)*size); err != nil {
			return err
		}
		if err := ggml.Dequantize(b.typ, got[:n*m.In], buf[:n*int(size)]); err != nil {
			return err
		}
		for i := range n {
			m.Dequantize(want[i*m.In:(i+1)*m.In], b.sourceRow(first+i))
		}
		sum.add(want[:n*m.In], got[:n*m.In])
	}
	return proof.add(b.t.Name, sum)
}
