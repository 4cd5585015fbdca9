package distill

import (
	"fmt"
	"math"
	"slices"

	"modelpress/internal/num"
)

// TopK holds what a teacher predicts for rows of tokens by k+1 outcomes each: its k likeliest tokens, and all others as one.
// Logarithms are natural ones of probabilities at the temperature; those of a row add up to 1. -Inf stands for no probability.
type TopK struct {
	K           int
	Temperature float64
	IDs         []int32   // [rows, K], ascending in each row
	Log         []float32 // [rows, K]
	Rest        []float32 // [rows], of all other tokens together
}

// Rows returns the number of rows.
func (t *TopK) Rows() int { return len(t.Rest) }

// resize makes room for rows of k tokens, whose values are left undefined.
func (t *TopK) resize(rows, k int) {
	t.K = k
	t.IDs, t.Log, t.Rest = sized(t.IDs, rows*k), sized(t.Log, rows*k), sized(t.Rest, rows)
}

func sized[T any](s []T, n int) []T {
	if cap(s) < n {
		return make([]T, n)
	}
	return s[:n]
}

// Select replaces t by what rows of a teacher's logits [rows, v] say at a temperature: the k largest, 0 < k < v, of equal ones
// those with the lower ids. Logits that are not finite, but for -Inf, are an error with [ErrNotFinite] in its chain.
func (t *TopK) Select(logits []float32, rows, v, k int, temperature float64, par num.Par) error {
	if rows < 0 || len(logits) < rows*v {
		panic(fmt.Sprintf("distill: top %d of %d logits for %d rows of %d", k, len(logits), rows, v))
	}
	t.begin(rows, v, k, temperature)
	good := make([]bool, rows)
	each(par, rows, func(i int) {
		w := rowPool.Get().(*rowScratch)
		defer rowPool.Put(w)
		x, ids := logits[i*v:][:v], t.IDs[i*k:][:k]
		largest(ids, x)
		p := soften(&w.et, x, float32(1/temperature))
		good[i] = !math.IsNaN(p.log) && !math.IsInf(p.log, 0)
		for j, id := range ids {
			t.Log[i*k+j] = float32(p.logAt(int(id)))
		}
		_, rest := w.others(&p, ids)
		t.Rest[i] = float32(rest)
	})
	if i := slices.Index(good, false); i >= 0 {
		return fmt.Errorf("distill: top %d of row %d: %w", k, i, ErrNotFinite)
	}
	return nil
}

// begin makes room for a selection.
func (t *TopK) begin(rows, v, k int, temperature float64) {
	if k < 1 || k >= v || !(temperature > 0) {
		panic(fmt.Sprintf("distill: top %d of %d logits at temperature %g", k, v, temperature))
	}
	t.resize(rows, k)
	t.Temperature = temperature
}

// largest fills ids with the places of the largest values of x, ascending. It keeps a heap whose root is the value to go next.
func largest(ids []int32, x []float32) {
	worse := func(a, b int32) bool { return x[a] < x[b] || x[a] == x[b] && a > b }
	sink := func(i int) {
		for {
			c := 2*i + 1
			if c+1 < len(ids) && worse(ids[c+1], ids[c]) {
				c++
			}
			if c >= len(ids) || !worse(ids[c], ids[i]) {
				return
			}
			ids[i], ids[c] = ids[c], ids[i]
			i = c
		}
	}
	for i := range ids {
		ids[i] = int32(i)
	}
	for i := len(ids)/2 - 1; i >= 0; i-- {
		sink(i)
	}
	for i := len(ids); i < len(x); i++ {
		if x[i] > x[ids[0]] {
			ids[0] = int32(i)
			sink(0)
		}
	}
	slices.Sort(ids)
}

// others returns the softmax of the scores of r that are not among ids, which ascend, alone, and the logarithm of their share
// in r.
func (w *rowScratch) others(r *softRow, ids []int32) (softRow, float64) {
	o := softRow{x: r.x, scale: r.scale, top: float32(math.Inf(-1))}
	w.eachOther(r.x, ids, func(lo int, x []float32) { o.top = max(o.top, num.Max(x)) })
	if math.IsInf(float64(o.top), -1) {
		o.top, o.log = 0, math.Inf(-1)
		return o, o.log
	}
	sum := 0.0
	w.eachOther(r.x, ids, func(lo int, x []float32) {
		for i, v := range x {
			x[i] = (v - o.top) * o.scale
		}
		num.Exp32(x, x)
		sum += float64(num.Sum(x))
	})
	o.inv, o.log = float32(1/sum), math.Log(sum)
	return o, float64((o.top-r.top)*r.scale) + o.log - r.log
}

// eachOther calls f with copies of blocks of x in which the values of ids are -Inf.
func (w *rowScratch) eachOther(x []float32, ids []int32, f func(lo int, x []float32)) {
	next := 0
	for lo := 0; lo < len(x); lo += rowBlock {
		b := w.xs[:copy(w.xs[:], x[lo:])]
		for ; next < len(ids) && int(ids[next]) < lo+len(b); next++ {
			b[int(ids[next])-lo] = float32(math.Inf(-1))
		}
		f(lo, b)
	}
}

// ApplyTopK is [LogitLoss.Apply] with the teacher's rows from row from of top on. The divergence is that of the k+1 outcomes, so
// that the student is free in how it spreads the rest:
//
//	Σ_{i in top} p_i*(log p_i - log q_i) + p_r*(log p_r - log q_r),   q = softmax(s/τ), q_r = 1 - Σ_{i in top} q_i
//
// It is at most the full divergence. A temperature other than that of top, and ids outside the vocabulary, are errors.
func (l LogitLoss) ApplyTopK(logits []float32, top *TopK, from int, targets []int32, rows, v int, par num.Par) (LogitSums, error) {
	if err := l.checkTopK(top, from, rows, v); err != nil {
		return LogitSums{}, err
	}
	return l.apply(logits, targets, rows, v, par, func(w *rowScratch, s []float32, i int, coef float32) float64 {
		k := top.K
		ids, log, rest := top.IDs[(from+i)*k:][:k], top.Log[(from+i)*k:][:k], float64(top.Rest[from+i])
		return w.topKRow(s, ids, log, rest, float32(1/l.temperature()), coef)
	})
}

// checkTopK refuses rows of a teacher that the loss cannot be taken by.
func (l LogitLoss) checkTopK(top *TopK, from, rows, v int) error {
	if from < 0 || rows > top.Rows()-from {
		panic(fmt.Sprintf("distill: rows [%d, %d+%d) of the top %d of %d", from, from, rows, top.K, top.Rows()))
	}
	if top.Temperature != l.temperature() {
		return fmt.Errorf("distill: top %d at temperature %g for a loss at %g", top.K, top.Temperature, l.temperature())
	}
	for i := from; i < from+rows; i++ {
		if last := top.IDs[(i+1)*top.K-1]; int(last) >= v {
			return fmt.Errorf("distill: top %d: token id %d lies outside the vocabulary of %d", top.K, last, v)
		}
	}
	return nil
}

// topKRow is klRow for a teacher that is known by the logarithms of some tokens and of the rest.
func (w *rowScratch) topKRow(s []float32, ids []int32, log []float32, rest float64, scale, coef float32) float64 {
	q := soften(&w.es, s, scale)
	o, other := w.others(&q, ids)
	kl := outcome(rest, other)
	w.grad = sized(w.grad, len(ids))
	for j, id := range ids {
		a := q.logAt(int(id))
		kl += outcome(float64(log[j]), a)
		w.grad[j] = coef * float32(math.Exp(a)-math.Exp(float64(log[j])))
	}
	share, next := o.inv*float32(math.Exp(rest)), 0
	for lo := 0; lo < len(s); lo += rowBlock {
		n := min(rowBlock, len(s)-lo)
		es, et := w.es[:n], w.et[:n]
		q.shifted(es, lo)
		o.shifted(et, lo)
		num.Exp32(es, es)
		num.Exp32(et, et)
		for i, e := range es {
			es[i] = coef * (float32(e*q.inv) - float32(et[i]*share))
		}
		for ; next < len(ids) && int(ids[next]) < lo+n; next++ {
			es[int(ids[next])-lo] = w.grad[next]
		}
		w.store(s, lo, n)
	}
	w.finish(s)
	return kl
}

// outcome is the part of one outcome in a divergence, as klRow sums it, from the logarithms of both probabilities.
func outcome(p, q float64) float64 {
	if math.IsInf(p, -1) {
		return math.Exp(q)
	}
	d := p - q
	if math.Abs(d) < 0.25 {
		return math.Exp(p) * expRest(d)
	}
	return float64(math.Exp(p)*d) + math.Exp(q) - math.Exp(p)
}
