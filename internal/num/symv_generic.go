//go:build !amd64 || noasm

package num

func symv4(y, x, a []float64, lda int, u *[4]float64, sums *[4][8]float64) {
	symv4Generic(y, x, a, lda, u, sums)
}
