package nn

import (
	"fmt"

	"modelpress/internal/arch"
	"modelpress/internal/device"
)

// Forward runs the block over one window: x [T, D] is replaced by the block's output.
//
// Beside the weights and the states it holds 4*(T*(D + 2HK + 2GK + H) + 2*min(T, R)*F) bytes on the device, H*T more floats for
// column sums, T*(2HK + H) for a Mix, and T instead of min(T, R) rows of the FFN under a Tap or a stop; R is 1024, and up to 8192 on a
// device with a memory of its own that has room. 4*T*K bytes of rotary tables are on the host, or on such a device. This memory belongs
// to the model and is reused: calls of a size seen before allocate no buffer. Where there is too little of it, the FFN takes fewer rows
// at once.
//
// The states of callers on the host are copied to the device and back where it does not read the memory of the host as its own.
func (b *Block) Forward(x []float32, t int, p *Pass) error {
	return b.hosted(x, t, func(x device.Buf) error { return b.ForwardBuf(x, t, p) })
}

// ForwardBuf is Forward of states on the device.
func (b *Block) ForwardBuf(x device.Buf, t int, p *Pass) error {
	if p == nil {
		p = &Pass{}
	}
	s := &b.model.scratch
	s.swapAttn(p.acts)
	stopped, err := b.part(x, t, p, b.attention)
	s.swapAttn(p.acts)
	if err == nil && p.acts != nil {
		n := t * b.model.Arch.D
		if err = s.fit(want{&p.acts.mid, t, b.model.Arch.D}); err == nil {
			b.model.Dev.Copy(p.acts.mid, 0, x, 0, n)
		}
	}
	if err == nil && !stopped {
		_, err = b.part(x, t, p, b.ffn)
	}
	return err
}

// Attend is the first half of Forward, attention alone: x becomes what enters the feed-forward sub-layer.
func (b *Block) Attend(x []float32, t int, p *Pass) error {
	return b.hosted(x, t, func(x device.Buf) error { return b.AttendBuf(x, t, p) })
}

// AttendBuf is Attend of states on the device.
func (b *Block) AttendBuf(x device.Buf, t int, p *Pass) error {
	_, err := b.part(x, t, p, b.attention)
	return err
}

// FeedForward is the second half of Forward, from what Attend has left.
func (b *Block) FeedForward(x []float32, t int, p *Pass) error {
	return b.hosted(x, t, func(x device.Buf) error { return b.FeedForwardBuf(x, t, p) })
}

// FeedForwardBuf is FeedForward of states on the device.
func (b *Block) FeedForwardBuf(x device.Buf, t int, p *Pass) error {
	_, err := b.part(x, t, p, b.ffn)
	return err
}

// Project is the end of either half: it adds the output of the projection O or Down to x [T, D], for its input
// in [T, In] as a Tap shows it. Bits are those of Forward.
func (b *Block) Project(x []float32, r arch.Role, in []float32, t int) error {
	l := b.linears[r]
	if len(in) < t*l.in {
		panic(fmt.Sprintf("nn: Project of %d values for %d positions of width %d", len(in), t, l.in))
	}
	return b.hosted(x, t, func(x device.Buf) error {
		s := &b.model.scratch
		buf := &s.o
		if r == arch.Down {
			buf = &s.up
		}
		if err := s.fit(want{buf, t, l.in}); err != nil {
			return fmt.Errorf("nn: layer %d: %w", b.index, err)
		}
		b.model.Dev.Upload(*buf, 0, in[:t*l.in])
		return b.ProjectBuf(x, r, *buf, t)
	})
}

// ProjectBuf is Project of states and inputs on the device.
func (b *Block) ProjectBuf(x device.Buf, r arch.Role, in device.Buf, t int) error {
	if l := b.linears[r]; r != arch.O && r != arch.Down || l.w == nil {
		panic(fmt.Sprintf("nn: Project by %s", r))
	}
	_, err := b.part(x, t, nil, func(x device.Buf, t int, p *Pass) (bool, error) {
		b.addOutput(x, in, r, t, p)
		return false, nil
	})
	return err
}

// hosted runs f on the states x [T, D] of a caller on the host: where they are, or on a copy that becomes x once f has succeeded.
func (b *Block) hosted(x []float32, t int, f func(x device.Buf) error) error {
	m := b.model
	if t <= 0 || len(x) < t*m.Arch.D {
		panic(fmt.Sprintf("nn: pass of %d values for %d positions of width %d", len(x), t, m.Arch.D))
	}
	return m.hosted(x[:t*m.Arch.D], &m.scratch.x, f)
}

// hosted runs f on x, or on a copy in room that becomes x once f has succeeded.
func (m *Model) hosted(x []float32, room *device.Buf, f func(x device.Buf) error) error {
	if dev, ok := m.Dev.(device.Sharer); ok {
		return f(dev.Share(x))
	}
	if err := m.scratch.fit(want{room, len(x), 1}); err != nil {
		return fmt.Errorf("nn: states of a caller: %w", err)
	}
	m.Dev.Upload(*room, 0, x)
	if err := f(*room); err != nil {
		return err
	}
	m.Dev.Download(x, *room, 0)
	return nil
}

// part runs one half of the block over x.
func (b *Block) part(x device.Buf, t int, p *Pass, half func(x device.Buf, t int, p *Pass) (bool, error)) (stop bool, err error) {
	m := b.model
	if t <= 0 || x.Len() < t*m.Arch.D {
		panic(fmt.Sprintf("nn: pass of %d values for %d positions of width %d", x.Len(), t, m.Arch.D))
	}
	if p == nil {
		p = &Pass{}
	}
	if err = m.scratch.fit(want{&m.scratch.n, t, m.Arch.D}); err == nil {
		stop, err = half(x, t, p)
	}
	if err != nil {
		return false, fmt.Errorf("nn: layer %d: %w", b.index, err)
	}
	return stop, nil
}

// addOutput adds the output of a projection for its input to the states x.
func (b *Block) addOutput(x, in device.Buf, r arch.Role, t int, p *Pass) {
	s, dev := &b.model.scratch, b.model.Dev
	b.linear(s.n, in, r, t)
	if g := gatesOf(p.Gates); g.Hidden != nil {
		dev.ScaleColumns(s.n, s.n, g.Hidden, t, b.model.Arch.D)
	}
	dev.Add(x, s.n, t*b.model.Arch.D)
}

// mix computes both attentions of a Mix and their blend.
func (b *Block) mix(x *Mix, shape device.AttnShape, masks []device.Mask) error {
	s, dev, hk := &b.model.scratch, b.model.Dev, shape.H*shape.K
	if err := s.fit(want{&s.full, shape.T, hk}, want{&s.other, shape.T, hk}, want{&s.lse2, shape.H, shape.T}); err != nil {
		return err
	}
	dev.Attention(s.full, s.lse, s.q, s.k, s.v, shape, masks)
	dev.Attention(s.other, s.lse2, s.q, s.k, s.v, shape, x.Masks)
	dev.MixHeads(s.o, s.full, s.other, x.Alpha, shape)
	return nil
}

func (b *Block) normalize(y, x device.Buf, n norm, t int) { b.model.normalize(y, x, n, t) }

// linear computes y = x·Wᵀ + b of a projection over t rows.
func (b *Block) linear(y, x device.Buf, r arch.Role, t int) {
	l := b.linears[r]
	b.model.Dev.MatMulNT(y, x, l.w, t, l.out, l.in, 0)
	if l.b != nil {
		b.model.Dev.AddBias(y, l.b, t, l.out)
	}
}

// tap shows the input of a site to the pass and reports whether the pass stops there.
func (b *Block) tap(p *Pass, site Site, x device.Buf, rows, cols int) bool {
	if p.Tap != nil {
		p.Tap(site, b.model.scratch.view(0, x, rows*cols), rows, cols)
	}
	if p.TapBuf != nil {
		p.TapBuf(site, x, rows, cols)
	}
	return p.HasStop && p.StopAfter == site
}
