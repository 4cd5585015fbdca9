package pipeline

import (
	"context"
	"fmt"
	"math"
	"strconv"

	"modelpress/calib"
	"modelpress/formats"
	"modelpress/internal/arch"
	"modelpress/internal/nn"
	"modelpress/quantize"
)

// quantizer carries a quantization decision out on one block after the other. Inputs of a block are the states that the
// compressed blocks before it produced (weights.md calls this the quantized prefix); within a block the inputs of each
// group of projections are taken after the groups before it were replaced.
//
// Peak memory beyond the block: one Gram matrix 8·n² bytes and its factor (n the widest input), one matrix in f32 and its
// codes, 4·Σ T_i bytes of token weights.
type quantizer struct {
	d       *quantDecision
	model   *nn.Model // of the view that is quantized (rotated where the decision says so)
	windows [][]int32
	tick    func()
}

// block quantizes the planned matrices of a block in place and returns their codes by role.
func (z *quantizer) block(ctx context.Context, b *nn.Block, states *boundary) (map[arch.Role]*quantize.Matrix, []tensorNote, error) {
	mats := map[arch.Role]*quantize.Matrix{}
	var notes []tensorNote
	weights, err := z.tokenWeights(ctx, b, states)
	if err != nil {
		return nil, nil, err
	}
	for _, site := range b.Arch().Sites() {
		var h []float64
		for _, r := range site.Roles() {
			lin := b.Arch().Linears[r]
			if !lin.Present() || !z.d.has(lin.Module()) {
				continue
			}
			if h == nil && z.d.needsData() {
				if h, err = z.hessian(ctx, b, states, site, lin.In, weights); err != nil {
					return nil, nil, err
				}
			}
			m, note, err := z.matrix(b, r, h)
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
	par := z.model.Dev.For
	var m *quantize.Matrix
	if h == nil {
		m, err = quantize.RTN(w, lin.Out, lin.In, z.d.scheme(), z.d.store(), par)
	} else {
		var rep quantize.Report
		m, rep, err = quantize.GPTQ(w, lin.Out, lin.In, h, z.d.scheme(), z.d.store(), par)
		note.Metric, note.Damp, note.DeadColumns = "output", rep.Damp, rep.DeadColumns
		if rep.FellBack {
			note.FellBack = rep.Reason
		}
	}
	if err != nil {
		return nil, note, formats.Errorf("model", lin.Weight, "%w", err)
	}
	deq := make([]float32, len(w))
	m.Dequantize(deq)
	if h == nil {
		note.Loss = relativeError(w, deq)
	} else {
		note.Loss = quantize.RelativeOutputError(w, deq, lin.Out, lin.In, h, par)
	}
	if math.IsNaN(note.Loss) || math.IsInf(note.Loss, 0) {
		return nil, note, formats.Errorf("model", lin.Weight, "its values, or those of its inputs, are too large to quantize: the error is %v", note.Loss)
	}
	note.Loss, note.Damp = rounded(note.Loss), rounded(note.Damp)
	return m, note, b.SetWeight(r, deq)
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
func (z *quantizer) tokenWeights(ctx context.Context, b *nn.Block, states *boundary) ([][]float32, error) {
	if z.d.Importance == nil || b.Arch().H == 0 {
		return nil, nil
	}
	lo, _ := z.d.Importance.Min.Float64()
	hi, _ := z.d.Importance.Max.Float64()
	weights := make([][]float32, len(z.windows))
	err := z.eachWindow(ctx, states, func(i int, x []float32, t int) error {
		pass := &nn.Pass{ColumnSums: true, HasStop: true, StopAfter: nn.SiteO, TapAttn: func(a *nn.AttnState) {
			weights[i] = quantize.Importance(a.ColumnSums, a.Shape.H, t, lo, hi)
		}}
		return b.Forward(x, t, pass)
	})
	return weights, err
}

// hessian returns 2/T Σ w x xᵀ over the inputs of a site, summed in window order.
func (z *quantizer) hessian(ctx context.Context, b *nn.Block, states *boundary, site nn.Site, n int, weights [][]float32) ([]float64, error) {
	g := calib.NewGram(n)
	err := z.eachWindow(ctx, states, func(i int, x []float32, t int) error {
		var w []float32
		if weights != nil {
			w = weights[i]
		}
		pass := &nn.Pass{HasStop: true, StopAfter: site, Tap: func(s nn.Site, in []float32, rows, cols int) {
			if s == site {
				g.Add(in, rows, w, z.model.Dev.For)
			}
		}}
		return b.Forward(x, t, pass)
	})
	if err != nil {
		return nil, err
	}
	return g.Scaled(), nil
}

// forward runs the block over every window and leaves the states for the next one.
func (z *quantizer) forward(ctx context.Context, b *nn.Block, in, out *boundary) error {
	return z.eachWindow(ctx, in, func(i int, x []float32, t int) error {
		if err := b.Forward(x, t, nil); err != nil {
			return err
		}
		return out.put(i, x)
	})
}

func (z *quantizer) eachWindow(ctx context.Context, states *boundary, f func(i int, x []float32, t int) error) error {
	var x []float32
	for i, w := range z.windows {
		if err := ctx.Err(); err != nil {
			return err
		}
		n := states.elements(i)
		if cap(x) < n {
			x = make([]float32, n)
		}
		x = x[:n]
		if err := states.get(i, x); err != nil {
			return err
		}
		if err := f(i, x, len(w)); err != nil {
			return fmt.Errorf("window %d: %w", i, err)
		}
		if z.tick != nil {
			z.tick()
		}
	}
	return nil
}
