package kvmerge

import (
	"fmt"
	"math"

	"modelpress/calib"
	"modelpress/internal/num"
)

// Refit fits the output projection of a merged layer to what the layer gave before, by least squares over calibration windows:
// with a [H·K] the heads' outputs before and a' after merging, both for the inputs that the merged layers before leave,
//
//	W' = argmin Σ ‖W·a - W'·a'‖² + λ·‖W' - W₀'‖²,
//
// where W₀' is the fused projection. What merging loses of one head, others often know. λ is [ridge] of the mean energy of a'.
//
// Memory, with n = H·K: 20·n² bytes, and 24·D·n while it is solved.
type Refit struct {
	n     int
	cross []float64 // [n, n] Σ a·a'ᵀ
	part  []float32 // [n, n]
	gram  *calib.Gram
}

// ridge is the weight of the fused projection, relative to the mean energy of an input.
const ridge = 1e-3

// refitRows is how many rows are summed in f32, as in calib.Gram.
const refitRows = 1024

// NewRefit returns an empty fit of heads of n = H·K outputs.
func NewRefit(n int) *Refit {
	return &Refit{n: n, cross: make([]float64, n*n), part: make([]float32, n*n), gram: calib.NewGram(n)}
}

// Add adds a window: the heads' outputs before merging and after, [T, n] each. par runs parts of the sums.
func (r *Refit) Add(before, after []float32, t int, par num.Par) {
	n := r.n
	if len(before) < t*n || len(after) < t*n {
		panic(fmt.Sprintf("kvmerge: Refit.Add of %d and %d values for %d positions of %d", len(before), len(after), t, n))
	}
	r.gram.Add(after, t, nil, par)
	for lo := 0; lo < t; lo += refitRows {
		rows := min(refitRows, t-lo)
		num.GemmTN(r.part, n, before[lo*n:], n, after[lo*n:], n, n, n, rows, 1, 0, par)
		inParallel(par, n, func(i int) { num.AddWide(r.cross[i*n:][:n], r.part[i*n:][:n]) })
	}
}

// Solve returns the fitted projection [D, n] for the one before, wo [D, n], and the fused one [D, n]. The
// sums are spent. It fails where heads' outputs are not finite, or so large that the fit is not.
func (r *Refit) Solve(wo, fused []float32, par num.Par) ([]float32, error) {
	n := r.n
	if len(wo)%n != 0 || len(wo) != len(fused) {
		panic(fmt.Sprintf("kvmerge: Refit.Solve of projections of %d and %d values for %d inputs", len(wo), len(fused), n))
	}
	d := len(wo) / n
	h := r.gram.H
	num.MirrorLower(h, n, par)
	lambda := ridge * trace(h, n) / float64(n)
	if lambda == 0 { // no output at all: nothing to fit
		return append([]float32(nil), fused...), nil
	}
	for i := range n {
		h[i*n+i] += lambda
	}
	w := widened(wo)
	right := make([]float64, n*d) // (W·Σ a·a'ᵀ + λ·W₀')ᵀ
	num.GemmTN64(right, d, r.cross, n, transposedOf(w, d, n), d, n, d, n, 1, 0, par)
	for i := range d {
		for j := range n {
			right[j*d+i] += lambda * float64(fused[i*n+j])
		}
	}
	if err := num.CholeskySolve(h, n, right, d, par); err != nil {
		return nil, fmt.Errorf("kvmerge: fit of the output projection: %w", err)
	}
	out := make([]float32, d*n)
	for i := range d {
		for j := range n {
			v := float32(right[j*d+i])
			if math.IsNaN(float64(v - v)) {
				return nil, fmt.Errorf("kvmerge: fit of the output projection: value (%d, %d) is %v", i, j, v)
			}
			out[i*n+j] = v
		}
	}
	*r = Refit{}
	return out, nil
}

func widened(x []float32) []float64 {
	out := make([]float64, len(x))
	for i, v := range x {
		out[i] = float64(v)
	}
	return out
}

// transposedOf returns the transpose [cols, rows] of m [rows, cols].
func transposedOf(m []float64, rows, cols int) []float64 {
	out := make([]float64, len(m))
	for i := range rows {
		for j := range cols {
			out[j*rows+i] = m[i*cols+j]
		}
	}
	return out
}
