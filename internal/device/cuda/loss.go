//go:build cuda

package cuda

import (
	"fmt"

	"modelpress/internal/device"
)

var _ device.Losses = (*Device)(nil)

// lossRows launches a kernel with a block for each row.
func (c *call) lossRows(module, kernel string, rows, shared int, args ...any) {
	c.launch(module, kernel, [3]int{rows, 1, 1}, [3]int{rowThreads, 1, 1}, shared, args...)
}

// Scores implements device.Losses.
func (d *Device) Scores(nll []float64, top []int32, logits device.Buf, targets []int32, v int) {
	c := d.begin("Scores")
	defer c.end()
	n := len(nll)
	if len(top) < n || targets != nil && len(targets) < n {
		panic(fmt.Sprintf("cuda: Scores: %d places and %d targets for %d rows", len(top), len(targets), n))
	}
	x, next := c.in(logits, n*v), ptr(0)
	if n == 0 {
		return
	}
	if targets != nil {
		next = c.targets(targets[:n], v, 0)
	}
	sums, first := c.scratch(8*int64(n)), c.scratch(4*int64(n))
	c.lossRows("loss", "row_scores", n, 0, sums, first, x, next, v)
	c.fetch(doubleBytes(nll), sums)
	c.fetch(intBytes(top[:n]), first)
}

// Divergences implements device.Losses.
func (d *Device) Divergences(kl []float64, p, q device.Buf, v int) {
	c := d.begin("Divergences")
	defer c.end()
	x, y := c.in(p, len(kl)*v), c.in(q, len(kl)*v)
	if len(kl) == 0 {
		return
	}
	sums := c.scratch(8 * int64(len(kl)))
	c.lossRows("loss", "row_divergence", len(kl), 0, sums, x, y, v)
	c.fetch(doubleBytes(kl), sums)
}

// LogitLoss implements device.Losses.
func (d *Device) LogitLoss(kl, ce []float64, logits, teacher device.Buf, targets []int32, v int, w device.LogitWeights) {
	c := d.begin("LogitLoss")
	defer c.end()
	n := len(kl)
	if len(ce) < n || targets != nil && len(targets) < n {
		panic(fmt.Sprintf("cuda: LogitLoss: %d losses and %d targets for %d rows", len(ce), len(targets), n))
	}
	s, t, next := c.out(logits, n*v), ptr(0), ptr(0)
	if teacher != nil {
		t = c.in(teacher, n*v)
	}
	if n == 0 {
		return
	}
	if targets != nil {
		next = c.targets(targets[:n], v, -1<<31)
	}
	sums := c.scratch(16 * int64(n))
	c.lossRows("loss", "logit_loss", n, 0, sums, sums+ptr(8*n), s, t, next, v, w.Scale, w.KL, w.CE)
	c.fetch(doubleBytes(kl), sums)
	c.fetch(doubleBytes(ce[:n]), sums+ptr(8*n))
}

// TopK implements device.Losses.
func (d *Device) TopK(ids []int32, logs, rest []float32, logits device.Buf, v, k int, scale float32) {
	c := d.begin("TopK")
	defer c.end()
	n := len(rest)
	if k < 1 || k >= v || len(ids) != n*k || len(logs) != n*k {
		panic(fmt.Sprintf("cuda: TopK: %d places and %d logarithms for %d of %d values of %d rows", len(ids), len(logs), k, v, n))
	}
	x := c.in(logits, n*v)
	if n == 0 {
		return
	}
	places, known, others := c.scratch(4*int64(n*k)), c.scratch(4*int64(n*k)), c.scratch(4*int64(n))
	c.lossRows("topk", "topk_select", n, 0, places, known, others, x, v, k, scale)
	c.fetch(intBytes(ids), places)
	c.fetch(floatBytes(logs), known)
	c.fetch(floatBytes(rest), others)
}

// TopKLoss implements device.Losses. Each block needs v/8 bytes of shared memory.
func (d *Device) TopKLoss(kl, ce []float64, logits device.Buf, ids []int32, logs, rest []float32, targets []int32, v int, w device.LogitWeights) {
	c := d.begin("TopKLoss")
	defer c.end()
	n := len(kl)
	if n == 0 {
		return
	}
	k := len(ids) / n
	if len(ce) < n || targets != nil && len(targets) < n || k < 1 || k >= v || len(ids) != n*k || len(logs) != n*k || len(rest) != n {
		panic(fmt.Sprintf("cuda: TopKLoss: %d places, %d and %d logarithms, %d losses and %d targets for %d rows", len(ids), len(logs), len(rest), len(ce), len(targets), n))
	}
	s, next := c.out(logits, n*v), ptr(0)
	if targets != nil {
		next = c.targets(targets[:n], v, -1<<31)
	}
	places, sums := c.targets(ids, v, 0), c.scratch(16*int64(n))
	c.lossRows("topk", "topk_loss", n, 4*ceilDiv(v, 32), sums, sums+ptr(8*n), s, places, c.table(floatBytes(logs)), c.table(floatBytes(rest)), next, v, k, w.Scale, w.KL, w.CE)
	c.fetch(doubleBytes(kl), sums)
	c.fetch(doubleBytes(ce[:n]), sums+ptr(8*n))
}

// targets uploads places, which must be within [least, v).
func (c *call) targets(targets []int32, v, least int) ptr {
	for i, t := range targets {
		if int(t) < least || int(t) >= v {
			panic(fmt.Sprintf("cuda: %s: target %d, number %d, of %d values", c.op, t, i, v))
		}
	}
	return c.table(intBytes(targets))
}
