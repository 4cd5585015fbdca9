package heads

import (
	"math"

	"modelpress/internal/nn"
)

// rows reads single scores of one layer of one window: no row of attention is longer-lived than the loop over it.
type rows struct {
	*nn.AttnState
	window int // sliding window of the layer; 0 for full attention
	// input copies the hidden states [T, D] that the layer started from.
	input func(x []float32) error
}

// low returns the first key that query i sees.
func (r rows) low(i int) int {
	if r.window <= 0 {
		return 0
	}
	return max(0, i-r.window+1)
}

func (r rows) query(h, i int) []float32 {
	w := r.Shape.H * r.Shape.K
	return r.Q[i*w+h*r.Shape.K:][:r.Shape.K]
}

func (r rows) key(h, j int) []float32 {
	w := r.Shape.G * r.Shape.K
	g := h / (r.Shape.H / r.Shape.G)
	return r.K[j*w+g*r.Shape.K:][:r.Shape.K]
}

// dot is Σ a_c·b_c, accumulated in four lanes.
func dot(a, b []float32) float32 {
	var s0, s1, s2, s3 float32
	b = b[:len(a)]
	c := 0
	for ; c+4 <= len(a); c += 4 {
		s0 += a[c] * b[c]
		s1 += a[c+1] * b[c+1]
		s2 += a[c+2] * b[c+2]
		s3 += a[c+3] * b[c+3]
	}
	for ; c < len(a); c++ {
		s0 += a[c] * b[c]
	}
	return (s0 + s1) + (s2 + s3)
}

// attention returns A[h, i, j], 0 where query i does not see key j.
func (r rows) attention(h, i, j int) float64 {
	if j < r.low(i) || j > i {
		return 0
	}
	return math.Exp(r.score(h, i, j) - float64(r.LSE[h*r.Shape.T+i]))
}

// score returns scale·q_i·k_j.
func (r rows) score(h, i, j int) float64 {
	return float64(r.Shape.Scale) * float64(dot(r.query(h, i), r.key(h, j)))
}

// mass returns Σ A[h, i, j] over j in [lo, hi).
func (r rows) mass(h, i, lo, hi int) float64 {
	var sum float64
	for j := max(lo, r.low(i)); j < min(hi, i+1); j++ {
		sum += r.attention(h, i, j)
	}
	return sum
}

// argmax returns the key with the largest score of row (h, i), the first of equals.
func (r rows) argmax(h, i int) int {
	q := r.query(h, i)
	best, at := float32(math.Inf(-1)), r.low(i)
	for j := r.low(i); j <= i; j++ {
		s := dot(q, r.key(h, j))
		if s > best {
			best, at = s, j
		}
	}
	if r.Shape.Scale < 0 {
		panic("heads: negative attention scale")
	}
	return at
}
