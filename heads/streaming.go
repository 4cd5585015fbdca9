package heads

import (
	"context"
	"fmt"
	"math"

	"modelpress/calib"
	"modelpress/internal/arch"
	"modelpress/internal/device"
	"modelpress/internal/nn"
)

// StreamingOptions says what a streaming head would see.
type StreamingOptions struct {
	Sink, Recent int
	Options
}

// Loss holds what each KV head loses when it alone sees only sinks and the recent window, measured on the dense model's
// own activations, over the queries from which something is hidden.
type Loss struct {
	// Mass is the mean attention to the hidden tokens, 1 − exp(lse_stream − lse_full); for a KV head the largest of its
	// query heads.
	Mass *Scores
	// Output is ‖out_full − out_stream‖ / ‖out_full‖ of the head's output, root mean square over tokens; for a KV head
	// over all of its query heads together.
	Output *Scores
	// Projected is the same difference where it counts: ‖W_O,g·(out_full − out_stream)_g‖ / ‖x + W_O·out_full‖, the
	// change of the residual stream relative to the stream after attention. A head that hardly writes anything loses
	// little. Per KV head only.
	Projected *Scores
}

// Streaming is [StreamingLoss] without the projected error.
func Streaming(ctx context.Context, m *nn.Model, w calib.Windows, sink, recent int) (mass, outputErr *Scores, err error) {
	loss, err := StreamingLoss(ctx, m, w, StreamingOptions{Sink: sink, Recent: recent})
	if err != nil {
		return nil, nil, err
	}
	return loss.Mass, loss.Output, nil
}

// StreamingLoss measures what every KV head loses as a streaming head. It costs one forward pass with attention run
// twice, for all heads at once.
func StreamingLoss(ctx context.Context, m *nn.Model, w calib.Windows, opt StreamingOptions) (*Loss, error) {
	if opt.Sink < 0 || opt.Recent < 1 {
		return nil, fmt.Errorf("heads: streaming with %d sinks and %d recent tokens", opt.Sink, opt.Recent)
	}
	if longest := w.Longest(); longest <= opt.Sink+opt.Recent {
		return nil, fmt.Errorf("heads: windows of at most %d tokens hide nothing from %d sinks and %d recent tokens",
			longest, opt.Sink, opt.Recent)
	}
	p := newLossPass(m, len(w.IDs), opt)
	defer p.free()
	err := opt.observe(ctx, m, w.IDs, p.tap, nil)
	if err == nil {
		err = p.err
	}
	if err != nil {
		return nil, err
	}
	return p.loss(), nil
}

// lossPass collects sums of squares per window, layer and head.
type lossPass struct {
	m                *nn.Model
	opt              StreamingOptions
	mass, diff, full *table // per query head
	rows             []int  // per window: queries from which something is hidden
	proj             [][][]float64
	total            [][]float64 // [window][layer]: squared norm of the stream after attention

	layer   int // of the projections held
	project []device.Buf
	err     error
}

func newLossPass(m *nn.Model, windows int, opt StreamingOptions) *lossPass {
	layers := m.Arch.Layers
	p := &lossPass{m: m, opt: opt, layer: -1, rows: make([]int, windows),
		mass: newTable(layers, windows), diff: newTable(layers, windows), full: newTable(layers, windows)}
	for range windows {
		p.proj = append(p.proj, rowsOf(layers, kvHeads))
		p.total = append(p.total, make([]float64, len(layers)))
	}
	return p
}

func (p *lossPass) tap(layer, window int, r rows) {
	if p.err != nil {
		return
	}
	if p.err = p.loadProjection(layer); p.err != nil {
		return
	}
	p.err = p.measure(layer, window, r)
}

// first is the first query from which a streaming head hides a key.
func (p *lossPass) first() int { return p.opt.Sink + p.opt.Recent }

func (p *lossPass) measure(layer, window int, r rows) error {
	s := r.Shape
	if s.T <= p.first() {
		return nil
	}
	p.rows[window] = s.T - p.first()
	if d := r.reader(); d != nil {
		return p.measureThere(d, layer, window, r)
	}
	st, err := p.stream(r)
	if err != nil {
		return err
	}
	out, lse := make([]float32, st.out.Len()), make([]float32, st.lse.Len())
	r.Dev.Download(out, st.out, 0)
	r.Dev.Download(lse, st.lse, 0)
	st.free()
	r.Read(nn.Queries | nn.Keys | nn.Outputs | nn.LSE)
	r.Dev.For(s.H, func(h int) {
		p.mass.v[window][layer][h] = massLost(r, lse, h, p.opt.Sink, p.first())
		p.diff.v[window][layer][h], p.full.v[window][layer][h] = outputLost(r, out, h, p.first())
	})
	return p.projected(layer, window, r, out)
}

// massLost sums, over the queries from first on, the share of attention that goes to keys a streaming head does not see.
// A streaming head in a layer with a sliding window may see sinks that the layer itself does not: they are no part of
// what is kept.
func massLost(r rows, lse []float32, h, sink, first int) float64 {
	var sum float64
	t := r.Shape.T
	for i := first; i < t; i++ {
		at := h*t + i
		lost := -math.Expm1(float64(lse[at]) - float64(r.LSE[at]))
		for j := 0; j < min(sink, r.low(i)); j++ {
			lost += math.Exp(r.score(h, i, j) - float64(r.LSE[at]))
		}
		sum += math.Max(0, lost)
	}
	return sum
}

// outputLost sums the squared difference of the outputs and the squared full output.
func outputLost(r rows, out []float32, h, first int) (diff, full float64) {
	s := r.Shape
	for i := first; i < s.T; i++ {
		at := (i*s.H + h) * s.K
		for c := at; c < at+s.K; c++ {
			f := float64(r.Out[c])
			d := f - float64(out[c])
			diff += float64(d * d)
			full += float64(f * f)
		}
	}
	return diff, full
}

// loss reduces the sums in window order.
func (p *lossPass) loss() *Loss {
	layers := p.m.Arch.Layers
	n, windows := 0, 0
	for _, r := range p.rows {
		n += r
		if r > 0 {
			windows++
		}
	}
	mass, _ := p.mass.sum(nil)
	diff, _ := p.diff.sum(nil)
	full, _ := p.full.sum(nil)
	output := rowsOf(layers, func(l arch.Layer) int { return l.H })
	group := rowsOf(layers, kvHeads)
	for l := range layers {
		for h := range mass[l] {
			mass[l][h] /= float64(n)
			output[l][h] = rootRatio(diff[l][h], full[l][h])
		}
		for g := range group[l] {
			r := layers[l].H / layers[l].G
			group[l][g] = rootRatio(sum(diff[l][g*r:(g+1)*r]), sum(full[l][g*r:(g+1)*r]))
		}
	}
	return &Loss{
		Mass:      p.mass.scores("streaming-mass", "attention mass", mass, windows),
		Output:    &Scores{Method: "streaming-output", Unit: "relative error", KV: group, Query: output, Samples: windows},
		Projected: &Scores{Method: "streaming-projected", Unit: "relative error", KV: p.projectedKV(), Samples: windows},
	}
}

func (p *lossPass) projectedKV() [][]float64 {
	layers := p.m.Arch.Layers
	out := rowsOf(layers, kvHeads)
	for l := range layers {
		var total float64
		for w := range p.total {
			total += p.total[w][l]
		}
		for g := range out[l] {
			var d float64
			for w := range p.proj {
				d += p.proj[w][l][g]
			}
			out[l][g] = rootRatio(d, total)
		}
	}
	return out
}

func sum(v []float64) float64 {
	var s float64
	for _, x := range v {
		s += x
	}
	return s
}

// rootRatio is sqrt(a/b), 0 where both are.
func rootRatio(a, b float64) float64 {
	if b == 0 {
		return 0
	}
	return math.Sqrt(a / b)
}
