package quantize

import (
	"fmt"

	"modelpress/internal/num"
)

// RelativeOutputError returns tr(E·h·Eᵀ)/tr(W·h·Wᵀ), E = W - Q: the squared error of the outputs of w [out, in] over the
// inputs behind the Hessian h [in, in], of which it reads the half on and below the diagonal, relative to the outputs. It is 0
// where w has no output. Sums are in float64.
func RelativeOutputError(w, q []float32, out, in int, h []float64, par Par) float64 {
	if len(w) != out*in || len(q) != out*in || len(h) != in*in {
		panic(fmt.Sprintf("quantize: %d and %d weights for [%d, %d], Hessian of %d", len(w), len(q), out, in, len(h)))
	}
	parts := make([][2]float64, (out+chunkRows-1)/chunkRows)
	forRows(out, par, func(lo, hi int) {
		a, b := make([]float64, (hi-lo)*in), make([]float64, (hi-lo)*in)
		for i := range a {
			b[i] = float64(w[lo*in+i])
			a[i] = b[i] - float64(q[lo*in+i])
		}
		parts[lo/chunkRows] = [2]float64{quadratic(a, h, hi-lo, in), quadratic(b, h, hi-lo, in)}
	})
	var e, y float64
	for _, p := range parts {
		e, y = e+p[0], y+p[1]
	}
	if y == 0 {
		return 0
	}
	return e / y
}

// quadratic returns tr(x·h·xᵀ) for x [m, n]. With h = D + S + Sᵀ, D its blocks on the diagonal and S those below, that is
// tr(x·(D + 2·S)·xᵀ): half the products of the whole.
func quadratic(x, h []float64, m, n int) float64 {
	y, block := make([]float64, m*blockColumns), make([]float64, blockColumns*blockColumns)
	var sum float64
	for j := 0; j < n; j += blockColumns {
		c := min(blockColumns, n-j)
		for r := range c {
			copy(block[r*c:][:r+1], h[(j+r)*n+j:])
		}
		num.MirrorLower(block, c, nil)
		num.GemmNN64(y, blockColumns, x[j:], n, block, c, m, c, c, 1, 0, nil)
		if next := j + c; next < n {
			num.GemmNN64(y, blockColumns, x[next:], n, h[next*n+j:], n, m, c, n-next, 2, 1, nil)
		}
		for r := range m {
			sum += num.Dot64(x[r*n+j:r*n+j+c], y[r*blockColumns:r*blockColumns+c])
		}
	}
	return sum
}
