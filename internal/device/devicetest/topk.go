package devicetest

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"testing"

	"modelpress/internal/device"
)

// topKOf returns the places of the k largest values, ascending, of equal ones the first, with the logarithms of their probabilities and that
// of all others together, in float64.
func topKOf(x []float32, k int, scale float64) (ids []int32, logs []float64, rest float64) {
	for i := range x {
		ids = append(ids, int32(i))
	}
	slices.SortStableFunc(ids, func(a, b int32) int { return cmp.Compare(x[b], x[a]) })
	others := ids[k:]
	ids = slices.Clone(ids[:k])
	slices.Sort(ids)
	_, log := softmax(x, scale)
	for _, id := range ids {
		logs = append(logs, log[id])
	}
	return ids, logs, sumOfLogs(log, others)
}

// sumOfLogs is the logarithm of the sum of some probabilities.
func sumOfLogs(log []float64, ids []int32) float64 {
	top, sum := math.Inf(-1), 0.0
	for _, i := range ids {
		top = math.Max(top, log[i])
	}
	if math.IsInf(top, -1) {
		return top
	}
	for _, i := range ids {
		sum += math.Exp(log[i] - top)
	}
	return top + math.Log(sum)
}

// topKLossOf returns the divergence of a student's row x from what is known of its teacher, and the gradient by x without weights.
func topKLossOf(x []float32, ids []int32, logs []float32, rest float32, scale float64) (kl float64, grad []float64) {
	q, log := softmax(x, scale)
	known := make([]bool, len(x))
	for _, id := range ids {
		known[id] = true
	}
	var others []int32
	for i := range x {
		if !known[i] {
			others = append(others, int32(i))
		}
	}
	share := sumOfLogs(log, others)
	outcomes, of := []float64{float64(rest)}, []float64{share}
	grad = slices.Clone(q)
	for j, id := range ids {
		outcomes, of = append(outcomes, float64(logs[j])), append(of, log[id])
		grad[id] -= math.Exp(float64(logs[j]))
	}
	for _, i := range others {
		if !math.IsInf(share, -1) {
			grad[i] -= math.Exp(log[i] - share + float64(rest))
		}
	}
	exp := func(log []float64) (p []float64) {
		for _, l := range log {
			p = append(p, math.Exp(l))
		}
		return p
	}
	return divergenceOf(exp(outcomes), outcomes, exp(of), of), grad
}

// topK: the likeliest tokens of rows, also of equal ones, and the loss of a student by them.
func (s *suite) topK(t *testing.T) {
	d, ok := s.d.(device.Losses)
	if !ok {
		t.Skip("the device takes no losses")
	}
	for _, c := range lossCases() {
		for _, k := range []int{1, 5, 300} {
			if k < c.v {
				t.Run(fmt.Sprintf("%dx%d_%s_%d", c.rows, c.v, c.kind, k), func(t *testing.T) { s.topKCase(t, d, c, k) })
			}
		}
	}
	// A row of few values, the last of which are many equal ones, zeros of both signs among them.
	x := values(3*2000, 106)
	for i := range x {
		x[i] = float32(math.Round(float64(x[i])))
		if i%7 == 0 && x[i] == 0 {
			x[i] = float32(math.Copysign(0, -1))
		}
	}
	b, _ := s.buf(t, device.F32, x)
	for _, k := range []int{1, 90, 1500, 1999} {
		s.selects(t, d, b, x, 3, 2000, k, 1)
	}
}

// selects checks a selection and returns it.
func (s *suite) selects(t *testing.T, d device.Losses, b device.Buf, x []float32, rows, v, k int, scale float32) (ids []int32, logs, rest []float32) {
	t.Helper()
	ids, logs, rest = make([]int32, rows*k), make([]float32, rows*k), make([]float32, rows)
	d.TopK(ids, logs, rest, b, v, k, scale)
	for i := range rows {
		wantIDs, wantLogs, wantRest := topKOf(x[i*v:(i+1)*v], k, float64(scale))
		if !slices.Equal(ids[i*k:(i+1)*k], wantIDs) {
			t.Fatalf("row %d, k %d: %v, want %v", i, k, ids[i*k:(i+1)*k], wantIDs)
		}
		for j, want := range append(wantLogs, wantRest) {
			got := rest[i]
			if j < k {
				got = logs[i*k+j]
			}
			if math.IsInf(want, -1) != math.IsInf(float64(got), -1) || !math.IsInf(want, -1) && math.Abs(float64(got)-want) > 1e-6*max(1, math.Abs(want)) {
				t.Fatalf("row %d, k %d: logarithm %d is %v, want %v", i, k, j, got, want)
			}
		}
	}
	return ids, logs, rest
}

func (s *suite) topKCase(t *testing.T, d device.Losses, c lossCase, k int) {
	student, teacher, targets := c.logits()
	b, _ := s.buf(t, device.F32, teacher)
	for _, w := range []device.LogitWeights{{Scale: 1, KL: 1}, {Scale: 0.5, KL: 0.7, CE: 0.3}} {
		ids, logs, rest := s.selects(t, d, b, teacher, c.rows, c.v, k, w.Scale)
		x, _ := s.buf(t, device.F32, append(append([]float32(nil), student...), guard))
		next := append([]int32{-1}, targets[1:]...)
		if w.CE == 0 {
			next = nil
		}
		kl, ce := make([]float64, c.rows), make([]float64, c.rows)
		d.TopKLoss(kl, ce, x, ids, logs, rest, next, c.v, w)
		got := s.result(t, x, c.rows*c.v)
		for i := range c.rows {
			row, wantCE := student[i*c.v:(i+1)*c.v], 0.0
			wantKL, want := topKLossOf(row, ids[i*k:(i+1)*k], logs[i*k:(i+1)*k], rest[i], float64(w.Scale))
			for j := range want {
				want[j] *= float64(w.KL)
			}
			if next != nil && next[i] >= 0 {
				p, log := softmax(row, 1)
				wantCE = -log[next[i]]
				for j := range want {
					want[j] += float64(w.CE) * p[j]
				}
				want[next[i]] -= float64(w.CE)
			}
			nearLoss(t, "kl", kl[i], wantKL)
			nearLoss(t, "ce", ce[i], wantCE)
			near(t, fmt.Sprint("gradient ", w), got[i*c.v:(i+1)*c.v], want, 4e-7)
		}
	}
}
