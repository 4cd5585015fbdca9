package calib

import (
	"context"
	"fmt"
	"math"

	"modelpress/formats"
	"modelpress/internal/device"
	"modelpress/internal/nn"
)

// PerplexityResult is how well a model predicts windows.
type PerplexityResult struct {
	NLL     float64   // mean negative log-likelihood over all scored predictions, nats per token
	PPL     float64   // e^NLL
	Tokens  int       // scored predictions
	StdErr  float64   // standard error of NLL, from the spread between windows; 0 for a single window
	Windows []float64 // mean NLL of each window
}

// evalName stands for the file in errors about evaluation windows.
const evalName = "evaluation data"

// Perplexity runs every window on its own, from its first position; each position from opt.ScoreFrom on predicts the
// next token. Windows may differ in length. Logits exist for a bounded number of rows at a time.
func Perplexity(ctx context.Context, m *nn.Model, w Windows, opt EvalOptions) (PerplexityResult, error) {
	if err := checkWindows(w, opt.ScoreFrom, m.Arch.V); err != nil {
		return PerplexityResult{}, err
	}
	acc := newMeans(w, opt.ScoreFrom)
	err := run(ctx, m, w.IDs, opt, func(i int, h device.Buf) error {
		ids := w.IDs[i]
		scores, err := scoreRows(m, h, opt.ScoreFrom, ids[opt.ScoreFrom+1:])
		if err != nil {
			return fmt.Errorf("window %d: %w", i, err)
		}
		for _, s := range scores {
			acc.sum[i] += s.nll
		}
		return nil
	})
	if err != nil {
		return PerplexityResult{}, err
	}
	return acc.perplexity(), nil
}

// checkWindows refuses windows in which nothing would be scored.
func checkWindows(w Windows, from, vocab int) error {
	if len(w.IDs) == 0 {
		return formats.Errorf(evalName, "", "holds no windows")
	}
	if from < 0 {
		return formats.Errorf(evalName, "", "scoring cannot start at position %d", from)
	}
	for i, ids := range w.IDs {
		if len(ids) < from+2 {
			return formats.Errorf(evalName, "", "window %d has %d tokens; scoring from position %d needs %d", i, len(ids), from, from+2)
		}
		if err := checkVocab(ids, vocab); err != nil {
			return formats.Errorf(evalName, "", "window %d: %w", i, err)
		}
	}
	return nil
}

// means collects sums of negative log-likelihood by window.
type means struct {
	sum   []float64
	count []int
}

func newMeans(w Windows, from int) *means {
	a := &means{sum: make([]float64, len(w.IDs)), count: make([]int, len(w.IDs))}
	for i, ids := range w.IDs {
		a.count[i] = len(ids) - 1 - from
	}
	return a
}

// perplexity adds the windows up in their order.
func (a *means) perplexity() PerplexityResult {
	p := PerplexityResult{Windows: make([]float64, len(a.sum))}
	total := 0.0
	for i, s := range a.sum {
		total += s
		p.Tokens += a.count[i]
		p.Windows[i] = s / float64(a.count[i])
	}
	p.NLL = total / float64(p.Tokens)
	p.PPL = math.Exp(p.NLL)
	p.StdErr = stdErr(p.Windows)
	return p
}

// stdErr is the standard error of the mean of x.
func stdErr(x []float64) float64 {
	if len(x) < 2 {
		return 0
	}
	n, mean, ss := float64(len(x)), 0.0, 0.0
	for _, v := range x {
		mean += v / n
	}
	for _, v := range x {
		ss += (v - mean) * (v - mean)
	}
	return math.Sqrt(ss / (n - 1) / n)
}
