package nn

import (
	"fmt"

	"modelpress/internal/arch"
	"modelpress/internal/device"
)

// head is the output projection, with room for some rows.
type head struct {
	norm      norm       // the model's final norm
	w         device.Buf // [V, D]
	x, logits device.Buf // [rows, D], [rows, V]
	grad, tmp device.Buf // [rows, D]
	host      []float32  // logits, where the host cannot address them
}

func (h *head) free() {
	for _, b := range []device.Buf{h.w, h.x, h.logits, h.grad, h.tmp} {
		if b != nil {
			b.Free()
		}
	}
}

// Head turns hidden states x [T, D], the output of the last block, into logits: final norm and output projection,
// rowsPerChunk rows at a time. f gets the first row of the chunk, its number of rows, and their logits [rows, V], valid
// during the call. The head's weights stay loaded until [Model.Release] or [Model.Refresh].
func (m *Model) Head(x []float32, t int, rowsPerChunk int, f func(row0, rows int, logits []float32) error) error {
	return m.HeadLogits(x, t, rowsPerChunk, func(row0 int, l *Logits) error { return f(row0, l.Rows, l.Floats()) })
}

// HeadLogits is Head with logits that the host need not see.
func (m *Model) HeadLogits(x []float32, t int, rowsPerChunk int, f func(row0 int, l *Logits) error) error {
	d, v := m.Arch.D, m.Arch.V
	if t < 0 || rowsPerChunk <= 0 || len(x) < t*d {
		panic(fmt.Sprintf("nn: Head of %d values for %d positions of width %d, %d a chunk", len(x), t, d, rowsPerChunk))
	}
	h, err := m.loadHead()
	if err != nil {
		return fmt.Errorf("nn: output head: %w", err)
	}
	rows := min(rowsPerChunk, t)
	if err := m.scratch.fit(want{&h.x, rows, d}, want{&h.logits, rows, v}); err != nil {
		return fmt.Errorf("nn: output head: %w", err)
	}
	for lo := 0; lo < t; lo += rows {
		n := min(rows, t-lo)
		m.Dev.Upload(h.x, 0, x[lo*d:(lo+n)*d])
		m.normalize(h.x, h.x, h.norm, n)
		m.Dev.MatMulNT(h.logits, h.x, h.w, n, v, d, 0)
		if err := f(lo, h.view(m, n)); err != nil {
			return err
		}
	}
	return nil
}

// view shows the logits of n rows.
func (h *head) view(m *Model, n int) *Logits {
	return &Logits{Rows: n, v: m.Arch.V, dev: m.Dev, buf: h.logits, room: &h.host}
}

func (m *Model) loadHead() (*head, error) {
	if m.head != nil {
		return m.head, nil
	}
	f, err := m.finalNorm()
	if err != nil {
		return nil, err
	}
	h := &head{norm: f.norm}
	u := &uploader{dev: m.Dev, src: m.Src}
	l := arch.Linear{Weight: m.Arch.LMHead, In: m.Arch.D, Out: m.Arch.V}
	if h.w = u.share(l); h.w == nil {
		h.w, err = u.matrix(l)
	}
	if err != nil {
		return nil, err
	}
	m.head = h
	return h, nil
}
