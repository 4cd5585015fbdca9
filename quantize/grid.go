package quantize

import "math"

// grid is the set of values that the codes of one group stand for: r * scale for whole numbers r in [lo, hi]. The code
// of r is r + zero.
type grid struct {
	scale, inv float32
	lo, hi     float32 // smallest and largest code, less the zero point
	zero       int
}

func newGrid(scale float32, zero, qmin, qmax int) grid {
	return grid{scale: scale, inv: 1 / scale, lo: float32(qmin - zero), hi: float32(qmax - zero), zero: zero}
}

// magic is 1.5 * 2^23: adding it to a number below 2^22 in magnitude leaves no room for a fraction, so that the sum is
// rounded to a whole number, ties to even, and subtracting it again is exact.
const magic = 3 << 22

// steps returns the r whose value is nearest to w.
func (g *grid) steps(w float32) float32 {
	x := w * g.inv
	if x < g.lo {
		x = g.lo
	}
	if x > g.hi {
		x = g.hi
	}
	return float32(x+magic) - magic
}

// code returns the code of r.
func (g *grid) code(r float32) int8 { return int8(int(r) + g.zero) }

// cost is what a grid is judged by: Σ h[i] * (w[i]-value(w[i]))², all h 1 where h is nil. It gives up and returns something
// of at least limit once that is certain.
func (g *grid) cost(w, h []float32, limit float32) float32 {
	var sum float32
	for len(w) > 0 && sum < limit {
		n := min(len(w), 16)
		if h == nil {
			sum += g.squares(w[:n])
		} else {
			sum += g.weighted(w[:n], h[:n])
			h = h[n:]
		}
		w = w[n:]
	}
	return sum
}

func (g *grid) squares(w []float32) float32 {
	var sum float32
	for _, v := range w {
		d := v - float32(g.steps(v)*g.scale)
		sum += float32(d * d)
	}
	return sum
}

func (g *grid) weighted(w, h []float32) float32 {
	var sum float32
	for i, v := range w {
		d := v - float32(g.steps(v)*g.scale)
		sum += float32(float32(d*d) * h[i])
	}
	return sum
}

// refit returns the scale that minimizes the cost when the steps stay as they are: Σ h w r / Σ h r². It returns 0 where all
// steps are 0.
func (g *grid) refit(w, h []float32) float32 {
	var a, b float64
	for i, v := range w {
		r := float64(g.steps(v))
		if h != nil {
			a += float64(float64(v) * r * float64(h[i]))
			b += float64(r * r * float64(h[i]))
		} else {
			a += float64(float64(v) * r)
			b += float64(r * r)
		}
	}
	if !(b > 0) {
		return 0
	}
	return float32(a / b)
}

// extremes returns the range of w, widened to hold 0.
func extremes(w []float32) (lo, hi float32) {
	for _, v := range w {
		lo, hi = min(lo, v), max(hi, v)
	}
	return lo, hi
}

// smallestNormal is the least positive scale used; below it products with the scale would lose bits.
func smallestNormal(half bool) float32 {
	if half {
		return 1.0 / (1 << 14)
	}
	return math.Float32frombits(1 << 23)
}
