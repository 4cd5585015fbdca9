package kvmerge

import (
	"math"
	"math/cmplx"
	"math/rand/v2"

	"modelpress/internal/num"
)

// sample is what a layer showed over windows.
type sample struct {
	s       Shape
	d       int
	wo      []float32
	q, k, v [][]float32 // by window
	t       []int
}

// drawSample draws heads that resemble each other and have a mean after the rotation.
func drawSample(s Shape, seed uint64, lengths ...int) *sample {
	rnd := rand.New(rand.NewPCG(seed, 2))
	x := &sample{s: s, d: 3 * s.K, t: lengths}
	x.wo = gaussian32(rnd, x.d*s.H*s.K)
	for _, t := range lengths {
		q, k, v := gaussian32(rnd, t*s.H*s.K), gaussian32(rnd, t*s.G*s.K), gaussian32(rnd, t*s.G*s.K)
		freq := sampleFreq(s)(t)
		for i := range t {
			for g := range s.G {
				for c := range s.K {
					k[(i*s.G+g)*s.K+c] += k[i*s.G*s.K+c] + 0.3*float32(g)
					v[(i*s.G+g)*s.K+c] += v[i*s.G*s.K+(c+g)%s.K] - 0.2
				}
				for j := range s.Frequencies() {
					re, im := plainPair(s, j)
					sin, cos := math.Sincos(float64(i) * float64(freq[j]))
					k[(i*s.G+g)*s.K+re] += float32(float64(g+1) * cos)
					k[(i*s.G+g)*s.K+im] -= float32(float64(g+1) * sin)
				}
			}
		}
		x.q, x.k, x.v = append(x.q, q), append(x.k, k), append(x.v, v)
	}
	return x
}

// sampleFreq gives frequencies that depend on the length, as some rotary embeddings' do.
func sampleFreq(s Shape) func(t int) []float32 {
	return func(t int) []float32 {
		out := make([]float32, s.Rotary/2)
		for j := range out {
			out[j] = float32(math.Pow(100+float64(t), -2*float64(j)/float64(s.Rotary)))
		}
		return out
	}
}

// plainPair is Shape.Pair as the two layouts define it.
func plainPair(s Shape, j int) (re, im int) {
	if s.Pairs == Interleaved {
		return j * 2, j*2 + 1
	}
	return j, s.Rotary/2 + j
}

func (x *sample) stats(groups Groups, par num.Par) *Stats {
	st := NewStats(x.s, sampleFreq(x.s), groups, x.wo)
	for i, t := range x.t {
		st.Add(x.q[i], x.k[i], x.v[i], t, par)
	}
	return st
}

func (x *sample) tokens() float64 {
	n := 0
	for _, t := range x.t {
		n += t
	}
	return float64(n)
}

// each calls visit with every position of every window.
func (x *sample) each(visit func(w, i int)) {
	for w, t := range x.t {
		for i := range t {
			visit(w, i)
		}
	}
}

// secondOf is E[x_a·x_b] of columns of rows of width n, less the product of means where centred.
func (x *sample) secondOf(rows [][]float32, n, a, b int, centred bool) float64 {
	sum, ma, mb := 0.0, 0.0, 0.0
	x.each(func(w, i int) {
		va, vb := float64(rows[w][i*n+a]), float64(rows[w][i*n+b])
		sum, ma, mb = sum+va*vb, ma+va, mb+vb
	})
	if centred {
		sum -= ma * mb / x.tokens()
	}
	return sum / x.tokens()
}

// pairMoment is the covariance of rotated keys of heads a and b at frequency j: E[(y_a - mean)·conj(y_b - mean)], the means window
// by window.
func (x *sample) pairMoment(a, b, j int) complex128 {
	var sum complex128
	for w, t := range x.t {
		re, im := plainPair(x.s, j)
		freq := float64(sampleFreq(x.s)(t)[j])
		key := func(i, g int) complex128 {
			row := x.k[w][(i*x.s.G+g)*x.s.K:]
			return complex(float64(row[re]), float64(row[im])) * cmplx.Exp(complex(0, freq*float64(i)))
		}
		var ma, mb complex128
		for i := range t {
			ma, mb = ma+key(i, a)/complex(float64(t), 0), mb+key(i, b)/complex(float64(t), 0)
		}
		for i := range t {
			sum += (key(i, a) - ma) * cmplx.Conj(key(i, b)-mb)
		}
	}
	return sum / complex(x.tokens(), 0)
}
