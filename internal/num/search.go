package num

import "math"

// Searches for grids, 16 at a time: lane r of each array is the problem of its own of values X[16*i+r], i < n. Every lane is computed in the order of
// the plain body, product by product, so that the bits are the same for every set of kernels.

const (
	searchLanes = 16
	searchMost  = 32 // values of a lane
)

// AffineSearch looks for grids Scale*code + Min, of codes from 0 to top and Min not above 0, with a small Σ w*(x - value)².
type AffineSearch struct {
	X, W  [searchMost * searchLanes]float32
	codes [searchMost * searchLanes]float32

	Scale, Min [searchLanes]float32 // Scale 0 where the values do not differ, or by too little for an inverse
	Base, Inv  [searchLanes]float32 // code = (x - Base)*Inv, rounded to nearest, ties to even, and held in its range
	Weight     [searchLanes]float32 // Σ w
}

// Run starts with the grid that spans 0 and the values. For each try t it divides what lies between the best Min so far and the largest value by t, takes
// the nearest codes, and for them Scale and Min of least squares, which replace the best where the loss is less. n is a multiple of 4, at most 32.
func (s *AffineSearch) Run(n int, top float32, tries []float32) {
	if n < 4 || n > searchMost || n%4 != 0 {
		panic("num: AffineSearch: values that are no multiple of 4 up to 32")
	}
	affineSearch(s, n, top, tries)
}

func affineSearchGeneric(s *AffineSearch, n int, top float32, tries []float32) {
	for r := range searchLanes {
		var l affineLane
		for i := range n {
			l.x[i], l.w[i] = s.X[searchLanes*i+r], s.W[searchLanes*i+r]
		}
		l.run(n, top, tries)
		s.Scale[r], s.Min[r], s.Base[r], s.Inv[r], s.Weight[r] = l.best.scale, l.best.min, l.best.base, l.best.inv, l.weight
	}
}

// affineLane is one lane of an AffineSearch.
type affineLane struct {
	x, w, code [searchMost]float32
	weight     float32
	best       affineGrid
}

type affineGrid struct{ scale, min, base, inv float32 }

func (l *affineLane) run(n int, top float32, tries []float32) {
	x, w := l.x[:n], l.w[:n]
	least, largest := x[0], x[0]
	sumW := w[0]
	sumX := float32(w[0] * x[0])
	for i := 1; i < n; i++ {
		if x[i] < least {
			least = x[i]
		}
		if x[i] > largest {
			largest = x[i]
		}
		sumW += w[i]
		sumX += float32(w[i] * x[i])
	}
	if least > 0 {
		least = 0
	}
	l.weight = sumW
	l.best = affineGrid{min: least, base: least}
	inv := top / (largest - least)
	if !(inv <= math.MaxFloat32) {
		return
	}
	l.round(n, least, inv, top)
	l.best.scale, l.best.inv = 1/inv, inv
	bestLoss := l.loss(n, l.best.scale, l.best.min)
	for _, t := range tries {
		g := affineGrid{base: l.best.min, inv: t / (largest - l.best.min)}
		sumL, sumL2, sumXL := l.round(n, g.base, g.inv, top)
		det := float32(sumW*sumL2) - float32(sumL*sumL)
		g.scale = (float32(sumW*sumXL) - float32(sumX*sumL)) / det
		g.min = (float32(sumL2*sumX) - float32(sumL*sumXL)) / det
		if g.min > 0 {
			g.min, g.scale = 0, sumXL/sumL2
		}
		if !(det > 0) {
			continue
		}
		if e := l.loss(n, g.scale, g.min); e < bestLoss {
			l.best, bestLoss = g, e
		}
	}
}

// round takes the nearest codes and returns the sums of least squares.
func (l *affineLane) round(n int, base, inv, top float32) (sumL, sumL2, sumXL float32) {
	x, w, code := l.x[:n], l.w[:n], l.code[:n]
	for i, v := range x {
		c := float32(float32((v-base)*inv)+roundingMagic) - roundingMagic
		if c < 0 {
			c = 0
		}
		if c > top {
			c = top
		}
		code[i] = c
		wl := float32(w[i] * c)
		sumL += wl
		sumL2 += float32(wl * c)
		sumXL += float32(wl * v)
	}
	return sumL, sumL2, sumXL
}

func (l *affineLane) loss(n int, scale, least float32) (sum float32) {
	x, w, code := l.x[:n], l.w[:n], l.code[:n]
	for i, v := range x {
		d := float32(scale*code[i]) + least - v
		sum += float32(w[i] * float32(d*d))
	}
	return sum
}

// loadLanes sets value i of lane r to x[n*r+i] for r < len(x)/n, and the values of the other lanes to 0.
func loadLanes(dst *[searchMost * searchLanes]float32, x []float32, n int) {
	if n < 4 || n > searchMost || n%4 != 0 || len(x)%n != 0 || len(x) > n*searchLanes {
		panic("num: search: lanes of no multiple of 4 values up to 32, or more than 16 of them")
	}
	if len(x) < n*searchLanes {
		clear(dst[:n*searchLanes])
	} else if n%16 == 0 && transposeLanes(dst, x, n) {
		return
	}
	for r := range len(x) / n {
		for i, v := range x[n*r : n*r+n] {
			dst[searchLanes*i+r] = v
		}
	}
}

// Load fills lanes: value i of lane r is x[n*r+i], its weight w[n*r+i]. Lanes for which there is nothing get zeros.
func (s *AffineSearch) Load(x, w []float32, n int) {
	checkLen("AffineSearch", "w", len(w), len(x))
	loadLanes(&s.X, x, n)
	loadLanes(&s.W, w[:len(x)], n)
}

// Load fills lanes: value i of lane r is x[n*r+i], its weight w[n*r+i]. Lanes for which there is nothing get zeros.
func (s *ScaleSearch) Load(x, w []float32, n int) {
	checkLen("ScaleSearch", "w", len(w), len(x))
	loadLanes(&s.X, x, n)
	loadLanes(&s.W, w[:len(x)], n)
}

// ScaleSearch looks for grids Scale*code, of codes from -top to top-1, with a small Σ w*(x - value)².
type ScaleSearch struct {
	X, W [searchMost * searchLanes]float32
	wx   [searchMost * searchLanes]float32

	Scale, Inv [searchLanes]float32 // code = x*Inv, rounded to nearest, ties to even, and held in its range
}

// Run starts with the grid that gives the value of largest magnitude, the first of several, the code -top. For each try t it divides that value by t
// instead, takes the nearest codes, and for them the Scale of least squares, which replaces the best where the loss is less. Lanes all of whose values are
// below tiny in magnitude have Scale and Inv 0. n is a multiple of 4, at most 32.
func (s *ScaleSearch) Run(n int, top float32, tries []float32, tiny float32) {
	if n < 4 || n > searchMost || n%4 != 0 {
		panic("num: ScaleSearch: values that are no multiple of 4 up to 32")
	}
	scaleSearch(s, n, top, tries, tiny)
}

func scaleSearchGeneric(s *ScaleSearch, n int, top float32, tries []float32, tiny float32) {
	for r := range searchLanes {
		var l scaleLane
		for i := range n {
			l.x[i], l.w[i] = s.X[searchLanes*i+r], s.W[searchLanes*i+r]
		}
		s.Scale[r], s.Inv[r] = l.run(n, top, tries, tiny)
	}
}

// scaleLane is one lane of a ScaleSearch.
type scaleLane struct{ x, w [searchMost]float32 }

func (l *scaleLane) run(n int, top float32, tries []float32, tiny float32) (scale, inv float32) {
	var extreme, most float32
	for _, v := range l.x[:n] {
		if a := math.Float32frombits(math.Float32bits(v) &^ (1 << 31)); a > most {
			most, extreme = a, v
		}
	}
	if most < tiny {
		return 0, 0
	}
	inv = -top / extreme
	sumXL, sumL2 := l.round(n, inv, top)
	if sumL2 != 0 {
		scale = sumXL / sumL2
	}
	best := float32(scale * sumXL)
	for _, t := range tries {
		other := t / extreme
		sumXL, sumL2 = l.round(n, other, top)
		if sumL2 > 0 && float32(sumXL*sumXL) > float32(best*sumL2) {
			scale, inv = sumXL/sumL2, other
			best = float32(scale * sumXL)
		}
	}
	return scale, inv
}

// round takes the nearest codes and returns the sums of least squares.
func (l *scaleLane) round(n int, inv, top float32) (sumXL, sumL2 float32) {
	x, w := l.x[:n], l.w[:n]
	for i, v := range x {
		c := float32(float32(v*inv)+roundingMagic) - roundingMagic
		if c < -top {
			c = -top
		}
		if c > top-1 {
			c = top - 1
		}
		sumXL += float32(float32(w[i]*v) * c)
		sumL2 += float32(float32(w[i]*c) * c)
	}
	return sumXL, sumL2
}
