package pipeline

import (
	"context"
	"errors"

	"modelpress/formats"
	"modelpress/internal/arch"
	"modelpress/internal/device"
	"modelpress/internal/nn"
)

// all lists the parts of a pass, a device each, in the order of their windows.
func (p *blockPass) all() []*blockPass { return append([]*blockPass{p}, p.peers...) }

// each runs f for all parts at once.
func (p *blockPass) each(f func(j int, q *blockPass) error) error {
	parts := p.all()
	if len(parts) == 1 {
		return f(0, p)
	}
	errs := make([]error, len(parts))
	nn.AtOnce(len(parts), func(j int) { errs[j] = f(j, parts[j]) })
	return errors.Join(errs...)
}

// reachAll is reach on all devices; see returns what sees the inputs of one of them, by the numbers of the windows among all.
func (p *blockPass) reachAll(ctx context.Context, site nn.Site, see func(j int) func(i int, in device.Buf, t int)) error {
	return p.each(func(j int, q *blockPass) error {
		f := see(j)
		return q.reach(ctx, site, func(i int, in device.Buf, t int) { f(q.first+i, in, t) })
	})
}

// passAll reaches a site that nobody looks at on all devices.
func (p *blockPass) passAll(ctx context.Context, site nn.Site) error {
	return p.each(func(_ int, q *blockPass) error { return q.reach(ctx, site, nil) })
}

// mirror gives the peers the weight of a projection that was replaced.
func (p *blockPass) mirror(r arch.Role) error {
	if len(p.peers) == 0 {
		return nil
	}
	buf, err := p.b.WeightBuf(r)
	if err != nil {
		return err
	}
	w, err := p.b.Weight(r)
	if err != nil {
		return err
	}
	dt := map[device.Kind]formats.DType{device.F32: formats.F32, device.BF16: formats.BF16, device.F16: formats.F16}[buf.Kind()]
	for _, q := range p.peers {
		if err := q.b.SetWeight(r, w, dt); err != nil {
			return err
		}
	}
	return nil
}

// blockGroup is the devices that a model is spread over, with room for the states of the windows of each.
type blockGroup struct {
	models []*nn.Model
	cuts   []int // where the windows of each begin, and the end
	kept   []*passStates
}

func newBlockGroup(m *nn.Model, windows [][]int32, limit int64, scratch string) *blockGroup {
	lengths := make([]int, len(windows))
	for i, w := range windows {
		lengths[i] = len(w)
	}
	g := &blockGroup{models: m.Peers()}
	g.cuts = nn.Deal(lengths, len(g.models))
	for j := range g.models {
		share := max(1, limit/int64(len(g.models)))
		g.kept = append(g.kept, &passStates{windows: windows[g.cuts[j]:g.cuts[j+1]], limit: share, scratch: scratch})
	}
	return g
}

// load reads a block for every device.
func (g *blockGroup) load(l int) (p *blockPass, err error) {
	parts, errs := make([]*blockPass, len(g.models)), make([]error, len(g.models))
	nn.AtOnce(len(parts), func(j int) {
		m := g.models[j]
		parts[j] = &blockPass{kept: g.kept[j], first: g.cuts[j]}
		if parts[j].b, errs[j] = m.LoadBlock(l); errs[j] == nil {
			m.LoadAhead(l+1, g.kept[j].rows(m), false)
		}
	})
	p = parts[0]
	p.peers = parts[1:]
	if err := errors.Join(errs...); err != nil {
		p.free()
		return nil, err
	}
	return p, nil
}

// free gives the blocks back.
func (p *blockPass) free() {
	for _, q := range p.all() {
		if q.b != nil {
			q.b.Free()
		}
	}
}

// enter has the parts of a pass begin with the states of a boundary.
func (g *blockGroup) enter(p *blockPass, in *boundary) {
	for j, q := range p.all() {
		q.in = in.of(j, g)
	}
}

// leave runs what is left of the block and has the states go to a boundary.
func (g *blockGroup) leave(ctx context.Context, p *blockPass, out *boundary) error {
	return p.each(func(j int, q *blockPass) error { return q.leave(ctx, out.of(j, g)) })
}

// embed has the embedded tokens go to a boundary.
func (g *blockGroup) embed(ctx context.Context, out *boundary) error {
	errs := make([]error, len(g.models))
	nn.AtOnce(len(g.models), func(j int) { errs[j] = g.kept[j].embed(ctx, g.models[j], out.of(j, g)) })
	return errors.Join(errs...)
}

func (k *passStates) embed(ctx context.Context, m *nn.Model, out *boundary) error {
	for i, ids := range k.windows {
		if err := ctx.Err(); err != nil {
			return err
		}
		x, err := k.work.of(m, out.elements(i))
		if err == nil {
			err = m.EmbedBuf(x, ids)
		}
		if err == nil {
			err = out.store(m.Dev, i, x, 0)
		}
		if err != nil {
			return err
		}
	}
	return out.settle()
}

func (g *blockGroup) close() error {
	var errs []error
	for _, k := range g.kept {
		errs = append(errs, k.close())
	}
	return errors.Join(errs...)
}
