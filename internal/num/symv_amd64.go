//go:build amd64 && !noasm

package num

//go:noescape
func symv4AVX2(y, x, a []float64, lda int, u *[4]float64, sums *[4][8]float64)

//go:noescape
func symv4AVX512(y, x, a []float64, lda int, u *[4]float64, sums *[4][8]float64)

func symv4(y, x, a []float64, lda int, u *[4]float64, sums *[4][8]float64) {
	switch level {
	case levelAVX512:
		symv4AVX512(y, x, a, lda, u, sums)
	case levelAVX2:
		symv4AVX2(y, x, a, lda, u, sums)
	default:
		symv4Generic(y, x, a, lda, u, sums)
	}
}
