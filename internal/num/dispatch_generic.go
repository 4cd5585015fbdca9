//go:build !amd64 || noasm

package num

func dot(a, b []float32) float32                   { return dotGeneric(a, b) }
func axpy(y []float32, alpha float32, x []float32) { axpyGeneric(y, alpha, x) }
func maximum(x []float32) float32                  { return maxGeneric(x) }
func sum(x []float32) float32                      { return sumGeneric(x) }
func exp32(dst, src []float32)                     { expGeneric(dst, src) }
func siluMul(y, gate, up []float32)                { siluMulGeneric(y, gate, up) }

func expSum(dst, src []float32, shift float32) float32 { return expSumGeneric(dst, src, shift) }
