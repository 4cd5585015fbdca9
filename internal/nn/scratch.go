package nn

import (
	"modelpress/internal/device"
)

// ffnRows is how many rows the FFN takes at once. Every row is computed on its own, so the number changes no bit.
const ffnRows = 1024

// scratch is the working memory of the blocks of one model. It grows to the largest pass and is reused: a pass of a size
// seen before allocates nothing.
type scratch struct {
	dev                 device.Device
	x, n, q, k, v, o    device.Buf // [T, D], [T, D], [T, H*K], [T, G*K], [T, G*K], [T, H*K]
	lse, sums, gate, up device.Buf // [H, T], [H, T], [rows, F], [rows, F]
	gated               device.Buf // [T, H*K], attention's output under gates
	full, other, lse2   device.Buf // of a Mix: [T, H*K], [T, H*K], [H, T]
	back                backScratch
	store               activationStore
	host                [8][]float32
}

// backScratch is what Backward needs besides.
type backScratch struct {
	q0, k0           device.Buf // queries and keys before their norms, where they have some
	dy, act          device.Buf // [T, D], [rows, F]
	add, norm, hid   device.Buf // [T, D], [T, D], [rows, F]: of gates and of gradients by weights
	dout, dq, dk, dv device.Buf // [T, H*K], [T, H*K], [T, G*K], [T, G*K]
	part, pq, pk, pv device.Buf // the same for one of the two attentions of a Mix
	states           []float32  // [T, D] on the host
}

// grow makes *b an F32 buffer of at least n elements.
func (s *scratch) grow(b *device.Buf, n int) error {
	if *b != nil {
		if (*b).Len() >= n {
			return nil
		}
		(*b).Free()
		*b = nil
	}
	buf, err := s.dev.Alloc(device.F32, n)
	if err != nil {
		return err
	}
	*b = buf
	return nil
}

type want struct {
	buf        *device.Buf
	rows, cols int
}

func (s *scratch) fit(wants ...want) error {
	for _, w := range wants {
		n, err := product(w.rows, w.cols)
		if err == nil {
			err = s.grow(w.buf, n)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// view returns the first n values of a buffer: its own memory where the host can address it, else a copy in slot.
func (s *scratch) view(slot int, b device.Buf, n int) []float32 {
	if h := s.dev.Host(b); h != nil {
		return h[:n]
	}
	if len(s.host[slot]) < n {
		s.host[slot] = make([]float32, n)
	}
	out := s.host[slot][:n]
	s.dev.Download(out, b, 0)
	return out
}

func (s *scratch) free() {
	g := &s.back
	for _, b := range []device.Buf{s.x, s.n, s.q, s.k, s.v, s.o, s.lse, s.sums, s.gate, s.up, s.full, s.other, s.lse2, s.gated,
		g.q0, g.k0, g.dy, g.act, g.add, g.norm, g.hid, g.dout, g.dq, g.dk, g.dv, g.part, g.pq, g.pk, g.pv} {
		if b != nil {
			b.Free()
		}
	}
	s.store.free()
	*s = scratch{dev: s.dev}
}
