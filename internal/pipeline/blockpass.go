package pipeline

import (
	"context"
	"errors"
	"fmt"

	"modelpress/internal/arch"
	"modelpress/internal/device"
	"modelpress/internal/nn"
)

// blockPass carries every window through one block, site by site, while the projections behind each site are replaced:
// what a replaced projection reads is computed once, kept, and read again.
//
// It keeps the outputs of attention, 4·H·K·Σ T_i bytes, until the output projection is replaced, then the states between
// attention and the feed-forward sub-layer, 4·D·Σ T_i; what exceeds the limit in memory goes to a file. The inputs of the
// last projection, 4·F·Σ T_i bytes, are kept where they fit under the limit, and computed again elsewhere: the bits are
// the same. On a device with a memory of its own, outputs of attention and these inputs are kept where they fit into that, as it is faster
// to compute them than to fetch them.
//
// With several devices each has a copy of the block and carries a run of windows: the first of them is the pass, the others its peers.
type blockPass struct {
	b     *nn.Block
	in    *boundary
	kept  *passStates
	first int // window
	peers []*blockPass

	attn *nn.States // outputs of attention; nil before they are known, once they are spent, and where they are not kept
	mid  *nn.States // states that enter the feed-forward sub-layer; nil before they are known
	act  *nn.States // inputs of the last projection; nil where they are not kept
}

// passStates is the room for the states of blockPasses, which one block after the other uses.
type passStates struct {
	windows [][]int32
	limit   int64  // bytes of each kind of states that stay in memory
	scratch string // directory for the others

	attn, mid, act *nn.States // nil before they are first needed
	work           workStates
}

// workStates is room for the states of some windows on a device, in the memory of the host where the device uses that.
type workStates struct {
	buf  device.Buf
	host []float32
}

// of returns room for n values; what it holds does not matter.
func (w *workStates) of(m *nn.Model, n int) (device.Buf, error) {
	if share, ok := m.Dev.(device.Sharer); ok {
		if cap(w.host) < n {
			w.host = make([]float32, n)
		}
		return share.Share(w.host[:n]), nil
	}
	if w.buf != nil && w.buf.Len() < n {
		w.free()
	}
	if w.buf == nil {
		var err error
		if w.buf, err = m.Alloc(device.F32, n); err != nil {
			return nil, err
		}
	}
	return w.buf, nil
}

func (w *workStates) free() {
	if w.buf != nil {
		w.buf.Free()
	}
	*w = workStates{}
}

// close gives the room back.
func (k *passStates) close() error {
	var err error
	for _, s := range []*nn.States{k.attn, k.mid, k.act} {
		if s != nil {
			err = errors.Join(err, s.Close())
		}
	}
	k.attn, k.mid, k.act = nil, nil, nil
	k.work.free()
	return err
}

// room returns *s made fit for states of a width, on the device of a model whose blocks take up to rows positions at once.
func (k *passStates) room(s **nn.States, width int, m *nn.Model) (*nn.States, error) {
	if *s != nil {
		if (*s).Width() == width {
			(*s).OnDevice(m, k.rows(m), false)
			return *s, nil
		}
		if err := (*s).Close(); err != nil {
			return nil, err
		}
		*s = nil
	}
	lengths := make([]int, len(k.windows))
	for i, w := range k.windows {
		lengths[i] = len(w)
	}
	var err error
	if *s, err = nn.NewStates(k.scratch, lengths, width, k.limit); err == nil {
		(*s).OnDevice(m, k.rows(m), false)
	}
	return *s, err
}

// keeps reports whether states of a width that may as well be computed again are kept.
func (k *passStates) keeps(width int, m *nn.Model) bool {
	bytes := k.tokens() * 4 * int64(width)
	if _, ok := m.Dev.(device.Remote); ok {
		return bytes <= m.Spare(k.rows(m), false)
	}
	return bytes <= k.limit
}

// rows is how many positions go through a block at once.
func (k *passStates) rows(m *nn.Model) int {
	n := 0
	for lo := 0; lo < len(k.windows); {
		hi := k.group(m, lo)
		n = max(n, (hi-lo)*len(k.windows[lo]))
		lo = hi
	}
	return n
}

// group returns the end of the windows from lo on that go through a block together: those of one length, as far as the model says.
func (k *passStates) group(m *nn.Model, lo int) int {
	hi, t, most := lo+1, len(k.windows[lo]), m.Together()
	for hi < len(k.windows) && len(k.windows[hi]) == t && (hi+1-lo)*t <= most {
		hi++
	}
	return hi
}

func (k *passStates) tokens() (n int64) {
	for _, w := range k.windows {
		n += int64(len(w))
	}
	return n
}

// reach runs the block up to a site and shows see, unless it is nil, the site's input for every window of this device, in order: a buffer
// that begins with t rows, valid during the call. Sites are reached in the order of the forward pass, each after the projections before it
// were replaced.
func (p *blockPass) reach(ctx context.Context, site nn.Site, see func(i int, in device.Buf, t int)) error {
	arch, m := p.b.Arch(), p.b.Model()
	switch site {
	case nn.SiteQKV:
		return p.show(ctx, site, see, nil, p.b.AttendBuf)
	case nn.SiteO:
		_, remote := m.Dev.(device.Remote)
		if width := arch.Width(site); !remote || p.kept.keeps(width, m) {
			var err error
			if p.attn, err = p.kept.room(&p.kept.attn, width, m); err != nil {
				return err
			}
		}
		return p.show(ctx, site, see, p.attn, p.b.AttendBuf)
	case nn.SiteGateUp:
		if err := p.enterFFN(ctx); err != nil {
			return err
		}
		return p.show(ctx, site, see, nil, p.b.FeedForwardBuf)
	}
	if width := arch.Width(site); p.kept.keeps(width, m) {
		var err error
		if p.act, err = p.kept.room(&p.kept.act, width, m); err != nil {
			return err
		}
	}
	return p.show(ctx, site, see, p.act, p.b.FeedForwardBuf)
}

// show runs half of the block as far as a site, shows its inputs to see and keeps them, as far as either is wanted.
func (p *blockPass) show(ctx context.Context, site nn.Site, see func(i int, in device.Buf, t int), keep *nn.States,
	half func(x device.Buf, t int, pass *nn.Pass) error) error {
	if see == nil && keep == nil {
		return nil
	}
	for lo := 0; lo < len(p.kept.windows); {
		hi := p.kept.group(p.b.Model(), lo)
		seen, err := p.showGroup(ctx, lo, hi, site, see, keep, half)
		if hi > lo+1 && !seen && errors.Is(err, device.ErrMemory) { // there may be enough for one of them
			hi = lo + 1
			_, err = p.showGroup(ctx, lo, hi, site, see, keep, half)
		}
		if err != nil {
			return err
		}
		lo = hi
	}
	return nil
}

// showGroup is show for some windows that go through the block together. It reports whether their inputs were shown or kept.
func (p *blockPass) showGroup(ctx context.Context, lo, hi int, site nn.Site, see func(i int, in device.Buf, t int), keep *nn.States,
	half func(x device.Buf, t int, pass *nn.Pass) error) (seen bool, err error) {
	t, dev := len(p.kept.windows[lo]), p.b.Model().Dev
	var failed error
	pass := &nn.Pass{HasStop: true, StopAfter: site, Sequences: hi - lo, TapBuf: func(s nn.Site, in device.Buf, _, cols int) {
		for i := lo; i < hi && s == site; i++ {
			seen = true
			if see != nil {
				see(i, dev.Slice(in, (i-lo)*t*cols, t*cols), t)
			}
			if keep != nil {
				failed = errors.Join(failed, keep.PutBuf(i, in, (i-lo)*t*cols))
			}
		}
	}}
	err = p.group(ctx, lo, hi, func(x device.Buf, rows int) error { return half(x, rows, pass) })
	return seen, errors.Join(err, failed)
}

// enterFFN computes the states between attention and the feed-forward sub-layer; the outputs of attention are spent.
func (p *blockPass) enterFFN(ctx context.Context) error {
	m := p.b.Model()
	mid, err := p.kept.room(&p.kept.mid, m.Arch.D, m)
	if err != nil {
		return err
	}
	err = p.eachWindow(ctx, func(i int, x device.Buf, t int) error {
		return errors.Join(p.attended(i, x, t), mid.PutBuf(i, x, 0))
	})
	p.attn, p.mid = nil, mid
	return err
}

// leave runs what is left of the block over every window and puts the states that leave it.
func (p *blockPass) leave(ctx context.Context, out *boundary) error {
	m := p.b.Model()
	out.onDevice(m, p.kept.rows(m))
	err := p.eachWindow(ctx, func(i int, x device.Buf, t int) error {
		if p.mid == nil {
			if err := p.attended(i, x, t); err != nil {
				return err
			}
		}
		var err error
		if p.act != nil {
			err = p.project(i, x, t, arch.Down, p.act)
		} else {
			err = p.b.FeedForwardBuf(x, t, nil)
		}
		return errors.Join(err, out.store(m.Dev, i, x, 0))
	})
	return errors.Join(err, out.settle())
}

// attended takes the states of a window past attention, by its outputs where these were kept.
func (p *blockPass) attended(i int, x device.Buf, t int) error {
	if p.attn == nil {
		return p.b.AttendBuf(x, t, nil)
	}
	return p.project(i, x, t, arch.O, p.attn)
}

// project adds the output of a projection for inputs that were kept.
func (p *blockPass) project(i int, x device.Buf, t int, r arch.Role, kept *nn.States) error {
	in, err := kept.Buf(i)
	if err != nil {
		return err
	}
	return p.b.ProjectBuf(x, r, in, t)
}

// eachWindow calls f with the states of every window, those between the sub-layers once they are known. f may change them.
func (p *blockPass) eachWindow(ctx context.Context, f func(i int, x device.Buf, t int) error) error {
	for i := range p.kept.windows {
		if err := p.group(ctx, i, i+1, func(x device.Buf, rows int) error { return f(i, x, rows) }); err != nil {
			return err
		}
	}
	return nil
}

// group calls f with the states of the windows from lo to hi, of one length, which follow one another.
func (p *blockPass) group(ctx context.Context, lo, hi int, f func(x device.Buf, rows int) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	m, n := p.b.Model(), p.in.elements(lo)
	x, err := p.kept.work.of(m, (hi-lo)*n)
	for i := lo; i < hi && err == nil; i++ {
		if p.mid != nil {
			err = p.mid.GetBuf(i, x, (i-lo)*n)
		} else {
			err = p.in.load(m.Dev, i, x, (i-lo)*n)
		}
	}
	if err == nil {
		err = f(x, (hi-lo)*n/m.Arch.D)
	}
	if err != nil {
		return fmt.Errorf("window %d: %w", lo, err)
	}
	return nil
}
