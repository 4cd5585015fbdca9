package pipeline

import (
	"fmt"

	"modelpress/calib"
	"modelpress/formats"
	"modelpress/internal/arch"
	"modelpress/internal/device"
	"modelpress/internal/nn"
	"modelpress/prune/sparse"
	"modelpress/quantize"
)

// sparsified is a matrix as it was made sparse.
type sparsified struct {
	sparse.Report
	error float64      // relative, as the report of the run has it
	put   func() error // puts the values in the place of the weight
	free  func()       // gives back what put has not used
}

// onHost makes a projection sparse on the host.
func (z *sparsifier) onHost(b *nn.Block, r arch.Role, h *calib.Hessian, s sparse.Scheme) (*sparsified, error) {
	lin, par, store := b.Arch().Linears[r], z.dev.For, z.store(b.Arch().Linears[r].Weight)
	w, err := b.Weight(r)
	if err != nil {
		return nil, err
	}
	q, rep, err := z.prune(w, lin, h, s)
	if err != nil {
		return nil, err
	}
	m := &sparsified{Report: rep, free: func() {}, put: func() error { return b.SetWeight(r, q, store) }}
	switch {
	case h == nil:
		m.error = relativeError(w, q)
	case !z.solved(rep):
		m.error = quantize.RelativeOutputError(w, q, lin.Out, lin.In, h.Values(), par)
	case rep.OutputError > 0:
		m.error = rep.OutputError / quantize.OutputEnergy(w, lin.Out, lin.In, h.Values(), par)
	}
	return m, nil
}

// solved reports whether SparseGPT itself has said what the outputs lose.
func (z *sparsifier) solved(rep sparse.Report) bool {
	return z.d.Method == methodSparseGPT && !rep.FellBack
}

// prune runs the method on the host.
func (z *sparsifier) prune(w []float32, lin arch.Linear, h *calib.Hessian, s sparse.Scheme) (q []float32, rep sparse.Report, err error) {
	par, store := z.dev.For, z.store(lin.Weight)
	switch z.d.Method {
	case methodSparseGPT:
		q, rep, err = sparse.SparseGPT(w, lin.Out, lin.In, h.Values(), s, store, par)
	case methodWanda:
		q, rep, err = sparse.Wanda(w, lin.Out, lin.In, h.Diagonal(), s, store, par)
	default:
		q, err = sparse.Magnitude(w, lin.Out, lin.In, s, store, par)
	}
	if err != nil {
		return nil, rep, formats.Errorf("model", lin.Weight, "%w", err)
	}
	return q, rep, nil
}

// onDevice makes a projection sparse and measures what that costs on a device, where the Hessian stays. What SparseGPT has no kernels for is
// done on the host, as are the methods that only compare weights.
func (z *sparsifier) onDevice(b *nn.Block, r arch.Role, h *calib.Hessian, s sparse.Scheme) (*sparsified, error) {
	lin, dev := b.Arch().Linears[r], z.dev.(device.Quantizer)
	store := z.store(lin.Weight)
	w, err := b.WeightBuf(r)
	if err != nil {
		return nil, err
	}
	b.Model().MakeRoom(matrixBytes(lin.Out, lin.In))
	q, err := dev.Alloc(nn.KindOf(store), lin.Out*lin.In)
	if err != nil {
		return nil, fmt.Errorf("pipeline: %s: %w", lin.Weight, err)
	}
	m := &sparsified{free: q.Free}
	if z.d.Method == methodSparseGPT && s.OnDevice() {
		if m.Report, err = sparse.SparseGPTOnDevice(dev, q, w, lin.Out, h, s, store); err != nil {
			err = formats.Errorf("model", lin.Weight, "%w", err)
		}
	} else {
		m.Report, err = z.throughHost(b, r, q, h, s)
	}
	if err != nil {
		m.free()
		return nil, err
	}
	m.put = func() error {
		m.free = func() {}
		return b.SetWeightBuf(r, q)
	}
	switch {
	case h == nil:
		if far, size := dev.Distance(w, q, lin.Out, lin.In); size > 0 {
			m.error = far / size
		}
	case !z.solved(m.Report):
		m.error = relativeEnergy(h, w, q, lin.Out)
	case m.OutputError > 0:
		m.error = m.OutputError / h.Gram().Energy(w, nil, lin.Out)
	}
	return m, nil
}

// throughHost prunes on the host what is on a device, to dst there.
func (z *sparsifier) throughHost(b *nn.Block, r arch.Role, dst device.Buf, h *calib.Hessian, s sparse.Scheme) (sparse.Report, error) {
	w, err := b.Weight(r)
	if err != nil {
		return sparse.Report{}, err
	}
	q, rep, err := z.prune(w, b.Arch().Linears[r], h, s)
	if err != nil {
		return rep, err
	}
	z.dev.Upload(dst, 0, q)
	return rep, nil
}
