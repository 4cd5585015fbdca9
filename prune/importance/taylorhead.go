package importance

import (
	"fmt"
	"math"

	"modelpress/calib"
	"modelpress/internal/device"
	"modelpress/internal/nn"
	"modelpress/internal/num"
)

// outputHead collects the gradients by final norm and output head while losses are taken.
type outputHead struct {
	grads *nn.HeadGrads
	norm  []*param
	sums  moments // of the output projection, [V, D]
}

func (t *taylor) beginHead() (err error) {
	h, a := &t.head, t.m.Arch
	if h.grads, err = t.m.NewHeadGrads(); err != nil {
		return err
	}
	h.norm = t.normParams(-1, a.FinalNorm, a.D, true, h.grads.Norm)
	for _, p := range h.norm {
		p.sums = newMoments(p.grad.Len(), t.term.squares())
	}
	h.sums = newMoments(a.V*a.D, t.term.squares())
	return nil
}

func (t *taylor) freeHead() {
	if t.head.grads != nil {
		t.head.grads.Free()
		t.head.grads = nil
	}
}

// loss gives the gradient by the final hidden states of a window, and after the last one scores the head.
func (t *taylor) loss(window int, hidden, grad []float32) error {
	targets, d := t.w.IDs[window][1:], t.m.Arch.D
	n := len(targets)
	for i, id := range targets {
		if id < 0 || int(id) >= t.m.Arch.V {
			return fmt.Errorf("importance: window %d: token %d at position %d lies outside the vocabulary of %d", window, id, i+1, t.m.Arch.V)
		}
	}
	err := t.m.HeadLogitsGrad(grad[:n*d], hidden, n, headRows(t.m), t.head.grads, func(row0 int, l *nn.Logits) error {
		return t.crossEntropy(l, targets[row0:row0+l.Rows])
	})
	if err != nil {
		return fmt.Errorf("window %d: %w", window, err)
	}
	last := window == len(t.w.IDs)-1
	if t.term.squares() || last {
		if err := t.collectHead(window); err != nil {
			return err
		}
	}
	if !last {
		return nil
	}
	if err := t.countHead(); err != nil {
		return err
	}
	return t.layer(len(t.m.Arch.Layers) - 1)
}

// crossEntropy replaces logits by the gradient of the mean cross entropy over all tokens of all windows.
func (t *taylor) crossEntropy(l *nn.Logits, targets []int32) error {
	v, scale := t.m.Arch.V, 1/float32(t.predicted)
	nll, kl := make([]float64, len(targets)), make([]float64, len(targets))
	if !l.LogitLoss(kl, nll, nil, targets, device.LogitWeights{Scale: 1, CE: scale}) {
		logits := l.Edit()
		t.par(len(targets), func(i int) {
			row := logits[i*v : (i+1)*v]
			nll[i] = num.LogSumExp(row) - float64(row[targets[i]])
			num.Softmax(row, row)
			row[targets[i]]--
			num.Scale(row, scale)
		})
	}
	for _, l := range nll {
		if math.IsNaN(l) || math.IsInf(l, 0) {
			return fmt.Errorf("importance: cross entropy: %w", calib.ErrNotFinite)
		}
	}
	return nil
}

// collectHead adds up the gradients by the head on the host: those of one window where squares are needed, else those of all.
func (t *taylor) collectHead(window int) error {
	h, root := &t.head, t.root(window)
	for _, p := range h.norm {
		p.sums.collect(t.m.Dev, p.grad, root)
	}
	h.sums.collect(t.m.Dev, h.grads.W, root)
	if err := t.keepRows(window); err != nil {
		return err
	}
	h.grads.Zero()
	return nil
}

// countHead scores what stands after the last layer. A tied head waits for the gradients by the embedded tokens.
func (t *taylor) countHead() error {
	t.freeHead()
	if err := countAll(t.head.norm, nil, t.counted); err != nil {
		return err
	}
	a := t.m.Arch
	if a.Tied {
		t.input.sums = t.head.sums
		t.head.sums = moments{}
		return nil
	}
	err := t.table(a.LMHead, nil, a.V, func(w []float32, row int) counts { return t.term.counts(w, &t.head.sums, row*a.D) })
	t.head.sums = moments{}
	return err
}
