package num

// GemmNT computes y = x·wᵀ + beta*y with y [m, n], x [m, k] and w [n, k], the product of a linear layer:
//
//	for i < m, j < n:
//		s = 0
//		for each block of kc values of l: s += Σ_l x[i,l]*w[j,l]   (one chain of multiply-adds from 0, l ascending)
//		y[i,j] = s + beta*y[i,j]
//
// Element (i, j) is a function of row i of x and row j of w alone. With beta 0 the old y is not read.
func GemmNT(y []float32, ldy int, x []float32, ldx int, w Weights, m, n, k int, beta float32, par Par) {
	checkDims("GemmNT", m, n, k)
	checkMat("GemmNT", "y", len(y), m, n, ldy)
	checkMat("GemmNT", "x", len(x), m, k, ldx)
	checkMat("GemmNT", "w", w.Len(), n, k, w.LD)
	gemm(kernel32, y, ldy, operand[float32]{v: x, ld: ldx}, w.operand(), m, n, k, 1, beta, par)
}

// GemmNN computes y = alpha*a·b + beta*y with y [m, n], a [m, k] and b [k, n], in the order of GemmNT.
func GemmNN(y []float32, ldy int, a []float32, lda int, b []float32, ldb int, m, n, k int, alpha, beta float32, par Par) {
	checkDims("GemmNN", m, n, k)
	checkMat("GemmNN", "y", len(y), m, n, ldy)
	checkMat("GemmNN", "a", len(a), m, k, lda)
	checkMat("GemmNN", "b", len(b), k, n, ldb)
	gemm(kernel32, y, ldy, operand[float32]{v: a, ld: lda}, operand[float32]{v: b, ld: ldb, trans: true}, m, n, k, alpha, beta, par)
}

// GemmBack computes dx = dy·w + beta*dx with dx [m, k], dy [m, n] and w [n, k], in the order of GemmNT: the gradient by the
// input of a linear layer from the gradient by its output.
func GemmBack(dx []float32, lddx int, dy []float32, lddy int, w Weights, m, n, k int, beta float32, par Par) {
	checkDims("GemmBack", m, n, k)
	checkMat("GemmBack", "dx", len(dx), m, k, lddx)
	checkMat("GemmBack", "dy", len(dy), m, n, lddy)
	checkMat("GemmBack", "w", w.Len(), n, k, w.LD)
	b := w.operand()
	b.trans = true
	gemm(kernel32, dx, lddx, operand[float32]{v: dy, ld: lddy}, b, m, k, n, 1, beta, par)
}

// GemmTN computes y = alpha*aᵀ·b + beta*y with y [m, n], a [k, m] and b [k, n], in the order of GemmNT.
func GemmTN(y []float32, ldy int, a []float32, lda int, b []float32, ldb int, m, n, k int, alpha, beta float32, par Par) {
	checkDims("GemmTN", m, n, k)
	checkMat("GemmTN", "y", len(y), m, n, ldy)
	checkMat("GemmTN", "a", len(a), k, m, lda)
	checkMat("GemmTN", "b", len(b), k, n, ldb)
	gemm(kernel32, y, ldy, operand[float32]{v: a, ld: lda, trans: true}, operand[float32]{v: b, ld: ldb, trans: true}, m, n, k, alpha, beta, par)
}

// GemmNT64 computes y = alpha*a·bᵀ + beta*y with y [m, n], a [m, k] and b [n, k], in the order of GemmNT.
func GemmNT64(y []float64, ldy int, a []float64, lda int, b []float64, ldb int, m, n, k int, alpha, beta float64, par Par) {
	checkDims("GemmNT64", m, n, k)
	checkMat("GemmNT64", "y", len(y), m, n, ldy)
	checkMat("GemmNT64", "a", len(a), m, k, lda)
	checkMat("GemmNT64", "b", len(b), n, k, ldb)
	gemm(kernel64, y, ldy, operand[float64]{v: a, ld: lda}, operand[float64]{v: b, ld: ldb}, m, n, k, alpha, beta, par)
}

// GemmNN64 computes y = alpha*a·b + beta*y with y [m, n], a [m, k] and b [k, n], in the order of GemmNT.
func GemmNN64(y []float64, ldy int, a []float64, lda int, b []float64, ldb int, m, n, k int, alpha, beta float64, par Par) {
	checkDims("GemmNN64", m, n, k)
	checkMat("GemmNN64", "y", len(y), m, n, ldy)
	checkMat("GemmNN64", "a", len(a), m, k, lda)
	checkMat("GemmNN64", "b", len(b), k, n, ldb)
	gemm(kernel64, y, ldy, operand[float64]{v: a, ld: lda}, operand[float64]{v: b, ld: ldb, trans: true}, m, n, k, alpha, beta, par)
}

// GemmTN64 computes y = alpha*aᵀ·b + beta*y with y [m, n], a [k, m] and b [k, n], in the order of GemmNT.
func GemmTN64(y []float64, ldy int, a []float64, lda int, b []float64, ldb int, m, n, k int, alpha, beta float64, par Par) {
	checkDims("GemmTN64", m, n, k)
	checkMat("GemmTN64", "y", len(y), m, n, ldy)
	checkMat("GemmTN64", "a", len(a), k, m, lda)
	checkMat("GemmTN64", "b", len(b), k, n, ldb)
	gemm(kernel64, y, ldy, operand[float64]{v: a, ld: lda, trans: true}, operand[float64]{v: b, ld: ldb, trans: true}, m, n, k, alpha, beta, par)
}
