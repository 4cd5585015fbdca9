package pipeline

import (
	"context"
	"fmt"

	"modelpress/formats"
	"modelpress/heads/kvmerge"
	"modelpress/internal/arch"
	"modelpress/internal/device"
	"modelpress/internal/nn"
)

// merger carries the calibration windows through the model while its KV heads are merged, one layer after the other: the moments of
// each layer are those that the merged layers before it leave.
//
// Peak memory beyond the block and its merged form (8·n bytes for its n weights): moments, where groups are open 8·(G·K)² + 24·K·G²,
// else 8·(t·K)²·G/t for groups of t; kvmerge.SolveBytes while maps are solved and groups priced; 20·(H·K)² + 24·D·H·K where outputs are
// refitted; two windows.
type merger struct {
	s       *source
	d       *mergeDecision
	env     Env
	windows [][]int32
	// choose decides on the groups of a layer, from its moments; nil where the decision has them.
	choose func(ctx context.Context, l int, st *kvmerge.Stats) error
	src    *nn.Model
	work   workStates
	tick   func()
}

// free gives the memory of the device back.
func (r *merger) free() {
	r.work.free()
	r.src.Release()
}

// stateStore keeps the states of windows: a boundary, or nn.States.
type stateStore interface {
	load(dev device.Device, i int, x device.Buf, off int) error
	store(dev device.Device, i int, x device.Buf, off int) error
}

// inStates is nn.States as a stateStore.
type inStates struct{ *nn.States }

func (s inStates) load(_ device.Device, i int, x device.Buf, off int) error {
	return s.GetBuf(i, x, off)
}

func (s inStates) store(_ device.Device, i int, x device.Buf, off int) error {
	return s.PutBuf(i, x, off)
}

func newMerger(s *source, d *mergeDecision, windows [][]int32, env Env) *merger {
	return &merger{s: s, d: d, env: env, windows: windows, src: s.model(env.Device), tick: func() {}}
}

// shapeOf is the head layout of a layer.
func shapeOf(m *arch.Model, a *arch.Layer) kvmerge.Shape {
	s := kvmerge.Shape{H: a.H, G: a.G, K: a.K}
	if m.Rope != nil {
		s.Rotary = a.K
	}
	return s
}

// freqOf returns the angles of a model's rotary embedding; nil where it has none.
func freqOf(m *arch.Model, k int) func(t int) []float32 {
	if m.Rope == nil {
		return nil
	}
	return func(t int) []float32 {
		f, _ := nn.InvFreq(m.Rope, k, t)
		return f
	}
}

// layer merges layer l and carries the states that enter it through; in and out may be the same. It
// returns the maps of the layer, nil where it stays as it is.
func (r *merger) layer(ctx context.Context, l int, in, out stateStore) (*kvmerge.Maps, error) {
	maps, err := r.merge(ctx, l, in, out)
	if err != nil {
		return nil, fmt.Errorf("layer %d: %w", l, err)
	}
	return maps, nil
}

func (r *merger) merge(ctx context.Context, l int, in, out stateStore) (*kvmerge.Maps, error) {
	b, err := r.src.LoadBlock(l)
	if err != nil {
		return nil, err
	}
	defer b.Free()
	r.src.LoadAhead(l+1, r.longest(), false)
	if !b.Arch().HasAttention() || r.choose == nil && !merges(r.d.Layers[l]) {
		return nil, r.forward(ctx, b, in, out)
	}
	wo, err := b.Weight(arch.O)
	if err != nil {
		return nil, err
	}
	maps, err := r.solve(ctx, l, b, wo, in)
	if err != nil {
		return nil, err
	}
	if maps == nil {
		return nil, r.forward(ctx, b, in, out)
	}
	merged, err := r.mergedBlock(l, maps)
	if err != nil {
		return nil, err
	}
	defer free(merged)
	if r.d.Refit {
		if maps.Output, err = r.refit(ctx, b, merged, wo, in); err != nil {
			return nil, err
		}
	}
	return maps, r.forward(ctx, merged, in, out)
}

// free gives a merged block back, and the scratch memory of the model that was made for it.
func free(b *nn.Block) {
	m := b.Model()
	b.Free()
	m.Release()
}

func merges(m mergedLayer) bool { return m.Groups != nil && !kvmerge.Groups(m.Groups).Trivial() }

// solve collects the moments of a layer and makes its maps, nil where it turns out to stay as it is.
func (r *merger) solve(ctx context.Context, l int, b *nn.Block, wo []float32, in stateStore) (*kvmerge.Maps, error) {
	m, a := r.s.arch, b.Arch()
	var groups kvmerge.Groups
	if r.choose == nil {
		groups = r.d.Layers[l].Groups
	}
	st := kvmerge.NewStats(shapeOf(m, a), freqOf(m, a.K), groups, wo)
	if err := r.collect(ctx, b, st, in); err != nil {
		return nil, err
	}
	if r.choose != nil {
		if err := r.choose(ctx, l, st); err != nil {
			return nil, err
		}
		if groups = r.d.Layers[l].Groups; !merges(r.d.Layers[l]) {
			return nil, nil
		}
	}
	maps, lost, err := st.Solve(groups, r.d.ways(), r.env.Device.For)
	if err != nil {
		return nil, err
	}
	if r.choose != nil {
		d := &r.d.Layers[l]
		d.Key, d.Value, d.Output = number(lost.Key), number(lost.Value), number(lost.Share())
	}
	return maps, nil
}

// collect adds the heads of every window.
func (r *merger) collect(ctx context.Context, b *nn.Block, st *kvmerge.Stats, in stateStore) error {
	return r.each(ctx, b, in.load, func(_ int, x device.Buf, t int) error {
		return b.AttendBuf(x, t, &nn.Pass{TapHeads: func(q, k, v []float32, t int) bool {
			st.Add(q, k, v, t, r.env.Device.For)
			return true
		}})
	})
}

// mergedBlock loads layer l as maps make it.
func (r *merger) mergedBlock(l int, maps *kvmerge.Maps) (*nn.Block, error) {
	only := make([]kvmerge.Layer, len(r.s.arch.Layers))
	only[l] = kvmerge.Layer{Groups: maps.Groups, Repeat: r.d.Layers[l].Repeat}
	if a := &r.s.arch.Layers[l]; oneHeadCount(a) { // while planning, the layout is not known yet
		only[l].Repeat = a.G / len(maps.Groups)
	}
	view, m, err := kvmerge.View(r.s.dense, r.s.arch, only, func(int) (*kvmerge.Maps, error) { return maps, nil }, r.env.Device.For)
	if err != nil {
		return nil, err
	}
	return nn.New(r.env.Device, view, m).LoadBlock(l)
}

// refit fits the output projection of a merged block to the block before, and puts it there.
func (r *merger) refit(ctx context.Context, b, merged *nn.Block, wo []float32, in stateStore) ([]float32, error) {
	fused, err := merged.Weight(arch.O)
	if err != nil {
		return nil, err
	}
	fit := kvmerge.NewRefit(b.Arch().H * b.Arch().K)
	err = r.each(ctx, b, in.load, func(_ int, x device.Buf, t int) error {
		before, err := headOutputs(b, x, t)
		if err != nil {
			return err
		}
		after, err := headOutputs(merged, x, t)
		if err != nil {
			return err
		}
		fit.Add(before, after, t, r.env.Device.For)
		return nil
	})
	if err != nil {
		return nil, err
	}
	w, err := fit.Solve(wo, fused, r.env.Device.For)
	if err != nil {
		return nil, formats.Errorf("model", b.Arch().Linears[arch.O].Weight, "%w", err)
	}
	dt, err := r.s.storeDType()
	if err != nil {
		return nil, err
	}
	return w, merged.SetWeight(arch.O, w, dt)
}

// headOutputs returns the input of a block's output projection for states x, which stay as they are. It is valid until the block's
// model runs again.
func headOutputs(b *nn.Block, x device.Buf, t int) (out []float32, err error) {
	err = b.AttendBuf(x, t, &nn.Pass{HasStop: true, StopAfter: nn.SiteO, TapAttn: func(a *nn.AttnState) {
		a.Read(nn.Outputs)
		out = a.Out
	}})
	return out, err
}

func (r *merger) forward(ctx context.Context, b *nn.Block, in, out stateStore) error {
	dev := r.env.Device
	return r.each(ctx, b, in.load, func(i int, x device.Buf, t int) error {
		if err := b.ForwardBuf(x, t, nil); err != nil {
			return err
		}
		r.tick()
		return out.store(dev, i, x, 0)
	})
}

// each calls f with the states of every window, which it may change. b is the block that they go through, nil for none.
func (r *merger) each(ctx context.Context, b *nn.Block, load func(dev device.Device, i int, x device.Buf, off int) error,
	f func(i int, x device.Buf, t int) error) error {
	m := r.src
	if b != nil {
		m = b.Model()
	}
	for i, w := range r.windows {
		if err := ctx.Err(); err != nil {
			return err
		}
		x, err := r.work.of(m, len(w)*r.s.arch.D)
		if err == nil {
			err = load(r.env.Device, i, x, 0)
		}
		if err != nil {
			return err
		}
		if err := f(i, x, len(w)); err != nil {
			return fmt.Errorf("window %d: %w", i, err)
		}
	}
	return nil
}

// embed puts the states that enter the first layer.
func (r *merger) embed(ctx context.Context, out stateStore) error {
	return r.each(ctx, nil, func(_ device.Device, i int, x device.Buf, _ int) error { return r.src.EmbedBuf(x, r.windows[i]) },
		func(i int, x device.Buf, _ int) error { return out.store(r.env.Device, i, x, 0) })
}

// longest is the number of positions of the longest window.
func (r *merger) longest() (n int) {
	for _, w := range r.windows {
		n = max(n, len(w))
	}
	return n
}
