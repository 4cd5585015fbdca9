package nn

import (
	"fmt"
	"math"

	"modelpress/internal/device"
	"modelpress/internal/num"
)

// HeadBack runs hidden rows x [n, D], outputs of the last block, through final norm and output projection, and returns the
// cross entropy -Σ_i log p(targets[i]) in nats, n = len(targets). Where grad is not nil it receives the gradient of that sum
// by x, [n, D]; it may be x. Memory is that of [Model.HeadGrad]. A target outside the vocabulary and a loss that is not finite
// are errors.
func (m *Model) HeadBack(grad, x []float32, targets []int32, rowsPerChunk int) (float64, error) {
	return m.headBackOf(targets, func(f func(row0 int, l *Logits) error) error {
		return m.HeadLogitsGrad(grad, x, len(targets), rowsPerChunk, nil, f)
	})
}

// HeadBackBuf is HeadBack of states and gradient on the device.
func (m *Model) HeadBackBuf(grad, x device.Buf, targets []int32, rowsPerChunk int) (float64, error) {
	return m.headBackOf(targets, func(f func(row0 int, l *Logits) error) error {
		return m.HeadLogitsGradBuf(grad, x, len(targets), rowsPerChunk, nil, f)
	})
}

// headBackOf takes the cross entropy of logits that run shows.
func (m *Model) headBackOf(targets []int32, run func(f func(row0 int, l *Logits) error) error) (float64, error) {
	for i, id := range targets {
		if id < 0 || int(id) >= m.Arch.V {
			return 0, fmt.Errorf("nn: target %d is token %d, outside the vocabulary of %d", i, id, m.Arch.V)
		}
	}
	loss := 0.0
	err := run(func(row0 int, l *Logits) (err error) {
		loss, err = m.crossEntropy(loss, l, targets[row0:row0+l.Rows])
		return err
	})
	if err != nil {
		return 0, err
	}
	return loss, nil
}

// HeadGrad runs hidden rows x [n, D], outputs of the last block, through final norm and output projection, and takes a
// gradient back. f gets the first row of a chunk, its number of rows, and their logits [rows, V]; it replaces these by the
// gradient of the loss by them, unless grad and g are both nil. grad, where not nil, receives the gradient by x, [n, D]; it may
// be x. The gradients by the parameters are added to g, where that is not nil.
//
// Rows are taken rowsPerChunk at a time; memory beside the head's weights is 4*rowsPerChunk*(2D + V) bytes, D more floats
// a row where LayerNorm's gain is masked. The weights stay loaded until [Model.Release] or [Model.Refresh].
func (m *Model) HeadGrad(grad, x []float32, n, rowsPerChunk int, g *HeadGrads, f func(row0, rows int, logits []float32) error) error {
	return m.HeadLogitsGrad(grad, x, n, rowsPerChunk, g, func(row0 int, l *Logits) error { return f(row0, l.Rows, l.Edit()) })
}

// HeadLogitsGrad is HeadGrad with logits that the host need not see: f replaces them by what [Logits.Edit] returns, or by
// [Logits.LogitLoss].
func (m *Model) HeadLogitsGrad(grad, x []float32, n, rowsPerChunk int, g *HeadGrads, f func(row0 int, l *Logits) error) error {
	d, size := m.Arch.D, len(x)
	var put func(lo, n int)
	if grad != nil {
		size = min(size, len(grad))
		put = func(lo, n int) { m.Dev.Download(grad[lo*d:(lo+n)*d], m.head.grad, 0) }
	}
	return m.headLogitsGrad(size, n, rowsPerChunk, m.hostRows(x), put, g, f)
}

// HeadLogitsGradBuf is HeadLogitsGrad of states and gradients on the device.
func (m *Model) HeadLogitsGradBuf(grad, x device.Buf, n, rowsPerChunk int, g *HeadGrads, f func(row0 int, l *Logits) error) error {
	d, size := m.Arch.D, x.Len()
	var put func(lo, n int)
	if grad != nil {
		size = min(size, grad.Len())
		put = func(lo, n int) { m.Dev.Copy(grad, lo*d, m.head.grad, 0, n*d) }
	}
	return m.headLogitsGrad(size, n, rowsPerChunk, m.bufRows(x), put, g, f)
}

// headLogitsGrad is HeadLogitsGrad of n rows x of values hidden states. put takes the gradient by rows from lo on out of the head; nil
// where it is not wanted.
func (m *Model) headLogitsGrad(values, n, rowsPerChunk int, x rowsOf, put func(lo, n int), g *HeadGrads, f func(row0 int, l *Logits) error) error {
	d, v := m.Arch.D, m.Arch.V
	if n < 0 || rowsPerChunk <= 0 || values < n*d {
		panic(fmt.Sprintf("nn: gradient of the head by %d values for %d rows of width %d, %d a chunk", values, n, d, rowsPerChunk))
	}
	h, err := m.loadHead()
	if err != nil {
		return fmt.Errorf("nn: output head: %w", err)
	}
	rows := min(rowsPerChunk, n)
	if err := m.scratch.fit(want{&h.x, rows, d}, want{&h.grad, rows, d}, want{&h.logits, rows, v}); err != nil {
		return fmt.Errorf("nn: output head: %w", err)
	}
	if g != nil && m.Kept != nil {
		if err := m.scratch.fit(want{&h.tmp, rows, d}); err != nil {
			return fmt.Errorf("nn: output head: %w", err)
		}
	}
	for lo := 0; lo < n; lo += rows {
		c := min(rows, n-lo)
		in := x(h, lo, c)
		m.normalize(h.grad, in, h.norm, c)
		m.Dev.MatMulNT(h.logits, h.grad, h.w, c, v, d, 0)
		l := h.view(m, c)
		if err := f(lo, l); err != nil {
			return err
		}
		if put == nil && g == nil {
			continue
		}
		if l.edited && m.Dev.Host(h.logits) == nil {
			m.Dev.Upload(h.logits, 0, l.host)
		}
		m.headBack(h, in, g, c)
		if put != nil {
			put(lo, c)
		}
	}
	return nil
}

// headBack turns the gradient by the logits of c rows into that by the head's input x, in h.grad.
func (m *Model) headBack(h *head, x device.Buf, g *HeadGrads, c int) {
	d, v := m.Arch.D, m.Arch.V
	if g != nil {
		m.Dev.MatMulTN(g.W, h.logits, h.grad, c, v, d, 1)
	}
	m.Dev.MatMulNN(h.grad, h.logits, h.w, c, v, d, 0)
	if g != nil {
		m.normGrad(g.Norm, h.grad, x, h.tmp, c)
	}
	m.normBack(h.grad, x, h.norm, c)
}

// crossEntropy replaces logits by the gradient of the cross entropy by them and adds that of each row to sum.
func (m *Model) crossEntropy(sum float64, l *Logits, targets []int32) (float64, error) {
	nll := make([]float64, 2*len(targets))
	nll, kl := nll[:len(targets)], nll[len(targets):]
	if !l.LogitLoss(kl, nll, nil, targets, device.LogitWeights{Scale: 1, CE: 1}) {
		l.Edit()
		m.Dev.For(len(targets), func(i int) {
			row := l.row(i)
			nll[i] = num.LogSumExp(row) - float64(row[targets[i]])
			num.Softmax(row, row)
			row[targets[i]]--
		})
	}
	for i, l := range nll {
		if math.IsNaN(l) || math.IsInf(l, 0) {
			return 0, fmt.Errorf("nn: cross entropy of row %d is not finite", i)
		}
		sum += l
	}
	return sum, nil
}
