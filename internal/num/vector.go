package num

import "math"

// lanes is the number of partial sums of the reductions: element i joins sum i%lanes, and the sums are then added in
// pairs at distance 16, 8, 4, 2, 1. It is what the vector units compute, and the generic bodies do the same.
const lanes = 32

// Dot returns Σ a[i]*b[i] over i < len(a), in 32 partial sums.
func Dot(a, b []float32) float32 {
	checkLen("Dot", "b", len(b), len(a))
	return dot(a, b[:len(a)])
}

func dotGeneric(a, b []float32) float32 {
	var s [lanes]float32
	for i, v := range a {
		s[i%lanes] += float32(v * b[i])
	}
	return reduce(&s)
}

// reduce adds the partial sums of a reduction in their fixed order.
func reduce(s *[lanes]float32) float32 {
	for w := lanes / 2; w > 0; w /= 2 {
		for i := range w {
			s[i] += s[i+w]
		}
	}
	return s[0]
}

// Axpy computes y[i] += alpha*x[i] over i < len(x).
func Axpy(y []float32, alpha float32, x []float32) {
	checkLen("Axpy", "y", len(y), len(x))
	axpy(y[:len(x)], alpha, x)
}

func axpyGeneric(y []float32, alpha float32, x []float32) {
	for i, v := range x {
		y[i] += float32(alpha * v)
	}
}

// Scale computes x[i] *= alpha.
func Scale(x []float32, alpha float32) { scale(x, alpha) }

func scaleGeneric(x []float32, alpha float32) {
	for i := range x {
		x[i] *= alpha
	}
}

// AddWide computes dst[i] += float64(src[i]) over i < len(src).
func AddWide(dst []float64, src []float32) {
	checkLen("AddWide", "dst", len(dst), len(src))
	addWide(dst[:len(src)], src)
}

func addWideGeneric(dst []float64, src []float32) {
	for i, v := range src {
		dst[i] += float64(v)
	}
}

// AddOuter16 adds an outer product to vectors of 16 values: y[16*k+r] += x[k]*e[r] for k < len(x), r < 16.
func AddOuter16(y, x []float32, e *[16]float32) {
	checkLen("AddOuter16", "y", len(y), 16*len(x))
	addOuter16(y, x, e)
}

func addOuter16Generic(y, x []float32, e *[16]float32) {
	for k, v := range x {
		row := y[16*k:][:16]
		for r, f := range e {
			row[r] += float32(v * f)
		}
	}
}

// Add computes y[i] += x[i] over i < len(x).
func Add(y, x []float32) {
	checkLen("Add", "y", len(y), len(x))
	add(y[:len(x)], x)
}

func addGeneric(y, x []float32) {
	for i, v := range x {
		y[i] += v
	}
}

// Max returns the largest value of x, or -Inf where x is empty. NaN values may be skipped.
func Max(x []float32) float32 { return maximum(x) }

func maxGeneric(x []float32) float32 {
	m := float32(math.Inf(-1))
	for _, v := range x {
		if v > m {
			m = v
		}
	}
	return m
}

// Sum returns the sum of x, in 32 partial sums.
func Sum(x []float32) float32 { return sum(x) }

func sumGeneric(x []float32) float32 {
	var s [lanes]float32
	for i, v := range x {
		s[i%lanes] += v
	}
	return reduce(&s)
}

// Dot64 returns Σ a[i]*b[i] over i < len(a), in four partial sums.
func Dot64(a, b []float64) float64 {
	checkLen("Dot64", "b", len(b), len(a))
	b = b[:len(a)]
	var s0, s1, s2, s3 float64
	i := 0
	for ; i+4 <= len(a); i += 4 {
		s0 += float64(a[i] * b[i])
		s1 += float64(a[i+1] * b[i+1])
		s2 += float64(a[i+2] * b[i+2])
		s3 += float64(a[i+3] * b[i+3])
	}
	for ; i < len(a); i++ {
		s0 += float64(a[i] * b[i])
	}
	return (s0 + s1) + (s2 + s3)
}

// Axpy64 computes y[i] += alpha*x[i] over i < len(x).
func Axpy64(y []float64, alpha float64, x []float64) {
	checkLen("Axpy64", "y", len(y), len(x))
	y = y[:len(x)]
	for i, v := range x {
		y[i] += float64(alpha * v)
	}
}
