package heads

import (
	"math"
	"math/rand/v2"

	"modelpress/internal/device"
	"modelpress/internal/nn"
)

// everything is what a state of attention may have on the host.
const everything = nn.AllHeads | nn.Outputs | nn.LSE

// matrix returns the whole attention matrix of a query head in float64, [T][T], under a mask: the slow definition that
// the measures are checked against.
func matrix(a *nn.AttnState, h int, mask device.Mask) [][]float64 {
	a.Read(everything)
	s := a.Shape
	g := h / (s.H / s.G)
	out := make([][]float64, s.T)
	for i := range out {
		out[i] = make([]float64, s.T)
		var sum float64
		for j := 0; j <= i; j++ {
			if !mask.Full() && j >= mask.Sink && i-j >= mask.Recent {
				continue
			}
			var dot float64
			for c := range s.K {
				dot += float64(a.Q[(i*s.H+h)*s.K+c]) * float64(a.K[(j*s.G+g)*s.K+c])
			}
			out[i][j] = math.Exp(float64(s.Scale) * dot)
			sum += out[i][j]
		}
		for j := range out[i] {
			out[i][j] /= sum
		}
	}
	return out
}

// headOutput returns A·V of a query head, [T][K].
func headOutput(a *nn.AttnState, h int, m [][]float64) [][]float64 {
	s := a.Shape
	g := h / (s.H / s.G)
	out := make([][]float64, s.T)
	for i := range out {
		out[i] = make([]float64, s.K)
		for j := 0; j <= i; j++ {
			for c := range s.K {
				out[i][c] += m[i][j] * float64(a.V[(j*s.G+g)*s.K+c])
			}
		}
	}
	return out
}

// randomState returns a layer's attention with random values; its log-sum-exp is the oracle's own.
func randomState(t, h, g, k, window int, seed uint64) rows {
	rng := rand.New(rand.NewPCG(seed, 7))
	fill := func(n int) []float32 {
		v := make([]float32, n)
		for i := range v {
			v[i] = float32(rng.NormFloat64())
		}
		return v
	}
	a := &nn.AttnState{Shape: device.AttnShape{T: t, H: h, G: g, K: k, Scale: float32(1 / math.Sqrt(float64(k)))},
		Q: fill(t * h * k), K: fill(t * g * k), V: fill(t * g * k)}
	a.LSE = make([]float32, h*t)
	for head := range h {
		for i := range t {
			a.LSE[head*t+i] = float32(logSumExp(a, head, i, device.Mask{Recent: window}))
		}
	}
	return rows{AttnState: a, window: window}
}

func logSumExp(a *nn.AttnState, h, i int, mask device.Mask) float64 {
	a.Read(everything)
	s := a.Shape
	g := h / (s.H / s.G)
	var sum float64
	for j := 0; j <= i; j++ {
		if !mask.Full() && j >= mask.Sink && i-j >= mask.Recent {
			continue
		}
		var dot float64
		for c := range s.K {
			dot += float64(a.Q[(i*s.H+h)*s.K+c]) * float64(a.K[(j*s.G+g)*s.K+c])
		}
		sum += math.Exp(float64(s.Scale) * dot)
	}
	return math.Log(sum)
}

func near(a, b, tol float64) bool { return math.Abs(a-b) <= tol }
