//go:build !amd64 || noasm

package num

func dot(a, b []float32) float32                           { return dotGeneric(a, b) }
func sum(x []float32) float32                              { return sumGeneric(x) }
func maximum(x []float32) float32                          { return maxGeneric(x) }
func addWide(dst []float64, src []float32)                 { addWideGeneric(dst, src) }
func addOuter16(y, x []float32, e *[16]float32)            { addOuter16Generic(y, x, e) }
func roundingCost(w, h []float32, g *RoundingGrid) float32 { return roundingCostGeneric(w, h, g) }
func walshLevel[T float](x []T, h int)                     { walshLevelGeneric(x, h) }
func roundLanes(steps, q, y *[16]float32, grids *RoundingLanes) {
	roundLanesGeneric(steps, q, y, grids)
}
func axpy(y []float32, alpha float32, x []float32)     { axpyGeneric(y, alpha, x) }
func scale(x []float32, alpha float32)                 { scaleGeneric(x, alpha) }
func exp32(dst, src []float32)                         { expGeneric(dst, src) }
func expSum(dst, src []float32, shift float32) float32 { return expSumGeneric(dst, src, shift) }
func siluMul(y, gate, up []float32)                    { siluMulGeneric(y, gate, up) }
func add(y, x []float32)                               { addGeneric(y, x) }
func adamW(p, g, m, v []float32, f *adamFactors)       { f.step(p, g, m, v) }
func decodeBF16(dst []float32, src []byte) int         { return 0 }
func decodeF16(dst []float32, src []byte) int          { return 0 }
func encodeBF16(dst []byte, src []float32) int         { return 0 }
func encodeF16(dst []byte, src []float32) int          { return 0 }
func siluMulBack(dgate, dup, dy, gate, up []float32) {
	siluMulBackGeneric(dgate, dup, dy, gate, up)
}

func peakLoop() (lanes int, loop func(n int)) { return 1, peakGeneric }
