package calib

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"

	"modelpress/formats"
	"modelpress/internal/device"
	"modelpress/internal/nn"
)

// Comparison is how far a model's predictions lie from those of a reference.
type Comparison struct {
	KL                   float64 // mean KL(reference ‖ model) over scored predictions, nats per token
	P50, P90, P99, P99_9 float64 // percentiles of the KL of single predictions (nearest rank)
	Max                  float64
	Top1                 float64 // share of predictions with the same arg-max
	Tokens               int
	Ref, Model           PerplexityResult
}

// Compare runs both models over the windows, block by block, one model after the other. Only their final hidden states
// are kept, in memory or on disk; both sets of logits are computed side by side for a bounded number of rows at a time.
// opt.Masks and opt.Plan apply to the model only, opt.MemLimit to the states of each model. ref and m may be one model, to measure
// an attention plan alone.
func Compare(ctx context.Context, ref, m *nn.Model, w Windows, opt EvalOptions) (Comparison, error) {
	if ref.Arch.V != m.Arch.V {
		return Comparison{}, formats.Errorf(evalName, "", "the models' vocabularies differ: %d and %d", ref.Arch.V, m.Arch.V)
	}
	if err := checkWindows(w, opt.ScoreFrom, m.Arch.V); err != nil {
		return Comparison{}, err
	}
	kept, err := newStates(w.IDs, ref.Arch.D, opt)
	if err != nil {
		return Comparison{}, err
	}
	c, err := compare(ctx, ref, m, w, opt, kept)
	return c, errors.Join(err, kept.Close())
}

// compare fills kept with the reference's final states and then runs the model.
func compare(ctx context.Context, ref, m *nn.Model, w Windows, opt EvalOptions, kept *nn.States) (Comparison, error) {
	half := opt
	half.Masks, half.Plan = nil, nil
	half.Progress = part(opt.Progress, 0)
	kept.OnDevice(ref, w.Longest(), false)
	if err := run(ctx, ref, w.IDs, half, func(i int, h device.Buf) error { return kept.PutBuf(i, h, 0) }); err != nil {
		return Comparison{}, fmt.Errorf("reference: %w", err)
	}
	p := newModelPair(ref, m, w, opt.ScoreFrom)
	defer p.refLogits.Free()
	opt.Progress = part(opt.Progress, 1)
	err := run(ctx, m, w.IDs, opt, func(i int, h device.Buf) error {
		r, err := kept.Buf(i)
		if err != nil {
			return err
		}
		if err := p.window(i, r, h); err != nil {
			return fmt.Errorf("window %d: %w", i, err)
		}
		return nil
	})
	if err != nil {
		return Comparison{}, err
	}
	return p.comparison(), nil
}

// part maps the progress of the first (0) or second (1) of two equal runs to that of both.
func part(f func(done, total int), which int) func(done, total int) {
	if f == nil {
		return nil
	}
	return func(done, total int) { f(which*total+done, 2*total) }
}

// modelPair scores two models' hidden states against each other.
type modelPair struct {
	ref, m           *nn.Model
	w                Windows
	from             int
	refMeans, mMeans *means
	kl               []float64 // of each scored prediction, in order
	same             int
	refLogits        nn.Logits // of one chunk
	rowKL            []float64 // of one chunk, as are those below
	nllRef, nllM     []float64
	topRef, topM     []int32
}

func newModelPair(ref, m *nn.Model, w Windows, from int) *modelPair {
	n := min(headRows(m), w.Longest())
	return &modelPair{ref: ref, m: m, w: w, from: from, refMeans: newMeans(w, from), mMeans: newMeans(w, from),
		rowKL: make([]float64, n), nllRef: make([]float64, n), nllM: make([]float64, n), topRef: make([]int32, n), topM: make([]int32, n)}
}

// window scores window i from the final hidden states of both models.
func (p *modelPair) window(i int, hr, hm device.Buf) error {
	ids := p.w.IDs[i]
	dr, dm := p.ref.Arch.D, p.m.Arch.D
	for t := p.from; t < len(ids)-1; {
		n := min(len(p.rowKL), len(ids)-1-t)
		targets := ids[t+1 : t+1+n]
		// A copy, since one model may play both parts and has one buffer for logits.
		err := p.ref.HeadLogitsBuf(p.ref.Dev.Slice(hr, t*dr, n*dr), n, n, func(_ int, l *nn.Logits) error { return p.refLogits.Keep(l) })
		if err != nil {
			return fmt.Errorf("reference: %w", err)
		}
		err = p.m.HeadLogitsBuf(p.m.Dev.Slice(hm, t*dm, n*dm), n, n, func(_ int, l *nn.Logits) error {
			p.refLogits.Scores(p.nllRef, p.topRef, targets)
			l.Scores(p.nllM, p.topM, targets)
			l.Divergences(p.rowKL, &p.refLogits)
			return nil
		})
		if err != nil {
			return err
		}
		if err := p.collect(i, t, n); err != nil {
			return err
		}
		t += n
	}
	return nil
}

// collect adds the scores of positions t to t+n-1 of window i, in order.
func (p *modelPair) collect(i, t, n int) error {
	for j := range n {
		r, m, kl := p.nllRef[j], p.nllM[j], p.rowKL[j]
		if sum := r + m + kl; math.IsNaN(sum) || math.IsInf(sum, 0) {
			return fmt.Errorf("position %d: %w", t+j, ErrNotFinite)
		}
		p.refMeans.sum[i] += r
		p.mMeans.sum[i] += m
		p.kl = append(p.kl, kl)
		if p.topRef[j] == p.topM[j] {
			p.same++
		}
	}
	return nil
}

func (p *modelPair) comparison() Comparison {
	c := Comparison{Ref: p.refMeans.perplexity(), Model: p.mMeans.perplexity(), Tokens: len(p.kl)}
	total := 0.0
	for _, v := range p.kl {
		total += v
	}
	c.KL = total / float64(len(p.kl))
	c.Top1 = float64(p.same) / float64(len(p.kl))
	slices.Sort(p.kl)
	c.P50, c.P90, c.P99, c.P99_9 = rank(p.kl, 0.5), rank(p.kl, 0.9), rank(p.kl, 0.99), rank(p.kl, 0.999)
	c.Max = p.kl[len(p.kl)-1]
	return c
}

// rank returns the value below or at which share q of the sorted values lie (nearest rank).
func rank(sorted []float64, q float64) float64 {
	i := int(math.Ceil(q*float64(len(sorted)))) - 1
	return sorted[min(max(i, 0), len(sorted)-1)]
}
