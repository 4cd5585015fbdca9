package kvmerge

import (
	"math"

	"modelpress/internal/num"
)

// roots returns M^½ and its inverse. Directions that M hardly weighs are given rootFloor of its mean weight, so that the inverse
// exists. Where M is zero that is rootFloor of whole, the mean weight of all members: one that nobody reads must not
// take room from the others. Where that is zero too, both are 1.
func roots(m []float64, r int, whole float64) (root, inverse []float64, err error) {
	w, v := make([]float64, r), append([]float64(nil), m...)
	if err := num.SymEigen(w, v, r, nil); err != nil {
		return nil, nil, err
	}
	mean := 0.0
	for _, x := range w {
		mean += max(x, 0) / float64(r)
	}
	if !(mean > 0) {
		if f := math.Sqrt(rootFloor * whole); f > 0 {
			return scaledIdentity(r, f), scaledIdentity(r, 1/f), nil
		}
		return scaledIdentity(r, 1), scaledIdentity(r, 1), nil
	}
	root, inverse = make([]float64, r*r), make([]float64, r*r)
	left := make([]float64, r*r)
	build := func(dst []float64, f func(x float64) float64) {
		for k := range r {
			x := f(max(w[k], rootFloor*mean))
			for i := range r {
				left[k*r+i] = v[k*r+i] * x
			}
		}
		num.GemmTN64(dst, r, left, r, v, r, r, r, r, 1, 0, nil)
	}
	build(root, math.Sqrt)
	build(inverse, func(x float64) float64 { return 1 / math.Sqrt(x) })
	return root, inverse, nil
}

// rootFloor is the least weight of a direction, relative to the mean.
const rootFloor = 1e-6
