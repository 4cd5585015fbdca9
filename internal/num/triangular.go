package num

// solveRightT overwrites b [m, n] with b·L⁻ᵀ for the lower triangular L [n, n]. Cut in halves: X1 = B1·L11⁻ᵀ,
// X2 = (B2 - X1·L21ᵀ)·L22⁻ᵀ.
func solveRightT(b []float64, ldb, m int, l []float64, ldl, n int, par Par) {
	if n <= leaf {
		var inv small
		invertLeaf(&inv, l, ldl, n)
		timesT(b, ldb, m, &inv, n, par)
		return
	}
	h := half(n)
	solveRightT(b, ldb, m, l, ldl, h, par)
	gemm(kernel64, b[h:], ldb, operand[float64]{v: b, ld: ldb}, operand[float64]{v: l[h*ldl:], ld: ldl}, m, n-h, h, -1, 1, par)
	solveRightT(b[h:], ldb, m, l[h*ldl+h:], ldl, n-h, par)
}

// solveRightUpperT overwrites b [m, n] with b·R⁻ᵀ for the upper triangular R [n, n]: X2 = B2·R22⁻ᵀ,
// X1 = (B1 - X2·R12ᵀ)·R11⁻ᵀ.
func solveRightUpperT(b []float64, ldb, m int, r []float64, ldr, n int, by products, par Par) {
	if n <= leaf {
		var inv small
		invertUpperLeaf(&inv, r, ldr, n)
		timesT(b, ldb, m, &inv, n, par)
		return
	}
	h := n - half(n)
	solveRightUpperT(b[h:], ldb, m, r[h*ldr+h:], ldr, n-h, by, par)
	by.subtract(b, ldb, b[h:], ldb, r[h:], ldr, m, h, n-h, whole, par)
	solveRightUpperT(b, ldb, m, r, ldr, h, by, par)
}

// timesT overwrites b [m, n] with b·tᵀ for a triangle t of n <= leaf rows. The products of a leaf are so small that the
// kernel outruns a substitution of half as many operations many times over.
func timesT(b []float64, ldb, m int, t *small, n int, par Par) {
	const rows = 112
	each(par, ceilDiv(m, rows), func(i int) {
		part, count := b[i*rows*ldb:], min(rows, m-i*rows)
		var y [rows * leaf]float64
		gemm(kernel64, y[:], leaf, operand[float64]{v: part, ld: ldb}, operand[float64]{v: t[:], ld: leaf}, count, n, n, 1, 0, nil)
		for r := range count {
			copy(part[r*ldb:][:n], y[r*leaf:])
		}
	})
}

// solveLeft overwrites b [n, m] with L⁻¹·b: X1 = L11⁻¹·B1, X2 = L22⁻¹·(B2 - L21·X1).
func solveLeft(l []float64, ldl, n int, b []float64, ldb, m int, par Par) {
	if n <= leaf {
		const cols = 256
		each(par, ceilDiv(m, cols), func(t int) {
			lo, hi := t*cols, min(m, (t+1)*cols)
			for i := range n {
				row := b[i*ldb:][lo:hi]
				for p := range i {
					Axpy64(row, -l[i*ldl+p], b[p*ldb:][lo:hi])
				}
				for j := range row {
					row[j] /= l[i*ldl+i]
				}
			}
		})
		return
	}
	h := half(n)
	solveLeft(l, ldl, h, b, ldb, m, par)
	gemm(kernel64, b[h*ldb:], ldb, operand[float64]{v: l[h*ldl:], ld: ldl}, operand[float64]{v: b, ld: ldb, trans: true}, n-h, m, h, -1, 1, par)
	solveLeft(l[h*ldl+h:], ldl, n-h, b[h*ldb:], ldb, m, par)
}

// invertLeaf sets x to the inverse of the lower triangle l, row by row: x[i,:i] = -(l[i,:i]·X)/l[i,i].
func invertLeaf(x *small, l []float64, ldl, n int) {
	for i := range n {
		row, d := x[i*leaf:], 1/l[i*ldl+i]
		for p, v := range l[i*ldl:][:i] {
			Axpy64(row, -float64(v*d), x[p*leaf:][:p+1])
		}
		row[i] = d
	}
}

// invertUpperLeaf sets x to the inverse of the upper triangle r, from the last row: x[i,i+1:] = -(r[i,i+1:]·X)/r[i,i].
func invertUpperLeaf(x *small, r []float64, ldr, n int) {
	for i := n - 1; i >= 0; i-- {
		row, d := x[i*leaf:], 1/r[i*ldr+i]
		for p := i + 1; p < n; p++ {
			Axpy64(row[p:], -float64(r[i*ldr+p]*d), x[p*leaf+p:][:n-p])
		}
		row[i] = d
	}
}
