package quantize

import (
	"fmt"

	"modelpress/internal/num"
)

// OutputEnergy returns tr(x·h·xᵀ): the sum of the squared outputs of x [out, in] over the inputs behind the Hessian
// h [in, in], of which it reads the half on and below the diagonal. Products are in f32, sums over columns in f64.
//
// With h = D + S + Sᵀ, D its blocks on the diagonal and S those below, that is tr(x·(D + 2·S)·xᵀ): half the products of
// the whole. Scratch memory is 1024*(out + in) bytes.
func OutputEnergy(x []float32, out, in int, h []float64, par Par) float64 {
	if len(x) != out*in || len(h) != in*in {
		panic(fmt.Sprintf("quantize: %d weights for [%d, %d], Hessian of %d", len(x), out, in, len(h)))
	}
	panel, y := make([]float32, in*blockColumns), make([]float32, out*blockColumns)
	rows := make([]float64, out)
	for j := 0; j < in; j += blockColumns {
		c := min(blockColumns, in-j)
		energyPanel(panel, h, in, j, c, par)
		num.GemmNN(y, c, x[j:], in, panel, c, out, c, in-j, 1, 0, par)
		forRows(out, par, func(lo, hi int) {
			for r := lo; r < hi; r++ {
				var s float64
				for k, v := range x[r*in+j:][:c] {
					s += float64(float64(v) * float64(y[r*c+k]))
				}
				rows[r] += s
			}
		})
	}
	var sum float64
	for _, s := range rows {
		sum += s
	}
	return sum
}

// energyPanel sets dst [n-j, c] to columns [j, j+c) of D + 2·S, rows from j on.
func energyPanel(dst []float32, h []float64, n, j, c int, par Par) {
	forRows(n-j, par, func(lo, hi int) {
		for i := lo; i < hi; i++ {
			row := dst[i*c:][:c]
			for k := range row {
				switch {
				case i >= c:
					row[k] = float32(2 * h[(j+i)*n+j+k])
				case k <= i:
					row[k] = float32(h[(j+i)*n+j+k])
				default:
					row[k] = float32(h[(j+k)*n+j+i])
				}
			}
		}
	})
}

// RelativeOutputError returns tr(E·h·Eᵀ)/tr(W·h·Wᵀ), E = W - Q, of OutputEnergy: 0 where w has no output. It needs memory
// for E besides.
func RelativeOutputError(w, q []float32, out, in int, h []float64, par Par) float64 {
	y := OutputEnergy(w, out, in, h, par)
	if y == 0 {
		return 0
	}
	e := make([]float32, len(w))
	for i := range e {
		e[i] = w[i] - q[i]
	}
	return OutputEnergy(e, out, in, h, par) / y
}
