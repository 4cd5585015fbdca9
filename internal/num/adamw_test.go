package num

import (
	"fmt"
	"math"
	"testing"
)

// adamReference is one step for one value in float64, in the order of PyTorch's: decay, moments, correction, update.
func adamReference(p, g, m, v float64, o AdamWStep) (p2, m2, v2 float64) {
	g *= o.GradScale
	p -= o.LR * o.Decay * p
	m += (g - m) * (1 - o.Beta1)
	v = v*o.Beta2 + (1-o.Beta2)*g*g
	t := float64(o.Step)
	mHat, vHat := m/(1-math.Pow(o.Beta1, t)), v/(1-math.Pow(o.Beta2, t))
	return p - o.LR*mHat/(math.Sqrt(vHat)+o.Eps), m, v
}

// TestAdamW: twenty steps follow those of float64, and threads change no bits.
func TestAdamW(t *testing.T) {
	for _, o := range []AdamWStep{
		{LR: 1e-3, Beta1: 0.9, Beta2: 0.95, Eps: 1e-8, Decay: 0.1, GradScale: 1},
		{LR: 0.05, Beta1: 0.9, Beta2: 0.999, Eps: 1e-8, GradScale: 0.3},
		{LR: 0.01, Beta1: 0, Beta2: 0, Eps: 1e-2, Decay: 1, GradScale: 2},
	} {
		for _, n := range []int{1, 7, chunk + 3, 3*chunk - 1} {
			rng := newRand(uint64(n))
			p, okP := guarded(t, randoms(rng, n))
			m, okM := guarded(t, make([]float32, n))
			v, okV := guarded(t, make([]float32, n))
			p2, m2, v2 := append([]float32(nil), p...), make([]float32, n), make([]float32, n)
			wantP, wantM, wantV := make([]float64, n), make([]float64, n), make([]float64, n)
			for i, x := range p {
				wantP[i] = float64(x)
			}
			for o.Step = 1; o.Step <= 20; o.Step++ {
				g := randoms(rng, n)
				AdamW(p, g, m, v, o, nil)
				AdamW(p2, g, m2, v2, o, workers(1+o.Step%4))
				for i, x := range g {
					wantP[i], wantM[i], wantV[i] = adamReference(wantP[i], float64(x), wantM[i], wantV[i], o)
				}
			}
			okP()
			okM()
			okV()
			what := fmt.Sprint(o, n)
			closeTo(t, what+" p", p, wantP, 4e-6)
			closeTo(t, what+" m", m, wantM, 2e-6)
			closeTo(t, what+" v", v, wantV, 2e-6)
			same(t, what+" p, threads", p2, p)
			same(t, what+" m, threads", m2, m)
			same(t, what+" v, threads", v2, v)
		}
	}
}

// TestAdamWLeavesAlone: without a rate, and without gradients or decay, no parameter changes a bit; decay alone multiplies.
func TestAdamWLeavesAlone(t *testing.T) {
	const n = 1000
	start := randoms(newRand(5), n)
	o := AdamWStep{LR: 0.1, Beta1: 0.9, Beta2: 0.95, Eps: 1e-8, GradScale: 1, Step: 3}
	run := func(g []float32, o AdamWStep) []float32 {
		p := append([]float32(nil), start...)
		AdamW(p, g, make([]float32, n), make([]float32, n), o, workers(2))
		return p
	}
	same(t, "no gradient", run(make([]float32, n), o), start)
	still := o
	still.LR, still.Decay = 0, 0.1
	same(t, "no rate", run(randoms(newRand(6), n), still), start)
	o.Decay = 0.5
	half := make([]float32, n)
	for i, v := range start {
		half[i] = v * float32(1-0.1*0.5)
	}
	same(t, "decay alone", run(make([]float32, n), o), half)
}

// TestAdamWFirstStep: whatever the size of gradients, the first step is the rate in the direction against them.
func TestAdamWFirstStep(t *testing.T) {
	g := []float32{1e-3, -1e-3, 5, -7e5, 1e-15}
	p, m, v := make([]float32, 5), make([]float32, 5), make([]float32, 5)
	AdamW(p, g, m, v, AdamWStep{LR: 0.01, Beta1: 0.9, Beta2: 0.95, GradScale: 1, Step: 1}, nil)
	closeTo(t, "first step", p, []float64{-0.01, 0.01, -0.01, 0.01, -0.01}, 1e-6)
	defer func() {
		if recover() == nil {
			t.Error("step 0: no panic")
		}
	}()
	AdamW(p, g, m, v, AdamWStep{}, nil)
}
