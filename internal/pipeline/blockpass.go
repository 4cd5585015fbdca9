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
// the same.
type blockPass struct {
	b    *nn.Block
	in   *boundary
	kept *passStates

	attn *nn.States // outputs of attention; nil before they are known and once they are spent
	mid  *nn.States // states that enter the feed-forward sub-layer; nil before they are known
	act  *nn.States // inputs of the last projection; nil where they are not kept
	host hostCopy
}

// hostCopy is room on the host for what a device does not let it address.
type hostCopy []float32

// values returns the first n values of a buffer, valid until the next call.
func (h *hostCopy) values(dev device.Device, b device.Buf, n int) []float32 {
	if x := dev.Host(b); x != nil {
		return x[:n]
	}
	if cap(*h) < n {
		*h = make([]float32, n)
	}
	dev.Download((*h)[:n], b, 0)
	return (*h)[:n]
}

// passStates is the room for the states of blockPasses, which one block after the other uses.
type passStates struct {
	windows [][]int32
	limit   int64  // bytes of each kind of states that stay in memory
	scratch string // directory for the others

	attn, mid, act *nn.States // nil before they are first needed
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
	return err
}

// room returns *s made fit for states of a width.
func (k *passStates) room(s **nn.States, width int) (*nn.States, error) {
	if *s != nil {
		if (*s).Width() == width {
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
	*s, err = nn.NewStates(k.scratch, lengths, width, k.limit)
	return *s, err
}

func (k *passStates) tokens() (n int64) {
	for _, w := range k.windows {
		n += int64(len(w))
	}
	return n
}

// reach runs the block up to a site and shows see, unless it is nil, the site's input for every window, in order: a buffer that begins
// with t rows, valid during the call. Sites are reached in the order of the forward pass, each after the projections before it were
// replaced.
func (p *blockPass) reach(ctx context.Context, site nn.Site, see func(i int, in device.Buf, t int)) error {
	switch site {
	case nn.SiteQKV:
		return p.show(ctx, site, see, nil, p.b.Attend)
	case nn.SiteO:
		var err error
		if p.attn, err = p.kept.room(&p.kept.attn, p.b.Arch().Width(site)); err != nil {
			return err
		}
		return p.show(ctx, site, see, p.attn, p.b.Attend)
	case nn.SiteGateUp:
		if err := p.enterFFN(ctx); err != nil {
			return err
		}
		return p.show(ctx, site, see, nil, p.b.FeedForward)
	}
	if width := p.b.Arch().Width(site); p.kept.tokens()*4*int64(width) <= p.kept.limit {
		var err error
		if p.act, err = p.kept.room(&p.kept.act, width); err != nil {
			return err
		}
	}
	return p.show(ctx, site, see, p.act, p.b.FeedForward)
}

// show runs half of the block as far as a site, shows its inputs to see and keeps them, as far as either is wanted.
func (p *blockPass) show(ctx context.Context, site nn.Site, see func(i int, in device.Buf, t int), keep *nn.States,
	half func(x []float32, t int, pass *nn.Pass) error) error {
	if see == nil && keep == nil {
		return nil
	}
	return p.eachWindow(ctx, func(i int, x []float32, t int) (err error) {
		pass := &nn.Pass{HasStop: true, StopAfter: site, TapBuf: func(s nn.Site, in device.Buf, rows, cols int) {
			if s != site {
				return
			}
			if see != nil {
				see(i, in, rows)
			}
			if keep != nil {
				err = keep.Put(i, p.host.values(p.b.Model().Dev, in, rows*cols))
			}
		}}
		return errors.Join(half(x, t, pass), err)
	})
}

// enterFFN computes the states between attention and the feed-forward sub-layer; the outputs of attention are spent.
func (p *blockPass) enterFFN(ctx context.Context) error {
	mid, err := p.kept.room(&p.kept.mid, p.b.Model().Arch.D)
	if err != nil {
		return err
	}
	err = p.eachWindow(ctx, func(i int, x []float32, t int) error {
		return errors.Join(p.project(i, x, t, arch.O, p.attn), mid.Put(i, x))
	})
	p.attn, p.mid = nil, mid
	return err
}

// leave runs what is left of the block over every window and puts the states that leave it.
func (p *blockPass) leave(ctx context.Context, put func(i int, x []float32) error) error {
	return p.eachWindow(ctx, func(i int, x []float32, t int) error {
		err := p.project(i, x, t, arch.O, p.attn)
		switch {
		case err != nil:
			return err
		case p.act != nil:
			err = p.project(i, x, t, arch.Down, p.act)
		default:
			err = p.b.FeedForward(x, t, nil)
		}
		return errors.Join(err, put(i, x))
	})
}

// project adds the output of a projection for inputs that were kept; none where nothing was.
func (p *blockPass) project(i int, x []float32, t int, r arch.Role, kept *nn.States) error {
	if kept == nil {
		return nil
	}
	in, err := kept.View(i)
	if err != nil {
		return err
	}
	return p.b.Project(x, r, in, t)
}

// eachWindow calls f with the states of every window, those between the sub-layers once they are known.
func (p *blockPass) eachWindow(ctx context.Context, f func(i int, x []float32, t int) error) error {
	var x []float32
	for i, w := range p.kept.windows {
		if err := ctx.Err(); err != nil {
			return err
		}
		n := p.in.elements(i)
		if cap(x) < n {
			x = make([]float32, n)
		}
		x = x[:n]
		get := p.in.get
		if p.mid != nil {
			get = p.mid.Get
		}
		if err := get(i, x); err != nil {
			return err
		}
		if err := f(i, x, len(w)); err != nil {
			return fmt.Errorf("window %d: %w", i, err)
		}
	}
	return nil
}
