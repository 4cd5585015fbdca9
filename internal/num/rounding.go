package num

import "math"

// RoundingGrid is the set of values r*Scale for whole numbers r in [Lo, Hi], which holds 0; Inv is 1/Scale.
type RoundingGrid struct {
	Scale, Inv, Lo, Hi float32
}

// roundingMagic is 1.5 * 2^23: adding it to a number below 2^22 in magnitude leaves no room for a fraction, so that the
// sum is rounded to a whole number, ties to even, and subtracting it again is exact.
const roundingMagic = 3 << 22

// Steps returns the r whose value is nearest to w; Lo and Hi are below 2^22 in magnitude.
func (g *RoundingGrid) Steps(w float32) float32 {
	x := float32(w * g.Inv)
	if x < g.Lo {
		x = g.Lo
	}
	if x > g.Hi {
		x = g.Hi
	}
	return float32(x+roundingMagic) - roundingMagic
}

// RoundingLanes is a RoundingGrid for each of 16 lanes.
type RoundingLanes struct {
	Scale, Inv, Lo, Hi [16]float32
}

// Set sets the grid of a lane.
func (l *RoundingLanes) Set(r int, g *RoundingGrid) {
	l.Scale[r], l.Inv[r], l.Lo[r], l.Hi[r] = g.Scale, g.Inv, g.Lo, g.Hi
}

// RoundLanes rounds each lane of y to its own grid: steps[r] is the step nearest to y[r], q[r] the value of it.
func RoundLanes(steps, q, y *[16]float32, grids *RoundingLanes) { roundLanes(steps, q, y, grids) }

func roundLanesGeneric(steps, q, y *[16]float32, grids *RoundingLanes) {
	for r, v := range y {
		g := RoundingGrid{grids.Scale[r], grids.Inv[r], grids.Lo[r], grids.Hi[r]}
		steps[r] = g.Steps(v)
		q[r] = float32(steps[r] * g.Scale)
	}
}

// RoundingCost returns Σ h[i] * |w[i]-v[i]|^2.5 over i < len(w), v[i] the value of the grid nearest to w[i], in 32 partial
// sums; all h are 1 where h is nil. The bits are the same for every set of kernels.
func RoundingCost(w, h []float32, g *RoundingGrid) float32 {
	if h != nil {
		checkLen("RoundingCost", "h", len(h), len(w))
		h = h[:len(w)]
	}
	return roundingCost(w, h, g)
}

func roundingCostGeneric(w, h []float32, g *RoundingGrid) float32 {
	var s [lanes]float32
	for i, v := range w {
		d := v - float32(g.Steps(v)*g.Scale)
		loss := float32(float32(d*d) * float32(math.Sqrt(math.Abs(float64(d)))))
		if h != nil {
			loss = float32(loss * h[i])
		}
		s[i%lanes] += loss
	}
	return reduce(&s)
}
