package devicetest

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"modelpress/internal/device"
)

// lossCase is rows of logits of a student and a teacher.
type lossCase struct {
	rows, v int
	kind    string // "normal", "close" rows, "equal" rows, "masked" with -Inf, "far" from zero, "peaked"
}

func lossCases() []lossCase {
	var all []lossCase
	for _, z := range [][2]int{{1, 2}, {3, 7}, {5, 64}, {2, 1021}, {3, 1028}, {2, 5003}} {
		for _, kind := range []string{"normal", "close", "equal", "masked", "far", "peaked"} {
			all = append(all, lossCase{z[0], z[1], kind})
		}
	}
	return all
}

// logits draws both, and targets that have a probability.
func (c lossCase) logits() (s, t []float32, targets []int32) {
	n := c.rows * c.v
	s, t = values(n, 100), values(n, 101)
	rng := rand.New(rand.NewPCG(102, uint64(n)))
	for i := range s {
		s[i] *= 3
		t[i] *= 3
		switch c.kind {
		case "close":
			t[i] = s[i] + 1e-3*t[i]
		case "equal":
			t[i] = s[i]
		case "masked":
			if i%c.v > 0 && i%3 == 0 {
				s[i] = float32(math.Inf(-1))
				t[i] = float32(math.Inf(-1))
			}
			if i%c.v > 0 && i%5 == 0 {
				t[i] = float32(math.Inf(-1))
			}
		case "far":
			s[i] += 1e4
			t[i] -= 1e4
		case "peaked":
			if i%c.v == c.v/2 {
				s[i] += 60
			}
		}
	}
	for i := range c.rows {
		j := rng.IntN(c.v)
		for c.kind == "masked" && (i*c.v+j)%3 == 0 && j > 0 {
			j--
		}
		targets = append(targets, int32(j))
	}
	return s, t, targets
}

// softmax is e^(scale*x)/Σ, with the natural logarithms, in float64.
func softmax(x []float32, scale float64) (p, log []float64) {
	top := math.Inf(-1)
	for _, v := range x {
		top = math.Max(top, float64(v))
	}
	sum := 0.0
	for _, v := range x {
		sum += math.Exp(scale * (float64(v) - top))
	}
	for _, v := range x {
		l := scale*(float64(v)-top) - math.Log(sum)
		p, log = append(p, math.Exp(l)), append(log, l)
	}
	return p, log
}

// divergenceOf is Σ p*log(p/q) + q - p: the last two sum to nothing, and keep the digits of rows that are close.
func divergenceOf(p, logP, q, logQ []float64) (sum float64) {
	for i := range p {
		if p[i] == 0 {
			sum += q[i]
			continue
		}
		d := logP[i] - logQ[i]
		if math.Abs(d) < 1e-2 {
			sum += p[i] * d * d * (0.5 - d/6 + d*d/24)
		} else {
			sum += p[i]*d + q[i] - p[i]
		}
	}
	return sum
}

// losses: scores, divergences and the loss of logits with its gradient, also of parts of buffers that begin anywhere.
func (s *suite) losses(t *testing.T) {
	d, ok := s.d.(device.Losses)
	if !ok {
		t.Skip("the device takes no losses")
	}
	for _, c := range lossCases() {
		t.Run(fmt.Sprintf("%dx%d_%s", c.rows, c.v, c.kind), func(t *testing.T) {
			student, teacher, targets := c.logits()
			n := c.rows * c.v
			sb, _ := s.buf(t, device.F32, append(append([]float32{guard}, student...), guard))
			tb, _ := s.buf(t, device.F32, teacher)
			nll, top := make([]float64, c.rows), make([]int32, c.rows)
			d.Scores(nll, top, s.d.Slice(sb, 1, n), targets, c.v)
			likeliest := make([]float64, c.rows)
			d.Scores(likeliest, top, s.d.Slice(sb, 1, n), nil, c.v)
			kl := make([]float64, c.rows)
			d.Divergences(kl, tb, s.d.Slice(sb, 1, n), c.v)
			for i := range c.rows {
				x := student[i*c.v : (i+1)*c.v]
				_, log := softmax(x, 1)
				nearLoss(t, "nll", nll[i], -log[targets[i]])
				nearLoss(t, "nll of the likeliest", likeliest[i], -log[top[i]])
				for j, v := range x {
					if v > x[top[i]] || v == x[top[i]] && j < int(top[i]) {
						t.Fatalf("row %d: the largest is said to be %d, not %d", i, top[i], j)
					}
				}
				p, logP := softmax(teacher[i*c.v:(i+1)*c.v], 1)
				q, logQ := softmax(x, 1)
				nearLoss(t, "divergence", kl[i], divergenceOf(p, logP, q, logQ))
				if c.kind == "equal" && kl[i] != 0 {
					t.Errorf("divergence %v of equal rows", kl[i])
				}
			}
			for _, w := range []device.LogitWeights{{Scale: 1, CE: 1}, {Scale: 1, KL: 1}, {Scale: 0.5, KL: 0.7, CE: 0.3}} {
				s.logitLoss(t, d, c, w, student, teacher, targets)
			}
		})
	}
	s.badLogits(t, d)
}

// logitLoss checks one call for its losses and its gradient. The first target has no part where there is a divergence.
func (s *suite) logitLoss(t *testing.T, d device.Losses, c lossCase, w device.LogitWeights, student, teacher []float32, targets []int32) {
	t.Helper()
	x, _ := s.buf(t, device.F32, append(append([]float32(nil), student...), guard))
	var other device.Buf
	if w.KL != 0 {
		other, _ = s.buf(t, device.F32, teacher)
		targets = append([]int32{-1}, targets[1:]...)
	}
	if w.CE == 0 {
		targets = nil
	}
	kl, ce := make([]float64, c.rows), make([]float64, c.rows)
	d.LogitLoss(kl, ce, x, other, targets, c.v, w)
	got := s.result(t, x, c.rows*c.v)
	for i := range c.rows {
		row := student[i*c.v : (i+1)*c.v]
		want, wantKL, wantCE := make([]float64, c.v), 0.0, 0.0
		if w.KL != 0 {
			p, logP := softmax(teacher[i*c.v:(i+1)*c.v], float64(w.Scale))
			q, logQ := softmax(row, float64(w.Scale))
			wantKL = divergenceOf(p, logP, q, logQ)
			for j := range want {
				want[j] += float64(w.KL) * (q[j] - p[j])
			}
		}
		if targets != nil && targets[i] >= 0 {
			p, log := softmax(row, 1)
			wantCE = -log[targets[i]]
			for j := range want {
				want[j] += float64(w.CE) * p[j]
			}
			want[targets[i]] -= float64(w.CE)
		}
		nearLoss(t, "kl", kl[i], wantKL)
		nearLoss(t, "ce", ce[i], wantCE)
		near(t, fmt.Sprint("gradient ", w), got[i*c.v:(i+1)*c.v], want, 3e-7)
	}
}

// badLogits: a value that is not finite makes the losses of its row so, and of no other.
func (s *suite) badLogits(t *testing.T, d device.Losses) {
	const v = 700
	for _, bad := range []float32{float32(math.NaN()), float32(math.Inf(1))} {
		for _, at := range []int{0, 5, v - 1} {
			x := values(3*v, 103)
			y := values(3*v, 104)
			x[v+at] = bad
			xb, _ := s.buf(t, device.F32, x)
			yb, _ := s.buf(t, device.F32, y)
			nll, kl, top, targets := make([]float64, 3), make([]float64, 3), make([]int32, 3), []int32{1, 2, 3}
			d.Scores(nll, top, xb, targets, v)
			d.Divergences(kl, yb, xb, v)
			d.LogitLoss(make([]float64, 3), make([]float64, 3), xb, nil, targets, v, device.LogitWeights{Scale: 1, CE: 1})
			for i := range 3 {
				if finite := !math.IsNaN(nll[i]) && !math.IsInf(nll[i], 0); finite != (i != 1) {
					t.Errorf("%v at %d: nll %v of row %d", bad, at, nll[i], i)
				}
				if finite := !math.IsNaN(kl[i]) && !math.IsInf(kl[i], 0); finite != (i != 1) {
					t.Errorf("%v at %d: divergence %v of row %d", bad, at, kl[i], i)
				}
			}
		}
	}
}

// nearLoss compares losses: to a relative error of a few units of f32, and an absolute one where the loss is small besides the logits.
func nearLoss(t *testing.T, what string, got, want float64) {
	t.Helper()
	if math.IsInf(want, 1) && math.IsInf(got, 1) {
		return
	}
	if d := math.Abs(got - want); !(d <= 1e-6*math.Abs(want)+1e-7*math.Min(1, math.Sqrt(math.Abs(want)))) {
		t.Fatalf("%s: %v, want %v", what, got, want)
	}
}

// lossBits runs the losses on x as rows of logits, where the device takes them.
func (s *suite) lossBits(t *testing.T, x device.Buf) (all []float32) {
	t.Helper()
	d, ok := s.d.(device.Losses)
	if !ok {
		return nil
	}
	const v = 3001
	rows := x.Len() / v
	other, _ := s.buf(t, device.F32, values(rows*v, 105))
	nll, kl, ce, top, targets := make([]float64, rows), make([]float64, rows), make([]float64, rows), make([]int32, rows), make([]int32, rows)
	for i := range targets {
		targets[i] = int32(i * 17 % v)
	}
	d.Scores(nll, top, x, targets, v)
	d.Divergences(kl, x, other, v)
	for i := range rows {
		all = append(all, float32(nll[i]), float32(kl[i]), float32(top[i]))
	}
	d.LogitLoss(kl, ce, other, x, targets, v, device.LogitWeights{Scale: 0.5, KL: 0.3, CE: 0.7})
	for i := range rows {
		all = append(all, float32(kl[i]), float32(ce[i]))
	}
	return append(all, s.read(other)...)
}
