//go:build cuda

package cuda

import (
	"fmt"

	"modelpress/internal/device"
)

var _ device.Losses = (*Device)(nil)

// lossRows launches a kernel with a block for each row.
func (c *call) lossRows(kernel string, rows int, args ...any) {
	c.launch("loss", kernel, [3]int{rows, 1, 1}, [3]int{rowThreads, 1, 1}, 0, args...)
}

// Scores implements device.Losses.
func (d *Device) Scores(nll []float64, top []int32, logits device.Buf, targets []int32, v int) {
	c := d.begin("Scores")
	defer c.end()
	n := len(targets)
	if len(nll) < n || len(top) < n {
		panic(fmt.Sprintf("cuda: Scores: room for %d and %d rows of %d", len(nll), len(top), n))
	}
	x := c.in(logits, n*v)
	c.checkTargets(targets, v, 0)
	if n == 0 {
		return
	}
	sums, first := c.scratch(8*int64(n)), c.scratch(4*int64(n))
	c.lossRows("row_scores", n, sums, first, x, c.table(intBytes(targets)), v)
	c.fetch(doubleBytes(nll[:n]), sums)
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
	c.lossRows("row_divergence", len(kl), sums, x, y, v)
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
		c.checkTargets(targets[:n], v, -1<<31)
		next = c.table(intBytes(targets[:n]))
	}
	sums := c.scratch(16 * int64(n))
	c.lossRows("logit_loss", n, sums, sums+ptr(8*n), s, t, next, v, w.Scale, w.KL, w.CE)
	c.fetch(doubleBytes(kl), sums)
	c.fetch(doubleBytes(ce[:n]), sums+ptr(8*n))
}

// checkTargets refuses targets outside [least, v).
func (c *call) checkTargets(targets []int32, v, least int) {
	for i, t := range targets {
		if int(t) < least || int(t) >= v {
			panic(fmt.Sprintf("cuda: %s: target %d of row %d of %d values", c.op, t, i, v))
		}
	}
}
