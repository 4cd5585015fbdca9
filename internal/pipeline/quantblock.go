package pipeline

import (
	"context"
	"errors"
	"math"
	"strconv"

	"modelpress/calib"
	"modelpress/formats"
	"modelpress/internal/arch"
	"modelpress/internal/device"
	"modelpress/internal/nn"
	"modelpress/quantize"
)

// quantizer carries a quantization decision out on one block after the other. Inputs of a block are the states that the
// compressed blocks before it produced (weights.md calls this the quantized prefix); within a block the inputs of each
// group of projections are taken after the groups before it were replaced.
//
// Peak memory beyond the block: one Gram matrix, 8·n² bytes (n the widest input), which GPTQ factors in place; one matrix in
// f32 four times over; and 4·Σ T_i bytes of token weights. On a device.Quantizer the first two are in its memory, hessianBytes and
// matrixBytes, and the host has the codes of a block.
type quantizer struct {
	d   *quantDecision
	dev device.Device
}

// block quantizes the planned matrices of a block in place and returns their codes by role.
func (z *quantizer) block(ctx context.Context, p *blockPass) (map[arch.Role]*quantize.Matrix, []tensorNote, error) {
	mats := map[arch.Role]*quantize.Matrix{}
	var notes []tensorNote
	weights, err := z.tokenWeights(ctx, p)
	if err != nil {
		return nil, nil, err
	}
	for _, site := range p.b.Arch().Sites() {
		var roles []arch.Role
		for _, r := range site.Roles() {
			if lin := p.b.Arch().Linears[r]; lin.Present() && z.d.has(lin.Module()) {
				roles = append(roles, r)
			}
		}
		found, err := z.site(ctx, p, site, roles, weights, mats)
		if err != nil {
			return nil, nil, err
		}
		notes = append(notes, found...)
	}
	return mats, notes, nil
}

// site quantizes the projections behind a site that are planned, and enters their codes in mats.
func (z *quantizer) site(ctx context.Context, p *blockPass, site nn.Site, roles []arch.Role, weights [][]float32,
	mats map[arch.Role]*quantize.Matrix) (notes []tensorNote, err error) {
	var h *calib.Hessian
	if z.d.needsData() {
		if h, err = siteHessian(ctx, p, site, len(roles) > 0, weights); err != nil {
			return nil, err
		}
		defer h.Free()
	}
	for _, r := range roles {
		m, note, err := z.matrix(p.b, r, h)
		if err != nil {
			return nil, err
		}
		if err := p.mirror(r); err != nil {
			return nil, err
		}
		mats[r] = m
		notes = append(notes, note)
	}
	return notes, nil
}

// matrix quantizes one projection and puts the dequantized values in its place; h is nil where it is rounded to nearest.
func (z *quantizer) matrix(b *nn.Block, r arch.Role, h *calib.Hessian) (*quantize.Matrix, tensorNote, error) {
	lin := b.Arch().Linears[r]
	note := tensorNote{Tensor: lin.Weight, Metric: "weight"}
	round := z.onHost
	if _, ok := z.dev.(device.Quantizer); ok {
		round = z.onDevice
	}
	m, err := round(b, r, h)
	if err != nil {
		return nil, note, err
	}
	defer func() { m.free() }()
	if h != nil {
		note.Metric, note.Damp, note.DeadColumns = "output", rounded(m.Damp), m.DeadColumns
		if m.FellBack {
			note.FellBack = m.Reason
		}
	}
	if math.IsNaN(m.error) || math.IsInf(m.error, 0) {
		return nil, note, formats.Errorf("model", lin.Weight, "its values, or those of its inputs, are too large to quantize: the error is %v", m.error)
	}
	note.Loss = rounded(m.error)
	return m.Matrix, note, m.put()
}

// rounded keeps six significant digits: what a report needs.
func rounded(v float64) float64 {
	r, err := strconv.ParseFloat(strconv.FormatFloat(v, 'e', 5, 64), 64)
	if err != nil {
		return v
	}
	return r
}

// tokenWeights runs the attention of the still unquantized block over every window and maps its column sums to the weight
// of each token in the Hessians (RSQ section 3.2). nil where the decision has no importance.
func (z *quantizer) tokenWeights(ctx context.Context, p *blockPass) ([][]float32, error) {
	if z.d.Importance == nil || p.b.Arch().H == 0 {
		return nil, nil
	}
	lo, _ := z.d.Importance.Min.Float64()
	hi, _ := z.d.Importance.Max.Float64()
	n := 0
	for _, q := range p.all() {
		n += len(q.kept.windows)
	}
	weights := make([][]float32, n)
	err := p.each(func(_ int, q *blockPass) error {
		return q.eachWindow(ctx, func(i int, x device.Buf, t int) error {
			return q.b.AttendBuf(x, t, &nn.Pass{ColumnSums: true, HasStop: true, StopAfter: nn.SiteO, TapAttn: func(a *nn.AttnState) {
				a.Read(nn.ColumnSums)
				weights[q.first+i] = quantize.Importance(a.ColumnSums, a.Shape.H, t, lo, hi)
			}})
		})
	})
	return weights, err
}

// hessianBytes is the memory of a device that a Hessian of width n takes while it is added up: the sums, and 1024 rows with their weights and
// their products.
func hessianBytes(n int) int64 { return 8*int64(n)*int64(n) + 8*1024*int64(n) }

// matrixBytes is the memory of a device that rounding a matrix, or making it sparse, takes beside its weights and its Hessian: the weights
// under way, the result, codes and grids of groups of 32; the blocks of 1024 columns at most that are worked on; 256 MiB at most of
// weights while errors are added up.
func matrixBytes(out, n int) int64 {
	all := int64(out) * int64(n)
	return 10*all + 4*1024*int64(2*out+2*n+1024) + min(4*all, 256<<20)
}

// siteHessian carries the windows to a site and returns 2/T Σ w x xᵀ over its inputs, summed in window order on each device, and in the
// order of devices; nil where it is not wanted. The caller frees it.
func siteHessian(ctx context.Context, p *blockPass, site nn.Site, wanted bool, weights [][]float32) (*calib.Hessian, error) {
	if !wanted {
		return nil, p.passAll(ctx, site)
	}
	n := p.b.Arch().Width(site)
	var sums []*calib.Accumulator
	defer func() {
		for _, g := range sums {
			g.Free()
		}
	}()
	for _, q := range p.all() {
		m := q.b.Model()
		m.MakeRoom(hessianBytes(n))
		g, err := calib.NewAccumulator(m.Dev, n)
		for errors.Is(err, device.ErrMemory) && m.GiveWay() {
			g, err = calib.NewAccumulator(m.Dev, n)
		}
		if err != nil {
			return nil, err
		}
		sums = append(sums, g)
	}
	err := p.reachAll(ctx, site, func(j int) func(i int, in device.Buf, t int) {
		return func(i int, in device.Buf, t int) {
			var w []float32
			if weights != nil {
				w = weights[i]
			}
			sums[j].Add(in, t, w)
		}
	})
	if err != nil {
		return nil, err
	}
	return calib.Joined(sums), nil
}
