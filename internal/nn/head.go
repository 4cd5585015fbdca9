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

// bufs lists the buffers of a head, but for those of the norm.
func (h *head) bufs() []device.Buf { return []device.Buf{h.w, h.x, h.logits, h.grad, h.tmp} }

func (h *head) free() { release(h.bufs()) }

// Head turns hidden states x [T, D], the output of the last block, into logits: final norm and output projection,
// rowsPerChunk rows at a time. f gets the first row of the chunk, its number of rows, and their logits [rows, V], valid
// during the call. The head's weights stay loaded until [Model.Release] or [Model.Refresh].
func (m *Model) Head(x []float32, t int, rowsPerChunk int, f func(row0, rows int, logits []float32) error) error {
	return m.HeadLogits(x, t, rowsPerChunk, func(row0 int, l *Logits) error { return f(row0, l.Rows, l.Floats()) })
}

// HeadLogits is Head with logits that the host need not see.
func (m *Model) HeadLogits(x []float32, t int, rowsPerChunk int, f func(row0 int, l *Logits) error) error {
	return m.headLogits(len(x), t, rowsPerChunk, m.hostRows(x), f)
}

// HeadLogitsBuf is HeadLogits of states on the device.
func (m *Model) HeadLogitsBuf(x device.Buf, t int, rowsPerChunk int, f func(row0 int, l *Logits) error) error {
	return m.headLogits(x.Len(), t, rowsPerChunk, m.bufRows(x), f)
}

// rowsOf returns n rows of hidden states from row lo on, on the device, for a head with room for them.
type rowsOf func(h *head, lo, n int) device.Buf

func (m *Model) hostRows(x []float32) rowsOf {
	d := m.Arch.D
	share, ok := m.Dev.(device.Sharer)
	return func(h *head, lo, n int) device.Buf {
		if ok {
			return share.Share(x[lo*d : (lo+n)*d])
		}
		m.Dev.Upload(h.x, 0, x[lo*d:(lo+n)*d])
		return h.x
	}
}

func (m *Model) bufRows(x device.Buf) rowsOf {
	d := m.Arch.D
	return func(_ *head, lo, n int) device.Buf { return m.Dev.Slice(x, lo*d, n*d) }
}

// headLogits is HeadLogits of t rows x of values hidden states.
func (m *Model) headLogits(values, t, rowsPerChunk int, x rowsOf, f func(row0 int, l *Logits) error) error {
	d, v := m.Arch.D, m.Arch.V
	if t < 0 || rowsPerChunk <= 0 || values < t*d {
		panic(fmt.Sprintf("nn: Head of %d values for %d positions of width %d, %d a chunk", values, t, d, rowsPerChunk))
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
		m.normalize(h.x, x(h, lo, n), h.norm, n)
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
	u := m.uploader(m.relieve)
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
