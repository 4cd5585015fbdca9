package num

// columns is how many columns one task of a sum over rows takes.
const columns = 128

// ColumnDots computes dst[j] += Σ_i a[i,j]*b[i,j] for matrices [rows, n], b nil for ones: the gradients by factors or
// biases of columns. Products and sums are in float64, rows ascending from 0, and the sum then joins dst. It needs no
// scratch memory.
func ColumnDots(dst []float64, a, b []float32, rows, n int, par Par) {
	const op = "ColumnDots"
	checkDims(op, rows, n)
	checkLen(op, "dst", len(dst), n)
	checkLen(op, "a", len(a), rows*n)
	if b != nil {
		checkLen(op, "b", len(b), rows*n)
	}
	byColumns(par, n, func(lo, hi int) {
		var sum [columns]float64
		for i := range rows {
			row := a[i*n:][lo:hi]
			if b == nil {
				addWideGeneric(sum[:len(row)], row)
				continue
			}
			with := b[i*n:][lo:hi]
			for j, v := range row {
				sum[j] += float64(float64(v) * float64(with[j]))
			}
		}
		for j := range dst[lo:hi] {
			dst[lo+j] += sum[j]
		}
	})
}

// ScaleColumns computes y[i,j] = x[i,j]*z[j] for matrices [rows, n] and z [n]. y may be x.
func ScaleColumns(y, x, z []float32, rows, n int, par Par) {
	const op = "ScaleColumns"
	checkDims(op, rows, n)
	checkLen(op, "y", len(y), rows*n)
	checkLen(op, "x", len(x), rows*n)
	checkLen(op, "z", len(z), n)
	byRows(par, rows, n, func(i int) {
		in, out, z := x[i*n:][:n], y[i*n:][:n], z[:n]
		for j, v := range in {
			out[j] = v * z[j]
		}
	})
}

// byColumns runs body over [0, n) in pieces of at most columns.
func byColumns(par Par, n int, body func(lo, hi int)) {
	each(par, ceilDiv(n, columns), func(i int) { body(i*columns, min(n, (i+1)*columns)) })
}
