package devicetest

import (
	"math"

	"modelpress/internal/device"
	"modelpress/internal/num"
)

// Learner is a Remote that takes losses in its own memory, by plain loops in float64, and trains what is there.
type Learner struct{ *Remote }

var (
	_ device.Losses    = Learner{}
	_ device.Optimizer = Learner{}
)

// at returns the memory of the device behind.
func (r Learner) at(b device.Buf) []float32 { return r.Device.Host(in(b)) }

// Scores implements device.Losses.
func (r Learner) Scores(nll []float64, top []int32, logits device.Buf, targets []int32, v int) {
	r.run("Scores", len(targets))
	x := r.at(logits)
	for i := range nll {
		row := x[i*v : (i+1)*v]
		top[i] = 0
		for j, s := range row {
			if s > row[top[i]] {
				top[i] = int32(j)
			}
		}
		target := top[i]
		if targets != nil {
			target = targets[i]
		}
		_, log := softmax(row, 1)
		nll[i] = -log[target]
	}
}

// Divergences implements device.Losses.
func (r Learner) Divergences(kl []float64, p, q device.Buf, v int) {
	r.run("Divergences", 0)
	a, b := r.at(p), r.at(q)
	for i := range kl {
		pr, pl := softmax(a[i*v:(i+1)*v], 1)
		qr, ql := softmax(b[i*v:(i+1)*v], 1)
		kl[i] = divergenceOf(pr, pl, qr, ql)
	}
}

// LogitLoss implements device.Losses.
func (r Learner) LogitLoss(kl, ce []float64, logits, teacher device.Buf, targets []int32, v int, w device.LogitWeights) {
	r.run("LogitLoss", len(targets))
	x := r.at(logits)
	for i := range kl {
		row, grad := x[i*v:(i+1)*v], make([]float64, v)
		kl[i], ce[i] = 0, 0
		if teacher != nil {
			p, pl := softmax(r.at(teacher)[i*v:(i+1)*v], float64(w.Scale))
			q, ql := softmax(row, float64(w.Scale))
			kl[i] = divergenceOf(p, pl, q, ql)
			for j := range grad {
				grad[j] += float64(w.KL) * (q[j] - p[j])
			}
		}
		if targets != nil && targets[i] >= 0 {
			p, log := softmax(row, 1)
			ce[i] = -log[targets[i]]
			for j := range grad {
				grad[j] += float64(w.CE) * p[j]
			}
			grad[targets[i]] -= float64(w.CE)
		}
		for j, g := range grad {
			row[j] = float32(g)
		}
	}
}

// AdamW implements device.Optimizer.
func (r Learner) AdamW(p, g, m, v device.Buf, n int, o num.AdamWStep) {
	r.run("AdamW", 0)
	num.AdamW(r.at(p)[:n], r.at(g)[:n], r.at(m)[:n], r.at(v)[:n], o, r.For)
}

// AdamWHalf implements device.Optimizer.
func (r Learner) AdamWHalf(p, g, m, v device.Buf, n int, o num.AdamWStep, draws uint64) {
	r.run("AdamWHalf", 0)
	x := make([]float32, n)
	r.Device.Download(x, in(p), 0)
	num.AdamW(x, r.at(g)[:n], r.at(m)[:n], r.at(v)[:n], o, r.For)
	for i, value := range x {
		draw := uint32(splitMix(draws+uint64(i/4)*0x9e3779b97f4a7c15)>>(16*(i%4))) & 0xffff
		x[i] = math.Float32frombits((math.Float32bits(value) + draw) &^ 0xffff)
	}
	r.Device.Upload(in(p), 0, x)
}

// SumSquares implements device.Optimizer.
func (r Learner) SumSquares(x device.Buf, n int) (sum float64) {
	r.run("SumSquares", 0)
	for _, v := range r.at(x)[:n] {
		sum += float64(v) * float64(v)
	}
	return sum
}

// TopK implements device.Losses.
func (r Learner) TopK(ids []int32, logs, rest []float32, logits device.Buf, v, k int, scale float32) {
	r.run("TopK", 0)
	for i := range rest {
		row, log, others := topKOf(r.at(logits)[i*v:(i+1)*v], k, float64(scale))
		copy(ids[i*k:], row)
		for j, l := range log {
			logs[i*k+j] = float32(l)
		}
		rest[i] = float32(others)
	}
}

// TopKLoss implements device.Losses.
func (r Learner) TopKLoss(kl, ce []float64, logits device.Buf, ids []int32, logs, rest []float32, targets []int32, v int, w device.LogitWeights) {
	r.run("TopKLoss", len(ids)+len(logs)+len(rest)+len(targets))
	x, k, plain := r.at(logits), len(ids)/max(1, len(kl)), make([]float64, len(kl))
	divergent := make([][]float64, len(kl))
	for i := range kl {
		kl[i], divergent[i] = topKLossOf(x[i*v:(i+1)*v], ids[i*k:(i+1)*k], logs[i*k:(i+1)*k], rest[i], float64(w.Scale))
	}
	r.LogitLoss(plain, ce, logits, nil, targets, v, w)
	for i, grad := range divergent {
		for j, g := range grad {
			x[i*v+j] += float32(float64(w.KL) * g)
		}
	}
}
