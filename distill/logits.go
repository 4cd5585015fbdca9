package distill

import (
	"errors"
	"fmt"
	"math"

	"modelpress/internal/num"
)

// ErrNotFinite says that a loss is NaN or infinite, because what it was computed from is.
var ErrNotFinite = errors.New("loss is not finite")

// LogitLoss compares rows of a student's logits with those of a teacher and with the tokens that follow:
//
//	KL * τ²/Rows * Σ_i KL(softmax(t_i/τ) ‖ softmax(s_i/τ))  +  CE/Targets * Σ_i -log softmax(s_i)[target_i]
//
// The first is the distillation loss of Hinton et al. (arXiv:1503.02531), forward and with the factor τ² that keeps the size of
// the gradient whatever the temperature; Minitron (arXiv:2407.14679) uses it alone with τ = 1.
type LogitLoss struct {
	Temperature float64 // τ; 0 means 1
	KL, CE      float64 // weights
	// Rows and Targets are what the means are over where a batch comes in several calls; 0 for the rows and targets of the call.
	Rows, Targets int
}

// LogitSums are what a call of a loss saw: sums over its rows, in nats, and its part of the loss.
type LogitSums struct {
	KL, CE        float64 // Σ KL at the temperature, without τ²; Σ -log softmax
	Rows, Targets int
	Loss          float64
}

// Add joins the sums of two calls.
func (s *LogitSums) Add(o LogitSums) {
	s.KL, s.CE, s.Loss = s.KL+o.KL, s.CE+o.CE, s.Loss+o.Loss
	s.Rows, s.Targets = s.Rows+o.Rows, s.Targets+o.Targets
}

// Check returns an error where the settings are out of range.
func (l LogitLoss) Check() error {
	finite := func(v float64) bool { return v >= 0 && !math.IsInf(v, 0) }
	switch {
	case !finite(l.Temperature):
		return fmt.Errorf("distill: logits: temperature %g", l.Temperature)
	case !finite(l.KL) || !finite(l.CE):
		return fmt.Errorf("distill: logits: weights %g and %g", l.KL, l.CE)
	case l.Rows < 0 || l.Targets < 0:
		return fmt.Errorf("distill: logits: means over %d rows and %d targets", l.Rows, l.Targets)
	}
	return nil
}

// Apply replaces the student's logits [rows, v] by the gradient of the loss by them. teacher [rows, v], which it leaves alone, may
// be nil where KL is 0; targets may be nil where CE is 0, and a negative one has no part. A loss that is not finite is an error
// with [ErrNotFinite] in its chain, after which logits are worthless, and so is a target outside the vocabulary.
//
// Rows are computed on their own and summed in order. Memory: 20 KiB a thread and 16 bytes a row.
func (l LogitLoss) Apply(logits, teacher []float32, targets []int32, rows, v int, par num.Par) (LogitSums, error) {
	if l.KL != 0 && len(teacher) < rows*v {
		panic(fmt.Sprintf("distill: %d logits of the teacher for %d rows of %d", len(teacher), rows, v))
	}
	return l.apply(logits, targets, rows, v, par, func(w *rowScratch, s []float32, i int, coef float32) float64 {
		inv := float32(1 / l.temperature())
		return w.klRow(s, teacher[i*v:][:v], inv, inv, coef)
	})
}

// CrossEntropy is the loss of LogitLoss with KL 0 and CE 1: the mean of -log softmax(logits)[target] over the rows with a target
// that is not negative, and its gradient in place of the logits.
func CrossEntropy(logits []float32, targets []int32, rows, v int, par num.Par) (LogitSums, error) {
	return LogitLoss{CE: 1}.Apply(logits, nil, targets, rows, v, par)
}

func (l LogitLoss) temperature() float64 {
	if l.Temperature == 0 {
		return 1
	}
	return l.Temperature
}

// apply runs the loss row by row; kl replaces a row by coef*(q-p) and returns its divergence.
func (l LogitLoss) apply(logits []float32, targets []int32, rows, v int, par num.Par,
	kl func(w *rowScratch, s []float32, i int, coef float32) float64) (LogitSums, error) {
	if rows < 0 || v < 1 || len(logits) < rows*v || l.CE != 0 && len(targets) < rows {
		panic(fmt.Sprintf("distill: %d logits and %d targets for %d rows of %d", len(logits), len(targets), rows, v))
	}
	b, err := l.begin(targets, rows, v)
	if err != nil {
		return LogitSums{}, err
	}
	each(par, rows, func(i int) {
		w := rowPool.Get().(*rowScratch)
		defer rowPool.Put(w)
		s := logits[i*v:][:v]
		if l.CE != 0 && targets[i] >= 0 {
			b.ce[i] = w.begin(s, int(targets[i]), float32(b.ceWeight))
		}
		if l.KL == 0 {
			w.entropyGrad(s)
			return
		}
		b.kl[i] = kl(w, s, i, float32(b.klWeight/l.temperature()))
	})
	return b.end()
}

// batch is a call of a loss: what its parts weigh, and the losses of rows.
type batch struct {
	sums               LogitSums
	klWeight, ceWeight float64
	kl, ce             []float64
}

func (l LogitLoss) begin(targets []int32, rows, v int) (*batch, error) {
	b := &batch{sums: LogitSums{Rows: rows}, kl: make([]float64, rows), ce: make([]float64, rows)}
	if l.CE != 0 {
		n, err := countTargets(targets[:rows], v)
		if err != nil {
			return nil, err
		}
		b.sums.Targets = n
	}
	tau := l.temperature()
	b.klWeight = l.KL * tau * tau / float64(orDefault(l.Rows, rows))
	b.ceWeight = l.CE / float64(orDefault(l.Targets, b.sums.Targets))
	return b, nil
}

// end sums rows in order.
func (b *batch) end() (LogitSums, error) {
	for i, kl := range b.kl {
		ce := b.ce[i]
		if sum := kl + ce; math.IsNaN(sum) || math.IsInf(sum, 0) {
			return LogitSums{}, fmt.Errorf("distill: logits: row %d: %w", i, ErrNotFinite)
		}
		b.sums.KL, b.sums.CE = b.sums.KL+kl, b.sums.CE+ce
	}
	b.sums.Loss = float64(b.klWeight*b.sums.KL) + float64(b.ceWeight*b.sums.CE)
	return b.sums, nil
}

// countTargets counts the targets that are not negative.
func countTargets(targets []int32, v int) (n int, err error) {
	for i, t := range targets {
		if int(t) >= v {
			return 0, fmt.Errorf("distill: logits: target %d of row %d lies outside the vocabulary of %d", t, i, v)
		}
		if t >= 0 {
			n++
		}
	}
	return n, nil
}

// orDefault returns n, or def where it is 0, but at least 1.
func orDefault(n, def int) int {
	if n == 0 {
		return max(def, 1)
	}
	return n
}
