package num

// squaresChunk is how many values one partial sum of SumSquares takes.
const squaresChunk = 1 << 16

// SumSquares returns Σ x[i]² in float64, for norms of gradients: the sums of chunks of 65,536 values, added in the order of
// chunks. The square of an f32 neither overflows nor vanishes in float64. Scratch memory: 8 bytes per chunk.
func SumSquares(x []float32, par Par) float64 {
	part := make([]float64, ceilDiv(len(x), squaresChunk))
	each(par, len(part), func(i int) { part[i] = sumSquares(x[i*squaresChunk : min(len(x), (i+1)*squaresChunk)]) })
	var sum float64
	for _, v := range part {
		sum += v
	}
	return sum
}

// sumSquares returns Σ x[i]² in four partial sums.
func sumSquares(x []float32) float64 {
	var s0, s1, s2, s3 float64
	for ; len(x) >= 4; x = x[4:] {
		a, b, c, d := float64(x[0]), float64(x[1]), float64(x[2]), float64(x[3])
		s0 += float64(a * a)
		s1 += float64(b * b)
		s2 += float64(c * c)
		s3 += float64(d * d)
	}
	for _, v := range x {
		s0 += float64(float64(v) * float64(v))
	}
	return (s0 + s1) + (s2 + s3)
}
