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
	for i, target := range targets {
		row := x[i*v : (i+1)*v]
		_, log := softmax(row, 1)
		nll[i], top[i] = -log[target], 0
		for j, s := range row {
			if s > row[top[i]] {
				top[i] = int32(j)
			}
		}
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
