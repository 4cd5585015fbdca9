package num

// RMSNormGrad adds the gradient by the gain of RMSNorm to dw [d], from the input x [rows, d] and the gradient dy by the
// output:
//
//	dw[j] += Σ_i dy[i,j]*x[i,j]*r_i,  r_i = 1/sqrt(Σ_j x[i,j]²/over + eps)
//
// Rows are summed in float64, ascending, and the sum is rounded once. Scratch memory: 8*rows bytes.
func RMSNormGrad(dw, dy, x []float32, rows, d int, over, eps float32, par Par) {
	const op = "RMSNormGrad"
	checkNorm(op, dy, x, rows, d, over)
	checkLen(op, "dw", len(dw), d)
	r := make([]float64, rows)
	byRows(par, rows, d, func(i int) { r[i] = inverseRMS(x[i*d:][:d], over, eps) })
	byColumns(par, d, func(lo, hi int) {
		var sum [columns]float64
		for i, r := range r {
			in, g := x[i*d:][lo:hi], dy[i*d:][lo:hi]
			for j, v := range in {
				sum[j] += float64(float64(g[j]) * float64(v) * r)
			}
		}
		for j := range dw[lo:hi] {
			dw[lo+j] = float32(float64(dw[lo+j]) + sum[j])
		}
	})
}

// LayerNormGrad adds the gradients by the gain and the bias of LayerNorm to dw and db [d], from the input x [rows, d] and
// the gradient dy by the output:
//
//	dw[j] += Σ_i dy[i,j]*(x[i,j]-mean_i)*r_i,  db[j] += Σ_i dy[i,j],  r_i = 1/sqrt(var_i+eps)
//
// with the mean and the variance of LayerNorm. Rows are summed in float64, ascending, and the sums are rounded once.
// Scratch memory: 16*rows bytes.
func LayerNormGrad(dw, db, dy, x []float32, rows, d int, over, eps float32, par Par) {
	const op = "LayerNormGrad"
	checkNorm(op, dy, x, rows, d, over)
	checkLen(op, "dw", len(dw), d)
	checkLen(op, "db", len(db), d)
	mean, r := make([]float64, rows), make([]float64, rows)
	byRows(par, rows, d, func(i int) { mean[i], r[i] = moments(x[i*d:][:d], over, eps) })
	byColumns(par, d, func(lo, hi int) {
		var gains, biases [columns]float64
		for i, r := range r {
			in, g, mean := x[i*d:][lo:hi], dy[i*d:][lo:hi], mean[i]
			for j, v := range in {
				gains[j] += float64(float64(g[j]) * (float64(v) - mean) * r)
				biases[j] += float64(g[j])
			}
		}
		for j := range dw[lo:hi] {
			dw[lo+j] = float32(float64(dw[lo+j]) + gains[j])
			db[lo+j] = float32(float64(db[lo+j]) + biases[j])
		}
	})
}
