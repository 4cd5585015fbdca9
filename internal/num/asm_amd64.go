//go:build amd64 && !noasm

package num

import "unsafe"

// The kernels of the .s files, which the program in gen writes; each comment there is the loop that it computes.

//go:noescape
func micro14x32AVX512(c []float32, ldc int, a, b []float32, k, tiles int, add bool)

//go:noescape
func micro14x16AVX512(c []float64, ldc int, a, b []float64, k, tiles int, add bool)

//go:noescape
func micro6x16AVX2(c []float32, ldc int, a, b []float32, k, tiles int, add bool)

//go:noescape
func micro6x8AVX2(c []float64, ldc int, a, b []float64, k, tiles int, add bool)

//go:noescape
func micro8x32AVX512(c []float32, ldc int, a, b []float32, k, tiles int, add bool)

//go:noescape
func micro4x32AVX512(c []float32, ldc int, a, b []float32, k, tiles int, add bool)

//go:noescape
func micro4x16AVX2(c []float32, ldc int, a, b []float32, k, tiles int, add bool)

//go:noescape
func micro2x16AVX2(c []float32, ldc int, a, b []float32, k, tiles int, add bool)

//go:noescape
func transpose8F32(dst unsafe.Pointer, stride int, rows *[8]unsafe.Pointer, n int)

//go:noescape
func transpose8BF16(dst unsafe.Pointer, stride int, rows *[8]unsafe.Pointer, n int)

//go:noescape
func transpose8F16(dst unsafe.Pointer, stride int, rows *[8]unsafe.Pointer, n int)

//go:noescape
func transpose16F32(dst unsafe.Pointer, stride int, rows *[16]unsafe.Pointer, n int)

//go:noescape
func transpose16BF16(dst unsafe.Pointer, stride int, rows *[16]unsafe.Pointer, n int)

//go:noescape
func transpose16F16(dst unsafe.Pointer, stride int, rows *[16]unsafe.Pointer, n int)

//go:noescape
func transpose4F64(dst unsafe.Pointer, stride int, rows *[8]unsafe.Pointer, n int)

//go:noescape
func copyRows(dst unsafe.Pointer, stride int, src unsafe.Pointer, ld, size, n int)

//go:noescape
func scaleRows(dst unsafe.Pointer, stride int, src unsafe.Pointer, ld, size, n int, scale *float32)

//go:noescape
func dotAVX2(a, b []float32) float32

//go:noescape
func dotAVX512(a, b []float32) float32

//go:noescape
func sumAVX2(x []float32) float32

//go:noescape
func sumAVX512(x []float32) float32

//go:noescape
func maxAVX2(x []float32) float32

//go:noescape
func maxAVX512(x []float32) float32

//go:noescape
func axpyAVX2(y []float32, alpha float32, x []float32)

//go:noescape
func axpyAVX512(y []float32, alpha float32, x []float32)

//go:noescape
func scaleAVX2(x []float32, alpha float32)

//go:noescape
func scaleAVX512(x []float32, alpha float32)

//go:noescape
func expAVX2(dst, src []float32)

//go:noescape
func expAVX512(dst, src []float32)

//go:noescape
func expSumAVX2(dst, src []float32, shift float32) float32

//go:noescape
func expSumAVX512(dst, src []float32, shift float32) float32

//go:noescape
func siluMulAVX2(y, gate, up []float32)

//go:noescape
func siluMulAVX512(y, gate, up []float32)

//go:noescape
func siluMulBackAVX2(dgate, dup, dy, gate, up []float32)

//go:noescape
func siluMulBackAVX512(dgate, dup, dy, gate, up []float32)

//go:noescape
func addAVX2(y, x []float32)

//go:noescape
func addAVX512(y, x []float32)

//go:noescape
func adamWAVX2(p, g, m, v []float32, f *adamFactors)

//go:noescape
func adamWAVX512(p, g, m, v []float32, f *adamFactors)

//go:noescape
func addWideAVX2(dst []float64, src []float32)

//go:noescape
func addWideAVX512(dst []float64, src []float32)

//go:noescape
func addOuter16AVX2(y, x []float32, e *[16]float32)

//go:noescape
func addOuter16AVX512(y, x []float32, e *[16]float32)

//go:noescape
func roundingCostAVX2(w, h []float32, grid *RoundingGrid) float32

//go:noescape
func roundingCostAVX512(w, h []float32, grid *RoundingGrid) float32

//go:noescape
func roundingCostWeightedAVX2(w, h []float32, grid *RoundingGrid) float32

//go:noescape
func roundingCostWeightedAVX512(w, h []float32, grid *RoundingGrid) float32

//go:noescape
func walshLevel32AVX2(x []float32, h int)

//go:noescape
func walshLevel64AVX2(x []float64, h int)

//go:noescape
func roundLanesAVX2(steps, q, y *[16]float32, grids *RoundingLanes)

//go:noescape
func roundLanesAVX512(steps, q, y *[16]float32, grids *RoundingLanes)

//go:noescape
func peakAVX2(n int)

//go:noescape
func peakAVX512(n int)

//go:noescape
func micro14x32AVX512BF16(c []float32, ldc int, a, b []uint32, k, tiles int, add bool)

//go:noescape
func micro8x32AVX512BF16(c []float32, ldc int, a, b []uint32, k, tiles int, add bool)

//go:noescape
func micro4x32AVX512BF16(c []float32, ldc int, a, b []uint32, k, tiles int, add bool)

//go:noescape
func pairs16(dst unsafe.Pointer, stride int, rows *[16]unsafe.Pointer, n int)

//go:noescape
func pairsRow(dst, src unsafe.Pointer, n int)

//go:noescape
func micro32x32AMX(c []float32, ldc int, a []uint32, lda int, b []uint32, pairs, tiles int, add bool)

//go:noescape
func decodeBF16AVX2(dst, src unsafe.Pointer, n int)

//go:noescape
func decodeBF16AVX512(dst, src unsafe.Pointer, n int)

//go:noescape
func decodeF16AVX2(dst, src unsafe.Pointer, n int)

//go:noescape
func decodeF16AVX512(dst, src unsafe.Pointer, n int)

//go:noescape
func encodeBF16AVX2(dst, src unsafe.Pointer, n int)

//go:noescape
func encodeBF16AVX512(dst, src unsafe.Pointer, n int)

//go:noescape
func encodeF16AVX2(dst, src unsafe.Pointer, n int)

//go:noescape
func encodeF16AVX512(dst, src unsafe.Pointer, n int)

//go:noescape
func magnitudeBitsAVX2(src unsafe.Pointer, n int) uint32

//go:noescape
func magnitudeBitsAVX512(src unsafe.Pointer, n int) uint32

//go:noescape
func quantizeQ8AVX2(dst, src unsafe.Pointer, blocks int) uint32

//go:noescape
func quantizeQ8AVX512(dst, src unsafe.Pointer, blocks int) uint32

//go:noescape
func blockExtremesAVX2(dst, src unsafe.Pointer, blocks int)

//go:noescape
func blockExtremesAVX512(dst, src unsafe.Pointer, blocks int)

//go:noescape
func blockBoundsAVX2(least, largest, src unsafe.Pointer, blocks int)

//go:noescape
func blockBoundsAVX512(least, largest, src unsafe.Pointer, blocks int)

//go:noescape
func blockCodesAVX2(dst, src, base, inv unsafe.Pointer, blocks int, add float32, top int32)

//go:noescape
func blockCodesAVX512(dst, src, base, inv unsafe.Pointer, blocks int, add float32, top int32)

//go:noescape
func partCodesAVX2(dst, src, add, step unsafe.Pointer, parts int, lo, hi, bias int32)

//go:noescape
func partCodesAVX512(dst, src, add, step unsafe.Pointer, parts int, lo, hi, bias int32)

//go:noescape
func affineSearchAVX2(s *AffineSearch, n int, top float32, tries []float32)

//go:noescape
func affineSearchAVX512(s *AffineSearch, n int, top float32, tries []float32)

//go:noescape
func scaleSearchAVX2(s *ScaleSearch, n int, top float32, tries []float32, tiny float32)

//go:noescape
func scaleSearchAVX512(s *ScaleSearch, n int, top float32, tries []float32, tiny float32)

//go:noescape
func rootWeightsAVX2(w, x, importance unsafe.Pointer, n int, sigma2 float32)

//go:noescape
func rootWeightsAVX512(w, x, importance unsafe.Pointer, n int, sigma2 float32)
