package distill

import (
	"context"
	"errors"
	"fmt"
	"math"

	"modelpress/internal/device"
)

// largestNorm is the norm up to which second moments stay finite.
const largestNorm = 1e18

// Report is what a step was like.
type Report struct {
	Step, Steps int     // steps done with this one, and those of the run
	Loss        float64 // the objective, with what masks add
	// Parts are means over the tokens of the step, before weights: "ce" and "kl", in nats, and of the other losses, in the order of the
	// objective.
	Parts []Measure
	Norm  float64 // of the gradient before it is cut
	// MaskNorm is that of the gradient of masks.
	MaskNorm float64
	Rate     float64
	Tokens   int64 // seen since the first step
	Masks    []Measure
}

// Step makes one step: all that is trained moves, or with an error nothing does. An error that says the run diverged is a
// [*Diverged].
func (t *Trainer) Step(ctx context.Context) (Report, error) {
	if err := t.prepare(); err != nil {
		return Report{}, err
	}
	if t.Done() {
		return Report{}, errors.New("distill: training: the run is at its end")
	}
	r, err := t.step(ctx, int(t.state.step))
	return r, t.explain(ctx, err)
}

// explain makes a [*Diverged] of an error that comes from numbers that are not finite.
func (t *Trainer) explain(ctx context.Context, err error) error {
	var already *Diverged
	if err == nil || ctx.Err() != nil || errors.As(err, &already) {
		return err
	}
	if errors.Is(err, ErrNotFinite) || !t.finite() {
		return t.diverged(err)
	}
	return err
}

// finite reports whether all that is trained is finite. Blocks with other values are refused when they are loaded.
func (t *Trainer) finite() bool {
	v := make([]float32, 1)
	for _, q := range t.optimizer.Params() {
		for i := range q.Len() {
			if q.Read(v, i); math.IsNaN(float64(v[0])) || math.IsInf(float64(v[0]), 0) {
				return false
			}
		}
	}
	return true
}

func (t *Trainer) diverged(cause error) error {
	step := int(t.state.step)
	return &Diverged{Step: step, Rate: t.Options.Schedule.Rate(step), Cause: cause}
}

func (t *Trainer) step(ctx context.Context, step int) (Report, error) {
	index := t.windowsOf(step)
	if err := t.beginMasks(step, len(index)); err != nil {
		return Report{}, err
	}
	if err := t.gradient(ctx, index); err != nil {
		return Report{}, err
	}
	var grads []gradient
	if t.sink != nil {
		grads = t.sink.grads()
	}
	grads = append(grads, hosts(t.Objective.grads())...)

	r := Report{Step: step + 1, Steps: t.Options.Schedule.Steps, Rate: t.Options.Schedule.Rate(step), Loss: t.part.loss(), Parts: t.part.report()}
	r.Norm = t.norm(grads)
	if err := t.sane(r); err != nil {
		return Report{}, err
	}
	scale, err := ClipScale(r.Norm, t.Options.Clip)
	if err == nil && scale*r.Norm > largestNorm {
		err = fmt.Errorf("a gradient of norm %g, whose square is no float32", r.Norm)
	}
	if err != nil {
		return Report{}, t.diverged(err)
	}
	if err := t.endMasks(step, &r); err != nil {
		return Report{}, err
	}
	t.optimizer.move(grads, r.Rate, scale, t.Model.Dev)
	t.refresh()
	t.state.step++
	t.state.tokens += int64(t.part.means.rows)
	if step == 0 {
		t.state.first = r.Loss
	}
	r.Tokens = t.state.tokens
	return r, nil
}

// norm is GradNorm. Squares of gradients on a device that trains are summed there, whether their parameters are there or not.
func (t *Trainer) norm(grads []gradient) float64 {
	var host [][]float32
	for _, g := range grads {
		host = append(host, g.host)
	}
	norm, sum := GradNorm(host, t.Model.Dev.For), 0.0
	for _, g := range grads {
		if g.buf != nil {
			sum += t.Model.Dev.(device.Optimizer).SumSquares(g.buf, g.buf.Len())
		}
	}
	if sum == 0 {
		return norm
	}
	return math.Sqrt(float64(norm*norm) + sum)
}

// refresh has the models read what was trained anew.
func (t *Trainer) refresh() {
	t.Model.Refresh()
	t.student.Refresh()
}

// windowsOf returns the windows of a step.
func (t *Trainer) windowsOf(step int) []int {
	index := make([]int, t.Options.windows())
	for i := range index {
		index[i] = t.order.Window(int64(step)*int64(len(index)) + int64(i))
	}
	return index
}

// gradient sums the gradient of the objective over the windows of a step.
func (t *Trainer) gradient(ctx context.Context, index []int) error {
	if t.sink != nil {
		t.sink.zero()
	}
	t.Objective.zero()
	p := t.part
	p.take(t.data, index, 0)
	p.begin(true, meansOf(p.ids))
	for at := 0; at < len(index); at += t.Options.Batch {
		p.take(t.data, index[at:min(len(index), at+t.Options.Batch)], at)
		if err := p.back(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (t *Trainer) beginMasks(step, windows int) error {
	if t.Masks == nil {
		return nil
	}
	if err := t.Masks.Begin(step, windows); err != nil {
		return fmt.Errorf("distill: masks: %w", err)
	}
	t.Model.Kept = t.Masks.Kept()
	t.student.Kept = t.Model.Kept
	t.refresh()
	return nil
}

func (t *Trainer) endMasks(step int, r *Report) error {
	if t.Masks == nil {
		return nil
	}
	loss, norm, err := t.Masks.End(step)
	if err != nil {
		return fmt.Errorf("distill: masks: %w", err)
	}
	r.Loss += loss
	r.MaskNorm, r.Masks = norm, t.Masks.Report()
	return nil
}

// sane refuses a loss that is not finite or has grown too much.
func (t *Trainer) sane(r Report) error {
	most := t.Options.Explode * max(t.state.first, t.Objective.blind(t.Model.Arch.V))
	switch {
	case math.IsNaN(r.Loss) || math.IsInf(r.Loss, 0):
		return t.diverged(fmt.Errorf("a loss of %g: %w", r.Loss, ErrNotFinite))
	case r.Step > 1 && most > 0 && r.Loss > most:
		return t.diverged(fmt.Errorf("%w to %.4g, from %.4g at the first step", errExploded, r.Loss, t.state.first))
	}
	return nil
}
