package quantize

import "modelpress/internal/num"

// RelativeOutputError returns ‖(W−Ŵ)X‖² / ‖WX‖², the share of the output's energy that quantization changes, from a Hessian
// h [in, in] that is Σ x xᵀ times any positive factor. w and deq are [out, in]. It is 0 where WX is 0.
//
// Memory: 4·in² bytes for h in f32 and 4·out·in for one product, twice over.
func RelativeOutputError(w, deq []float32, out, in int, h []float64, par Par) float64 {
	h32 := make([]float32, len(h))
	peak := 0.0
	for _, v := range h {
		peak = max(peak, v, -v)
	}
	if peak == 0 {
		return 0
	}
	for i, v := range h {
		h32[i] = float32(v / peak)
	}
	diff := make([]float32, out*in)
	for i := range diff {
		diff[i] = w[i] - deq[i]
	}
	den := energy(w, out, in, h32, par)
	if den <= 0 {
		return 0
	}
	return energy(diff, out, in, h32, par) / den
}

// energy returns tr(A·H·Aᵀ), summed by row.
func energy(a []float32, out, in int, h []float32, par Par) float64 {
	ah := make([]float32, out*in)
	num.GemmNN(ah, in, a, in, h, in, out, in, in, 1, 0, par)
	sum := 0.0
	for r := range out {
		row := 0.0
		for i := r * in; i < (r+1)*in; i++ {
			row += float64(float64(a[i]) * float64(ah[i]))
		}
		sum += row
	}
	return sum
}
