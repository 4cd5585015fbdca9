//go:build !amd64 || noasm

package num

func magnitudeBits(x []float32) (most uint32, done int)            { return 0, 0 }
func quantizeQ8(dst []byte, src []float32) (most uint32, done int) { return 0, 0 }
func blockExtremes(dst, x []float32, blocks int) int               { return 0 }
func blockBounds(least, largest, x []float32, blocks int) int      { return 0 }
func blockCodes(codes []byte, x, base, inv []float32, blocks int, add float32, top int32) int {
	return 0
}
func partCodes(codes []byte, x, add, step []float32, parts int, lo, hi, bias int32) int { return 0 }
func affineSearch(s *AffineSearch, n int, top float32, tries []float32) {
	affineSearchGeneric(s, n, top, tries)
}
func scaleSearch(s *ScaleSearch, n int, top float32, tries []float32, tiny float32) {
	scaleSearchGeneric(s, n, top, tries, tiny)
}

func transposeLanes(dst *[searchMost * searchLanes]float32, x []float32, n int) bool { return false }
func rootWeights(w, x, importance []float32, sigma2 float32) int                     { return 0 }
