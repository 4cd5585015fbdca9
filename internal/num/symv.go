package num

// symv computes y = a·x for the symmetric a [n, n] with leading dimension lda, of which it reads the upper half, once: four
// rows at a time give their own sums and, to the right of them, what they add to the rows below. Up to 8 pieces of equal
// area add to vectors of their own, in parts [8*n], which are then joined in order.
func symv(y, a []float64, lda int, x, parts []float64, par Par) {
	n := len(x)
	pieces := min(max(n/256, 1), 8)
	cut := func(p int) int { // rows of a triangle at which p of pieces parts of its area lie behind
		if p == pieces {
			return n
		}
		lo, hi := 0, n
		for lo < hi {
			if mid := (lo + hi) / 2; pieces*mid*(2*n-mid) < p*n*n {
				lo = mid + 1
			} else {
				hi = mid
			}
		}
		return lo / 4 * 4
	}
	each(par, pieces, func(p int) {
		part := parts[p*n:][:n]
		clear(part)
		for i := cut(p); i < cut(p+1); i += 4 {
			symvRows(part[i:], a[i*lda+i:], lda, x[i:])
		}
	})
	copy(y[:n], parts)
	for p := 1; p < pieces; p++ {
		from := cut(p)
		for i, v := range parts[p*n+from : (p+1)*n] {
			y[from+i] += v
		}
	}
}

// symvRows adds to y what the first four rows of the upper half of a, and the columns that mirror them, give of a·x.
func symvRows(y, a []float64, lda int, x []float64) {
	n := len(x)
	rows := min(4, n)
	for r := range rows { // the block on the diagonal
		y[r] += float64(a[r*lda+r] * x[r])
		for j := r + 1; j < rows; j++ {
			v := a[r*lda+j]
			y[r] += float64(v * x[j])
			y[j] += float64(v * x[r])
		}
	}
	if n <= 4 {
		return
	}
	_ = a[3*lda+n-1]
	var sums [4][8]float64
	u := [4]float64(x[:4])
	symv4(y[4:n], x[4:], a[4:], lda, &u, &sums)
	done := 4 + (n-4)&^7
	for r := range 4 {
		s := &sums[r]
		y[r] += ((s[0] + s[4]) + (s[2] + s[6])) + ((s[1] + s[5]) + (s[3] + s[7]))
		for j := done; j < n; j++ {
			v := a[r*lda+j]
			y[r] += float64(v * x[j])
			y[j] += float64(v * u[r])
		}
	}
}

func symv4Generic(y, x, a []float64, lda int, u *[4]float64, sums *[4][8]float64) {
	a0, a1, a2, a3 := a, a[lda:], a[2*lda:], a[3*lda:]
	for j := range len(x) &^ 7 {
		v, l := x[j], j%8
		b0, b1, b2, b3 := a0[j], a1[j], a2[j], a3[j]
		y[j] = y[j] + float64(b0*u[0]) + float64(b1*u[1]) + float64(b2*u[2]) + float64(b3*u[3])
		sums[0][l] += float64(b0 * v)
		sums[1][l] += float64(b1 * v)
		sums[2][l] += float64(b2 * v)
		sums[3][l] += float64(b3 * v)
	}
}
