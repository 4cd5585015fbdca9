package heads

import (
	"context"
	"fmt"
	"math"
	"sort"

	"modelpress/calib"
	"modelpress/formats/manifest"
	"modelpress/internal/arch"
	"modelpress/internal/nn"
)

// ACTOptions says which columns of attention are sinks to be turned down and which heads are tried. Zero values stand for
// those in brackets.
type ACTOptions struct {
	Skip       int     // leading tokens that are no such sinks [1]
	Threshold  float64 // mean attention, over the queries that see it, from which a token is a sink [0.1]
	Scale      float64 // what attention to a sink is multiplied by [0.4]
	FirstLayer int     // first layer whose heads are tried [2]
	MaxHeads   int     // heads tried, those with the largest sink mass; 0 for all that have any
	Tolerance  float64 // rise of the loss that is borne
	Options
}

func (o *ACTOptions) fill() error {
	set(&o.Skip, 1)
	set(&o.Threshold, 0.1)
	set(&o.Scale, 0.4)
	set(&o.FirstLayer, 2)
	if o.Skip < 1 || o.Skip > 1<<30 || !(o.Threshold > 0 && o.Threshold <= 1) || !(o.Scale > 0 && o.Scale <= 1) || o.FirstLayer < 0 ||
		o.MaxHeads < 0 || !(o.Tolerance >= 0) {
		return fmt.Errorf("heads: sinks after %d tokens of attention %g scaled by %g, layers from %d, %d heads, tolerance %g", o.Skip,
			o.Threshold, o.Scale, o.FirstLayer, o.MaxHeads, o.Tolerance)
	}
	return nil
}

// SinkMass returns the share of each query head's attention that goes to the sinks that ACT turns down (Yu et al.,
// "Unveiling and Harnessing Hidden Attention Sinks", arXiv:2406.15765): the tokens from Skip on whose mean attention, over the
// queries that see them, exceeds Threshold in that head and window. It is the mean over queries and windows; a head without any
// has nothing to turn down. Peak memory beyond the forward pass is 8·H·T bytes.
func SinkMass(ctx context.Context, m *nn.Model, w calib.Windows, opt ACTOptions) (*Scores, error) {
	if err := opt.fill(); err != nil {
		return nil, err
	}
	if len(w.IDs) == 0 {
		return nil, fmt.Errorf("heads: no windows")
	}
	t := newTable(m.Arch.Layers, len(w.IDs))
	tap := func(layer, window int, r rows) {
		sums := r.columnSums()
		for h := range r.Shape.H {
			t.v[window][layer][h] = r.sinkMass(sums[h*r.Shape.T:(h+1)*r.Shape.T], opt)
		}
	}
	if err := opt.observe(ctx, m, w.IDs, tap, nil); err != nil {
		return nil, err
	}
	mean, n := t.mean(nil)
	return t.scores("act-sink-mass", "attention mass", mean, n), nil
}

// sinkMass sums the columns of one head that are sinks, over the number of queries.
func (r rows) sinkMass(sums []float64, opt ACTOptions) float64 {
	var mass float64
	for j := opt.Skip; j < len(sums); j++ {
		seen := len(sums) - j
		if r.window > 0 {
			seen = min(seen, r.window)
		}
		if sums[j] > opt.Threshold*float64(seen) {
			mass += sums[j]
		}
	}
	return mass / float64(len(sums))
}

// ACTHeads is what [ACT] found.
type ACTHeads struct {
	Chosen [][]bool    // [layer][query head]
	Gain   [][]float64 // [layer][query head], fall of the loss where the head alone is changed; 0 where it was not tried
	Tried  int
	Base   float64 // loss of the plan as it was
	Loss   float64 // loss with all chosen heads changed
	opt    ACTOptions
}

// ACT chooses the query heads whose sinks are turned down in prefill. Each candidate, a head from FirstLayer on with sink
// mass whose prefill is full, is tried alone: evaluate returns the loss under the base plan with that head changed, smaller is better. Heads that do
// not raise the loss by more than Tolerance are chosen. Because they are tried apart and not together, the chosen ones are evaluated once
// more at the end: while they together raise the loss, the half with the smaller gains is left out again. Base is not
// changed. It costs an evaluation for each candidate and a few more.
func ACT(ctx context.Context, base *manifest.Plan, m *arch.Model, mass *Scores, opt ACTOptions,
	evaluate func(p *manifest.Plan) (loss float64, err error)) (*ACTHeads, error) {
	if err := opt.fill(); err != nil {
		return nil, err
	}
	perHead := func(l arch.Layer) int { return l.H }
	a := &ACTHeads{opt: opt, Gain: rowsOf(m.Layers, perHead)}
	for _, row := range a.Gain {
		a.Chosen = append(a.Chosen, make([]bool, len(row)))
	}
	if _, err := newWriter(base, m); err != nil {
		return nil, err
	}
	candidates, err := a.candidates(base, mass, m)
	if err != nil {
		return nil, err
	}
	try := func(heads []place) (float64, error) {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		p := clonePlan(base)
		if err := a.apply(p, m, heads); err != nil {
			return 0, err
		}
		loss, err := evaluate(p)
		if err == nil && (math.IsNaN(loss) || math.IsInf(loss, 0)) {
			err = fmt.Errorf("heads: a loss of %g with %d heads changed", loss, len(heads))
		}
		return loss, err
	}
	if a.Base, err = try(nil); err != nil {
		return nil, err
	}
	var good []place
	for _, c := range candidates {
		loss, err := try([]place{c})
		if err != nil {
			return nil, err
		}
		c.score = Round(a.Base - loss)
		a.Gain[c.layer][c.head] = c.score
		if c.score >= -opt.Tolerance {
			good = append(good, c)
		}
		if a.Tried++; opt.Progress != nil {
			opt.Progress(a.Tried, len(candidates))
		}
	}
	sort.SliceStable(good, func(i, j int) bool { return good[i].score > good[j].score })
	a.Loss = a.Base
	for ; len(good) > 0; good = good[:len(good)/2] {
		loss, err := try(good)
		if err != nil {
			return nil, err
		}
		if Round(loss-a.Base) <= opt.Tolerance {
			a.Loss = loss
			break
		}
	}
	for _, c := range good {
		a.Chosen[c.layer][c.head] = true
	}
	return a, nil
}

// candidates lists the heads to try, by layer and head.
func (a *ACTHeads) candidates(base *manifest.Plan, mass *Scores, m *arch.Model) ([]place, error) {
	if len(mass.Query) != len(m.Layers) {
		return nil, fmt.Errorf("heads: sink mass of %d layers for a model of %d", len(mass.Query), len(m.Layers))
	}
	var out []place
	for l, row := range mass.Query {
		if len(row) != m.Layers[l].H {
			return nil, fmt.Errorf("heads: layer %d: sink mass of %d query heads, the model has %d", l, len(row), m.Layers[l].H)
		}
		for h, v := range row {
			if l >= a.opt.FirstLayer && Round(v) > 0 && fullPrefill(base, l, h/(m.Layers[l].H/m.Layers[l].G)) {
				out = append(out, place{l, h, Round(v)})
			}
		}
	}
	if n := a.opt.MaxHeads; n > 0 && n < len(out) {
		sort.SliceStable(out, func(i, j int) bool { return out[i].score > out[j].score })
		out = out[:n]
		sort.Slice(out, func(i, j int) bool {
			return out[i].layer < out[j].layer || out[i].layer == out[j].layer && out[i].head < out[j].head
		})
	}
	return out, nil
}
