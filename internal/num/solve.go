package num

// SolveLower overwrites b [n, m] with l⁻¹·b for the lower triangular l [n, n], of which it reads the lower half. A zero on
// the diagonal gives values that are not finite.
func SolveLower(l []float64, n int, b []float64, m int, par Par) {
	checkSolve("SolveLower", l, n, b, m)
	solveLeft(l, n, n, b, m, m, par)
}

// SolveLowerT overwrites b [n, m] with l⁻ᵀ·b for the lower triangular l [n, n].
func SolveLowerT(l []float64, n int, b []float64, m int, par Par) {
	checkSolve("SolveLowerT", l, n, b, m)
	solveLeftT(l, n, n, b, m, m, par)
}

// CholeskySolve overwrites b [n, m] with a⁻¹·b for the symmetric positive definite a [n, n], of which it reads the lower
// half and which it overwrites with its Cholesky factor. On ErrNotPositiveDefinite b is unchanged.
func CholeskySolve(a []float64, n int, b []float64, m int, par Par) error {
	checkSolve("CholeskySolve", a, n, b, m)
	if err := Cholesky(a, n, par); err != nil {
		return err
	}
	solveLeft(a, n, n, b, m, m, par)
	solveLeftT(a, n, n, b, m, m, par)
	return nil
}

func checkSolve(op string, l []float64, n int, b []float64, m int) {
	checkDims(op, n, m)
	checkMat(op, "l", len(l), n, n, n)
	checkMat(op, "b", len(b), n, m, m)
}

// solveLeftT overwrites b [n, m] with L⁻ᵀ·b: X2 = L22⁻ᵀ·B2, X1 = L11⁻ᵀ·(B1 - L21ᵀ·X2).
func solveLeftT(l []float64, ldl, n int, b []float64, ldb, m int, par Par) {
	if n <= leaf {
		const cols = 256
		each(par, ceilDiv(m, cols), func(t int) {
			lo, hi := t*cols, min(m, (t+1)*cols)
			for i := n - 1; i >= 0; i-- {
				row := b[i*ldb:][lo:hi]
				for p := i + 1; p < n; p++ {
					Axpy64(row, -l[p*ldl+i], b[p*ldb:][lo:hi])
				}
				for j := range row {
					row[j] /= l[i*ldl+i]
				}
			}
		})
		return
	}
	h := half(n)
	solveLeftT(l[h*ldl+h:], ldl, n-h, b[h*ldb:], ldb, m, par)
	GemmTN64(b, ldb, l[h*ldl:], ldl, b[h*ldb:], ldb, h, m, n-h, -1, 1, par)
	solveLeftT(l, ldl, h, b, ldb, m, par)
}
