package kvmerge

import (
	"fmt"
	"math"
	"math/cmplx"

	"modelpress/calib"
	"modelpress/internal/num"
)

// Stats are second moments of the keys and values of one layer over calibration windows, before the rotary embedding: of all KV
// heads with each other where it is open who shares, or within given groups. Sums are f64; see calib.Gram.
//
// Memory, for parts of m heads each (m = G where groups are open), G/m of them, R rotary dimensions and N = K-R others: 8 bytes times
// G/m·((m·K)² + R/2·6·m² + (m·N)²) + G·N² + G·K²; during Add 4·T·m·K bytes where parts are not the whole layer, 8·T·m a thread and
// the scratch of num.SyrkLower.
type Stats struct {
	Shape  Shape
	Tokens int

	freq  func(t int) []float32
	parts []*part
	of    []int       // [G] part of each head
	query [][]float64 // [G] Σ|q_j|² of each frequency [R/2], then the second moment of the other dimensions [N, N]; summed over query heads
	out   [][]float64 // [G] W_Oᵀ·W_O [K, K], summed over query heads
}

// part holds the moments of heads with each other.
type part struct {
	heads  []int
	value  *calib.Gram    // [m·K]
	pairs  []*calib.Gram  // [R/2] of width 2m: real parts of all heads, then imaginary ones
	centre [][]complex128 // [R/2][m, m]: Σ T·mean·meanᴴ over windows, of keys after the rotation
	rest   *calib.Gram    // [m·N]; nil where N is 0
	mean   []float64      // [m·N] Σ of the rest
}

// NewStats returns empty statistics of a layer. freq gives the angles a position of a window of t tokens [R/2], nil where
// nothing is rotary. groups is nil where it is open who shares. wo is the weight of the output projection, [D, H·K].
func NewStats(s Shape, freq func(t int) []float32, groups Groups, wo []float32) *Stats {
	s.check()
	if freq == nil && s.Rotary > 0 {
		panic("kvmerge: rotary heads without frequencies")
	}
	st := &Stats{Shape: s, freq: freq, of: make([]int, s.G), query: make([][]float64, s.G)}
	if groups == nil {
		groups = Contiguous(s.G, s.G)
	}
	n := s.K - s.Rotary
	for i, heads := range groups {
		m := len(heads)
		p := &part{heads: heads, value: calib.NewGram(m * s.K)}
		for range s.Frequencies() {
			p.pairs = append(p.pairs, calib.NewGram(2*m))
			p.centre = append(p.centre, make([]complex128, m*m))
		}
		if n > 0 {
			p.rest, p.mean = calib.NewGram(m*n), make([]float64, m*n)
		}
		st.parts = append(st.parts, p)
		for _, h := range heads {
			st.of[h] = i
		}
	}
	for g := range st.query {
		st.query[g] = make([]float64, s.Frequencies()+n*n)
	}
	st.weigh(wo)
	return st
}

// weigh computes the forms of values from the output projection.
func (s *Stats) weigh(wo []float32) {
	hk, k := s.Shape.H*s.Shape.K, s.Shape.K
	if len(wo) == 0 || len(wo)%hk != 0 {
		panic(fmt.Sprintf("kvmerge: an output projection of %d values for %d heads of %d", len(wo), s.Shape.H, k))
	}
	d := len(wo) / hk
	s.out = make([][]float64, s.Shape.G)
	for g := range s.out {
		s.out[g] = make([]float64, k*k)
		for q := range s.Shape.Queries() {
			num.SyrkLower(s.out[g], wo[(g*s.Shape.Queries()+q)*k:], hk, nil, d, k, nil)
		}
		num.MirrorLower(s.out[g], k, nil)
	}
}

// Add adds a window: queries [T, H·K], keys and values [T, G·K] as nn.Pass.TapHeads shows them. par runs parts of the sums.
func (s *Stats) Add(q, k, v []float32, t int, par num.Par) {
	if len(q) < t*s.Shape.H*s.Shape.K || len(k) < t*s.Shape.G*s.Shape.K || len(v) < t*s.Shape.G*s.Shape.K {
		panic(fmt.Sprintf("kvmerge: Add of %d, %d and %d values for %d positions", len(q), len(k), len(v), t))
	}
	for _, p := range s.parts {
		s.addValues(p, v, t, par)
		s.addPairs(p, k, t, par)
		s.addRest(p, k, t, par)
	}
	s.addQueries(q, t, par)
	s.Tokens += t
}

func (s *Stats) addValues(p *part, v []float32, t int, par num.Par) {
	k, ld := s.Shape.K, s.Shape.G*s.Shape.K
	x := v
	if len(p.heads)*k != ld || !inOrder(p.heads) {
		x = gather(v, t, ld, len(p.heads)*k, func(i int) int { return p.heads[i/k]*k + i%k }, par)
	}
	p.value.Add(x, t, nil, par)
}

func (s *Stats) addPairs(p *part, k []float32, t int, par num.Par) {
	if len(p.pairs) == 0 {
		return
	}
	m, ld := len(p.heads), s.Shape.G*s.Shape.K
	freq := s.freq(t)
	inParallel(par, len(p.pairs), func(j int) {
		re, im := s.Shape.Pair(j)
		x := gather(k, t, ld, 2*m, func(i int) int {
			if i < m {
				return p.heads[i]*s.Shape.K + re
			}
			return p.heads[i-m]*s.Shape.K + im
		}, nil)
		p.pairs[j].Add(x, t, nil, nil)
		addCentre(p.centre[j], x, t, float64(freq[j]))
	})
}

// addCentre adds T·mean·meanᴴ of numbers x [t, 2m], rotated by an angle a position, to c [m, m].
func addCentre(c []complex128, x []float32, t int, angle float64) {
	m := len(x) / t / 2
	mean := make([]complex128, m)
	for i := range t {
		sin, cos := math.Sincos(float64(i) * angle)
		row := x[i*2*m:][:2*m]
		for g := range mean {
			mean[g] += complex(float64(row[g]), float64(row[m+g])) * complex(cos, sin)
		}
	}
	for a := range mean {
		for b := range mean {
			c[a*m+b] += mean[a] * cmplx.Conj(mean[b]) / complex(float64(t), 0)
		}
	}
}

func (s *Stats) addRest(p *part, k []float32, t int, par num.Par) {
	n := s.Shape.K - s.Shape.Rotary
	if n == 0 {
		return
	}
	x := gather(k, t, s.Shape.G*s.Shape.K, len(p.heads)*n, func(i int) int { return p.heads[i/n]*s.Shape.K + s.Shape.Rotary + i%n }, par)
	p.rest.Add(x, t, nil, par)
	for i := range t {
		num.AddWide(p.mean, x[i*len(p.mean):][:len(p.mean)])
	}
}

func (s *Stats) addQueries(q []float32, t int, par num.Par) {
	sh := s.Shape
	n, ld := sh.K-sh.Rotary, sh.H*sh.K
	inParallel(par, sh.G, func(g int) {
		for h := g * sh.Queries(); h < (g+1)*sh.Queries(); h++ {
			for j := range sh.Frequencies() {
				re, im := sh.Pair(j)
				sum := 0.0
				for i := range t {
					a, b := float64(q[i*ld+h*sh.K+re]), float64(q[i*ld+h*sh.K+im])
					sum += float64(a*a) + float64(b*b)
				}
				s.query[g][j] += sum
			}
			if n > 0 {
				num.SyrkLower(s.query[g][sh.Frequencies():], q[h*sh.K+sh.Rotary:], ld, nil, t, n, nil)
			}
		}
	})
}

// gather copies columns of x [t, ld] side by side: column i of the result is column at(i).
func gather(x []float32, t, ld, cols int, at func(i int) int, par num.Par) []float32 {
	out, from := make([]float32, t*cols), make([]int, cols)
	for i := range from {
		from[i] = at(i)
	}
	const rows = 256
	inParallel(par, (t+rows-1)/rows, func(c int) {
		for i := c * rows; i < min(t, (c+1)*rows); i++ {
			src, dst := x[i*ld:], out[i*cols:][:cols]
			for j, f := range from {
				dst[j] = src[f]
			}
		}
	})
	return out
}

func inOrder(list []int) bool {
	for i, v := range list {
		if v != i {
			return false
		}
	}
	return true
}
