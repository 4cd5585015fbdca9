package sparse

import (
	"fmt"
	"math"

	"modelpress/formats"
)

// Report says how the pruning of a matrix went.
type Report struct {
	// Loss is the Hessian-weighted squared error tr((W-Q)·(H+damping)·(W-Q)ᵀ) of SparseGPT, in the units of the Hessian given.
	// OutputError is Loss without the damping. Neither is known for other methods, nor where FellBack is set.
	Loss, OutputError float64
	// Damp is what was added to the diagonal, in the units of the Hessian, after Retries failed attempts with less.
	Damp    float64
	Retries int
	// DeadColumns counts inputs that were always 0. Their weights go before all others, and those that stay are not changed.
	DeadColumns int
	// FellBack is set where the inputs could not be used and a plainer method took its place: Wanda for SparseGPT, magnitude
	// where every input was 0.
	FellBack bool
	Reason   string
}

// Magnitude returns w [out, in] without the weights that are smallest, of the whole matrix or of each row, or of each group of
// an n:m pattern. Those that stay are rounded to store (BF16, F16 or F32), which changes none that store holds. w is not
// changed. Weights that are not finite and patterns that do not fit are errors.
//
// Memory beside the result: 8*in bytes for each thread.
func Magnitude(w []float32, out, in int, s Scheme, store formats.DType, par Par) ([]float32, error) {
	if err := check(w, out, in, s, store); err != nil {
		return nil, err
	}
	return drop(w, out, in, nil, s, store, par), nil
}

// Wanda returns w [out, in] without the weights of which |w_ij|·‖x_j‖₂ is smallest, x_j the inputs of column j (arXiv:2306.11695,
// equation 1). second [in] is ‖x_j‖₂² times any positive factor, such as the diagonal of a Hessian. The paper compares the weights of
// each row (PerRow). The rest is as for Magnitude, which takes its place where all of second is 0.
func Wanda(w []float32, out, in int, second []float64, s Scheme, store formats.DType, par Par) ([]float32, Report, error) {
	if err := check(w, out, in, s, store); err != nil {
		return nil, Report{}, err
	}
	if len(second) != in {
		panic(fmt.Sprintf("sparse: second moments of %d inputs for [%d, %d]", len(second), out, in))
	}
	var rep Report
	norms, most := make([]float64, in), 0.0
	for j, v := range second {
		if !(v >= 0) || math.IsInf(v, 1) {
			return nil, Report{}, fmt.Errorf("sparse: the second moment of input %d is %v", j, v)
		}
		if v == 0 {
			rep.DeadColumns++
		}
		norms[j] = math.Sqrt(v)
		most = max(most, norms[j])
	}
	if most == 0 {
		rep.FellBack, rep.Reason = true, allDead
		return drop(w, out, in, nil, s, store, par), rep, nil
	}
	return drop(w, out, in, relative(norms, most), s, store, par), rep, nil
}

const allDead = "every input was always 0"

// relative returns values over the largest of them.
func relative(values []float64, most float64) []float32 {
	out := make([]float32, len(values))
	for i, v := range values {
		out[i] = float32(v / most)
	}
	return out
}

// drop returns w without the weights that are smallest by |w_ij|*size_j; size nil counts as ones.
func drop(w []float32, out, in int, size []float32, s Scheme, store formats.DType, par Par) []float32 {
	q, round := make([]float32, len(w)), rounder(store)
	if s.M == 0 && !s.PerRow {
		keys := make([]uint32, in)
		rows := func(see func(keys []uint32)) {
			for r := range out {
				rate(keys, w[r*in:(r+1)*in], size)
				see(keys)
			}
		}
		limit, ties := kth(rows, s.of(len(w)))
		r := 0
		rows(func(keys []uint32) {
			ties = mark(keys, limit, ties)
			keep(q[r*in:(r+1)*in], w[r*in:(r+1)*in], keys, round)
			r++
		})
		return q
	}
	forRows(out, par, func(lo, hi int) {
		keys, marks := make([]uint32, in), make([]uint32, in)
		for r := lo; r < hi; r++ {
			row := w[r*in : (r+1)*in]
			rate(keys, row, size)
			if s.M == 0 {
				markLeast(keys, s.of(in))
				marks = keys
			}
			for j := 0; s.M > 0 && j < in; j += s.M {
				markGroup(marks[j:j+s.M], keys[j:j+s.M], s.M-s.N)
			}
			keep(q[r*in:(r+1)*in], row, marks, round)
		}
	})
	return q
}

// rate sets the keys of a row of weights.
func rate(keys []uint32, w, size []float32) {
	for j, v := range w {
		if size != nil {
			v *= size[j]
		}
		keys[j] = key(v)
	}
}

// keep copies the weights that stay; the others are 0.
func keep(q, w []float32, marks []uint32, round func(float32) float32) {
	for i, v := range w {
		if marks[i] == stays {
			q[i] = round(v)
		}
	}
}
