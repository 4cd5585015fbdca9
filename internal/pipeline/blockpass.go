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
