package nn

import (
	"modelpress/internal/device"
)

// scratch is the working memory of the blocks of one model. It grows to the largest pass and is reused: a pass of a size
// seen before allocates nothing.
type scratch struct {
	dev                 device.Device
	x                   device.Buf // [T, D], states of a caller on the host, where the device does not read them there
	n, q, k, v, o       device.Buf // [T, D], [T, H*K], [T, G*K], [T, G*K], [T, H*K]
	lse, sums, gate, up device.Buf // [H, T], [H, T], [rows, F], [rows, F]
	gated               device.Buf // [T, H*K], attention's output under gates
	full, other, lse2   device.Buf // of a Mix: [T, H*K], [T, H*K], [H, T]
	run, grad           device.Buf // [T, D], states and gradients of the windows that go through a layer, where these lie elsewhere
	table               device.Buf // rows of embeddings, as they are stored
	back                backScratch
	store               activationStore
	host                [8][]float32
	relieve             func(cheap bool) bool // see [Model.relieve]
}

// backScratch is what Backward needs besides.
type backScratch struct {
	q0, k0           device.Buf // queries and keys before their norms, where they have some
	mid, dy, act     device.Buf // [T, D], [T, D], [rows, F]: the input of the FFN; a gradient of a caller on the host; see downBack
	add, norm, hid   device.Buf // [T, D], [T, D], [rows, F]: of gates and of gradients by weights
	dout, dq, dk, dv device.Buf // [T, H*K], [T, H*K], [T, G*K], [T, G*K]
	part, pq, pk, pv device.Buf // the same for one of the two attentions of a Mix
}

// grow makes *b a buffer of a kind with at least n elements.
func (s *scratch) grow(b *device.Buf, kind device.Kind, n int, cheap bool) error {
	if *b != nil {
		if (*b).Len() >= n && (*b).Kind() == kind {
			return nil
		}
		(*b).Free()
		*b = nil
	}
	for {
		buf, err := s.dev.Alloc(kind, n)
		if err == nil {
			*b = buf
			return nil
		}
		if s.relieve == nil || !s.relieve(cheap) {
			return err
		}
	}
}

type want struct {
	buf        *device.Buf
	rows, cols int
}

// fit makes room, at any price.
func (s *scratch) fit(wants ...want) error { return s.room(false, wants) }

// try makes room where that costs little.
func (s *scratch) try(wants ...want) error { return s.room(true, wants) }

func (s *scratch) room(cheap bool, wants []want) error {
	for _, w := range wants {
		n, err := product(w.rows, w.cols)
		if err == nil {
			err = s.grow(w.buf, device.F32, n, cheap)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// view returns the first n values of a buffer: its own memory where the host can address it, else a copy in slot.
func (s *scratch) view(slot int, b device.Buf, n int) []float32 {
	out := s.blank(slot, b, n)
	if s.dev.Host(b) == nil {
		s.dev.Download(out, b, 0)
	}
	return out
}

// blank is view without the copy.
func (s *scratch) blank(slot int, b device.Buf, n int) []float32 {
	if h := s.dev.Host(b); h != nil {
		return h[:n]
	}
	if len(s.host[slot]) < n {
		s.host[slot] = make([]float32, n)
	}
	return s.host[slot][:n]
}

// bufs lists the buffers, but for kept activations.
func (s *scratch) bufs() []*device.Buf {
	g := &s.back
	return []*device.Buf{&s.x, &s.n, &s.q, &s.k, &s.v, &s.o, &s.lse, &s.sums, &s.gate, &s.up, &s.full, &s.other, &s.lse2, &s.gated, &s.run, &s.grad,
		&s.table, &g.q0, &g.k0, &g.mid, &g.dy, &g.act, &g.add, &g.norm, &g.hid, &g.dout, &g.dq, &g.dk, &g.dv, &g.part, &g.pq, &g.pk, &g.pv}
}

func (s *scratch) bytes() (n int64) {
	for _, b := range s.bufs() {
		n += bytesOf(*b)
	}
	return n
}

// drop gives the buffers back; nothing of them may be in use.
func (s *scratch) drop() {
	for _, b := range s.bufs() {
		if *b != nil {
			(*b).Free()
			*b = nil
		}
	}
}

func (s *scratch) free() {
	s.drop()
	s.store.free()
	*s = scratch{dev: s.dev, relieve: s.relieve}
}
