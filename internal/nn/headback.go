package nn

import (
	"fmt"
	"math"

	"modelpress/internal/num"
)

// HeadBack runs hidden rows x [n, D], outputs of the last block, through final norm and output projection, and returns the
// cross entropy -Σ_i log p(targets[i]) in nats, n = len(targets). Where grad is not nil it receives the gradient of that sum
// by x, [n, D]; it may be x. Rows are taken rowsPerChunk at a time; memory beside the head's weights is
// 4*rowsPerChunk*(2D + V) bytes. A target outside the vocabulary and a loss that is not finite are errors.
func (m *Model) HeadBack(grad, x []float32, targets []int32, rowsPerChunk int) (float64, error) {
	d, v, n := m.Arch.D, m.Arch.V, len(targets)
	if rowsPerChunk <= 0 || len(x) < n*d || grad != nil && len(grad) < n*d {
		panic(fmt.Sprintf("nn: HeadBack of %d values for %d targets of width %d, %d a chunk", len(x), n, d, rowsPerChunk))
	}
	for i, id := range targets {
		if id < 0 || int(id) >= v {
			return 0, fmt.Errorf("nn: target %d is token %d, outside the vocabulary of %d", i, id, v)
		}
	}
	h, err := m.loadHead()
	if err != nil {
		return 0, fmt.Errorf("nn: output head: %w", err)
	}
	rows := min(rowsPerChunk, n)
	if err := m.scratch.fit(want{&h.x, rows, d}, want{&h.grad, rows, d}, want{&h.logits, rows, v}); err != nil {
		return 0, fmt.Errorf("nn: output head: %w", err)
	}
	loss := 0.0
	for lo := 0; lo < n; lo += rows {
		c := min(rows, n-lo)
		m.Dev.Upload(h.x, 0, x[lo*d:(lo+c)*d])
		m.normalize(h.grad, h.x, h.norm, c)
		m.Dev.MatMulNT(h.logits, h.grad, h.w, c, v, d, 0)
		if loss, err = m.crossEntropy(loss, h, targets[lo:lo+c]); err != nil {
			return 0, err
		}
		if grad == nil {
			continue
		}
		m.Dev.MatMulNN(h.grad, h.logits, h.w, c, v, d, 0)
		m.normBack(h.grad, h.x, h.norm, c)
		m.Dev.Download(grad[lo*d:(lo+c)*d], h.grad, 0)
	}
	return loss, nil
}

// crossEntropy replaces the logits of a head by the gradient of the cross entropy by them and adds that of each row to sum.
func (m *Model) crossEntropy(sum float64, h *head, targets []int32) (float64, error) {
	v := m.Arch.V
	logits, nll := h.view(m.Dev, len(targets)*v), make([]float64, len(targets))
	m.Dev.For(len(targets), func(i int) {
		row := logits[i*v : (i+1)*v]
		nll[i] = num.LogSumExp(row) - float64(row[targets[i]])
		num.Softmax(row, row)
		row[targets[i]]--
	})
	if m.Dev.Host(h.logits) == nil {
		m.Dev.Upload(h.logits, 0, logits)
	}
	for i, l := range nll {
		if math.IsNaN(l) || math.IsInf(l, 0) {
			return 0, fmt.Errorf("nn: cross entropy of row %d is not finite", i)
		}
		sum += l
	}
	return sum, nil
}
