package num

// solveRightT overwrites b [m, n] with b·L⁻ᵀ for the lower triangular L [n, n]. Cut in halves: X1 = B1·L11⁻ᵀ,
// X2 = (B2 - X1·L21ᵀ)·L22⁻ᵀ.
func solveRightT(b []float64, ldb, m int, l []float64, ldl, n int, par Par) {
	if n <= leaf {
		byRows(par, m, n*n, func(i int) {
			row := b[i*ldb:]
			for j := range n {
				row[j] = (row[j] - Dot64(row[:j], l[j*ldl:])) / l[j*ldl+j]
			}
		})
		return
	}
	h := half(n)
	solveRightT(b, ldb, m, l, ldl, h, par)
	gemm(kernel64, b[h:], ldb, operand[float64]{v: b, ld: ldb}, operand[float64]{v: l[h*ldl:], ld: ldl}, m, n-h, h, -1, 1, par)
	solveRightT(b[h:], ldb, m, l[h*ldl+h:], ldl, n-h, par)
}

// solveRight overwrites b [m, n] with b·L⁻¹: X2 = B2·L22⁻¹, X1 = (B1 - X2·L21)·L11⁻¹.
func solveRight(b []float64, ldb, m int, l []float64, ldl, n int, par Par) {
	if n <= leaf {
		byRows(par, m, n*n, func(i int) {
			row := b[i*ldb:][:n]
			for j := n - 1; j >= 0; j-- {
				row[j] /= l[j*ldl+j]
				Axpy64(row, -row[j], l[j*ldl:][:j])
			}
		})
		return
	}
	h := half(n)
	solveRight(b[h:], ldb, m, l[h*ldl+h:], ldl, n-h, par)
	gemm(kernel64, b, ldb, operand[float64]{v: b[h:], ld: ldb}, operand[float64]{v: l[h*ldl:], ld: ldl, trans: true}, m, h, n-h, -1, 1, par)
	solveRight(b, ldb, m, l, ldl, h, par)
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

// invertLower overwrites the lower triangular L, the leading n by n of l, with its inverse. Cut in halves, the corner of
// the inverse is -L22⁻¹·L21·L11⁻¹.
func invertLower(l []float64, ldl, n int, par Par) {
	if n <= leaf {
		invertLeaf(l, ldl, n)
		return
	}
	h := half(n)
	l21, l22 := l[h*ldl:], l[h*ldl+h:]
	solveRight(l21, ldl, n-h, l, ldl, h, par)
	solveLeft(l22, ldl, n-h, l21, ldl, h, par)
	for i := range n - h {
		for j := range l21[i*ldl:][:h] {
			l21[i*ldl+j] = -l21[i*ldl+j]
		}
	}
	invertLower(l, ldl, h, par)
	invertLower(l22, ldl, n-h, par)
}

// invertLeaf inverts row by row: x[i,:i] = -(l[i,:i]·X)/l[i,i], with the rows above i inverted already.
func invertLeaf(l []float64, ldl, n int) {
	var old [leaf]float64
	for i := range n {
		row := l[i*ldl:][:n]
		d := 1 / row[i]
		copy(old[:i], row)
		clear(row[:i])
		for p := range i {
			Axpy64(row, -float64(old[p]*d), l[p*ldl:][:p+1])
		}
		row[i] = d
	}
}
