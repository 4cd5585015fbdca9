package distill

import (
	"math"
	"sync"

	"modelpress/internal/num"
)

// rowBlock is how many scores of a row are looked at together: what a thread needs beside the rows is a few such blocks.
const rowBlock = 1024

// rowScratch holds blocks of one row: scores past the largest one, and their exponentials, of student, teacher and the student
// without temperature.
type rowScratch struct {
	xs, xt, es, et, ec [rowBlock]float32
	grad               []float32 // by the scores that a teacher's likeliest tokens have
	entropy            entropyRow
}

// entropyRow is the cross entropy of a row, where it has a part: the softmax without temperature, and the weight.
type entropyRow struct {
	on     bool
	q      softRow
	target int
	weight float32
}

var rowPool = sync.Pool{New: func() any { return new(rowScratch) }}

// softRow is the softmax of one row of scores that are multiplied by scale: probability i is e^(scale*(x[i]-top)) * inv, its
// logarithm scale*(x[i]-top) - log.
type softRow struct {
	x          []float32
	top, scale float32
	inv        float32
	log        float64
}

// soften finds the largest value of x and the sum of the exponentials: in f32 over a block, in float64 over blocks.
func soften(buf *[rowBlock]float32, x []float32, scale float32) softRow {
	r := softRow{x: x, top: num.Max(x), scale: scale}
	sum := 0.0
	for lo := 0; lo < len(x); lo += rowBlock {
		e := buf[:min(rowBlock, len(x)-lo)]
		r.shifted(e, lo)
		num.Exp32(e, e)
		sum += float64(num.Sum(e))
	}
	r.inv, r.log = float32(1/sum), math.Log(sum)
	return r
}

// shifted writes scale*(x[i]-top) for the values from lo on.
func (r *softRow) shifted(dst []float32, lo int) {
	for i, v := range r.x[lo:][:len(dst)] {
		dst[i] = (v - r.top) * r.scale
	}
}

// logAt returns the logarithm of probability i.
func (r *softRow) logAt(i int) float64 { return float64((r.x[i]-r.top)*r.scale) - r.log }

// klRow returns KL(p ‖ q) = Σ p*(log p - log q) of the softmaxes p of tScale*t and q of sScale*s, in nats, and overwrites s with
// coef*(q-p), which for coef = sScale is the gradient by s.
//
// What is summed, in float64 and ascending, is p*(d + e^-d - 1) with d = log p - log q, that is p*d + q - p. The last two sum to
// nothing, but no term is negative, and the error of the logarithms of both sums counts only to second order: the divergence of
// rows that are close keeps its digits, and equal rows of equal scales give exactly 0.
func (w *rowScratch) klRow(s, t []float32, sScale, tScale, coef float32) float64 {
	q, p := soften(&w.es, s, sScale), soften(&w.et, t, tScale)
	kl := 0.0
	for lo := 0; lo < len(s); lo += rowBlock {
		n := min(rowBlock, len(s)-lo)
		kl += w.klBlock(&q, &p, lo, n)
		es := w.es[:n]
		for i, a := range w.et[:n] {
			es[i] = coef * (es[i] - a)
		}
		w.store(s, lo, n)
	}
	w.finish(s)
	return kl
}

// begin sets the part that the cross entropy has in the rows that follow, and returns -log softmax(s)[target].
func (w *rowScratch) begin(s []float32, target int, weight float32) float64 {
	w.entropy = entropyRow{on: true, q: soften(&w.ec, s, 1), target: target, weight: weight}
	return -w.entropy.q.logAt(target)
}

// store overwrites n scores from lo on by the gradient in es, plus that of the cross entropy by them.
func (w *rowScratch) store(s []float32, lo, n int) {
	if e := &w.entropy; e.on {
		ec := w.ec[:n]
		e.q.shifted(ec, lo)
		num.Exp32(ec, ec)
		num.Axpy(w.es[:n], e.q.inv*e.weight, ec)
	}
	copy(s[lo:], w.es[:n])
}

// finish takes the cross entropy's part from the target and forgets it.
func (w *rowScratch) finish(s []float32) {
	if e := &w.entropy; e.on {
		s[e.target] -= e.weight
	}
	w.entropy = entropyRow{}
}

// entropyGrad overwrites s by the gradient of the cross entropy alone; zeros where it has no part.
func (w *rowScratch) entropyGrad(s []float32) {
	for lo := 0; lo < len(s); lo += rowBlock {
		n := min(rowBlock, len(s)-lo)
		clear(w.es[:n])
		w.store(s, lo, n)
	}
	w.finish(s)
}

// klBlock returns the part of the divergence of n scores from lo on, and leaves the probabilities in es and et.
func (w *rowScratch) klBlock(q, p *softRow, lo, n int) float64 {
	xs, xt, es, et := w.xs[:n], w.xt[:n], w.es[:n], w.et[:n]
	q.shifted(xs, lo)
	p.shifted(xt, lo)
	num.Exp32(es, xs)
	num.Exp32(et, xt)
	num.Scale(es, q.inv)
	num.Scale(et, p.inv)
	kl, log := 0.0, q.log-p.log
	for i, a := range et {
		b := float64(es[i])
		if a > 0 || a != a {
			d := float64(xt[i]) - float64(xs[i]) + log
			if math.Abs(d) < 0.25 {
				b = float64(a) * expRest(d)
			} else {
				b += float64(float64(a)*d) - float64(a)
			}
		}
		kl += b
	}
	return kl
}

// expRest returns e^-d - 1 + d for |d| < 1/4, by its series.
func expRest(d float64) float64 {
	s := 1.0 / 40320
	for _, c := range [...]float64{-1.0 / 5040, 1.0 / 720, -1.0 / 120, 1.0 / 24, -1.0 / 6, 1.0 / 2} {
		s = float64(s*d) + c
	}
	return s * d * d
}
