package pipeline

import (
	"context"
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
// f32 four times over; and 4·Σ T_i bytes of token weights.
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
		var h []float64
		if z.d.needsData() {
			if h, err = siteHessian(ctx, p, z.dev, site, len(roles) > 0, weights); err != nil {
				return nil, nil, err
			}
		}
		for _, r := range roles {
			m, note, err := z.matrix(p.b, r, h)
			if err != nil {
				return nil, nil, err
			}
			mats[r] = m
			notes = append(notes, note)
		}
	}
	return mats, notes, nil
}

// matrix quantizes one projection and puts the dequantized values in its place.
func (z *quantizer) matrix(b *nn.Block, r arch.Role, h []float64) (*quantize.Matrix, tensorNote, error) {
	lin := b.Arch().Linears[r]
	note := tensorNote{Tensor: lin.Weight, Metric: "weight"}
	w, err := b.Weight(r)
	if err != nil {
		return nil, note, err
	}
	par := z.dev.For
	var m *quantize.Matrix
	var rep quantize.Report
	if h == nil {
		m, err = quantize.RTN(w, lin.Out, lin.In, z.d.scheme(), z.d.scales(), par)
	} else {
		m, rep, err = quantize.GPTQ(w, lin.Out, lin.In, h, z.d.scheme(), z.d.scales(), par)
		note.Metric, note.Damp, note.DeadColumns = "output", rep.Damp, rep.DeadColumns
		if rep.FellBack {
			note.FellBack = rep.Reason
		}
	}
	if err != nil {
		return nil, note, formats.Errorf("model", lin.Weight, "%w", err)
	}
	deq := make([]float32, len(w))
	m.Dequantize(deq, par)
	switch {
	case h == nil:
		note.Loss = relativeError(w, deq)
	case rep.FellBack:
		note.Loss = quantize.RelativeOutputError(w, deq, lin.Out, lin.In, h, par)
	case rep.OutputError > 0:
		note.Loss = rep.OutputError / quantize.OutputEnergy(w, lin.Out, lin.In, h, par)
	}
	if math.IsNaN(note.Loss) || math.IsInf(note.Loss, 0) {
		return nil, note, formats.Errorf("model", lin.Weight, "its values, or those of its inputs, are too large to quantize: the error is %v", note.Loss)
	}
	note.Loss, note.Damp = rounded(note.Loss), rounded(note.Damp)
	return m, note, b.SetWeight(r, deq, z.d.scales())
}

// relativeError is ‖W−Ŵ‖²/‖W‖², 0 for a matrix of zeros.
func relativeError(w, deq []float32) float64 {
	var num, den float64
	for i, v := range w {
		d := float64(v) - float64(deq[i])
		num += float64(d * d)
		den += float64(float64(v) * float64(v))
	}
	if den == 0 {
		return 0
	}
	return num / den
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
	weights := make([][]float32, len(p.kept.windows))
	err := p.eachWindow(ctx, func(i int, x []float32, t int) error {
		return p.b.Attend(x, t, &nn.Pass{ColumnSums: true, HasStop: true, StopAfter: nn.SiteO, TapAttn: func(a *nn.AttnState) {
			a.Read(nn.ColumnSums)
			weights[i] = quantize.Importance(a.ColumnSums, a.Shape.H, t, lo, hi)
		}})
	})
	return weights, err
}

// siteHessian carries the windows to a site and returns 2/T Σ w x xᵀ over its inputs, summed in window order, the half on and
// below the diagonal; nil where it is not wanted.
func siteHessian(ctx context.Context, p *blockPass, dev device.Device, site nn.Site, wanted bool, weights [][]float32) ([]float64, error) {
	if !wanted {
		return nil, p.reach(ctx, site, nil)
	}
	n := p.b.Arch().Width(site)
	g := calib.NewGram(n)
	err := p.reach(ctx, site, func(i int, in device.Buf, t int) {
		var w []float32
		if weights != nil {
			w = weights[i]
		}
		g.Add(p.host.values(dev, in, t*n), t, w, dev.For)
	})
	if err != nil {
		return nil, err
	}
	return g.Hessian(), nil
}
