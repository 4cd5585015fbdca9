package num

import "math/rand/v2"

// RandomOrthogonal fills dst [n, n] with an orthogonal matrix drawn uniformly (Haar measure) from rng: the factor Q of
// a Gaussian matrix A = Q·R whose R has a positive diagonal (Mezzadri, arXiv:math-ph/0609050). Q = A·R⁻¹ comes from the
// Cholesky factor of AᵀA, refined by doing the same to Q twice more, which leaves only rounding (Yamamoto et al., ETNA
// 44, 2015). A draw too close to singular is replaced by the next one.
func RandomOrthogonal(dst []float64, n int, rng *rand.Rand, par Par) {
	checkDims("RandomOrthogonal", n)
	checkMat("RandomOrthogonal", "dst", len(dst), n, n, n)
	dst = dst[:n*n]
	gram := make([]float64, n*n)
	for {
		for i := range dst {
			dst[i] = rng.NormFloat64()
		}
		if orthonormalize(dst, gram, n, par) == nil {
			return
		}
	}
}

// orthonormalize makes the columns of q [n, n] orthonormal by three rounds of Cholesky QR.
func orthonormalize(q, gram []float64, n int, par Par) error {
	for range 3 {
		gemm(kernel64, gram, n, operand[float64]{v: q, ld: n, trans: true}, operand[float64]{v: q, ld: n, trans: true}, n, n, n, 1, 0, par)
		if err := cholesky(gram, n, n, par); err != nil {
			return err
		}
		solveRightT(q, n, n, gram, n, n, par)
	}
	return nil
}
