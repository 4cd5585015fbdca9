package prune

import (
	"math/rand/v2"
	"testing"

	"modelpress/formats"
)

// zeros is one matrix, read at the speed of memory.
type zeros struct{ info formats.TensorInfo }

func (z zeros) Tensors() []formats.TensorInfo            { return []formats.TensorInfo{z.info} }
func (z zeros) Lookup(string) (formats.TensorInfo, bool) { return z.info, true }
func (z zeros) ReadAt(_ string, p []byte, _ int64) error { clear(p); return nil }

// What picking three quarters of the columns of a bfloat16 matrix at random takes, copied and scaled, by bytes of the source.
func BenchmarkView(b *testing.B) {
	const n = 4096
	rnd := rand.New(rand.NewPCG(1, 1))
	src := zeros{formats.TensorInfo{Name: "w", DType: formats.BF16, Shape: []int64{n, n}}}
	for _, scale := range []bool{false, true} {
		u := randomUnits(rnd, n, n*3/4, scale)
		t := &sliced{from: src.info, info: src.info, rows: wholeAxis(n), cols: newAxis(&u, n, 1)}
		t.info.Shape = []int64{n, int64(t.cols.kept)}
		name := "copied"
		if scale {
			t.info.DType, name = formats.F64, "scaled"
		}
		b.Run(name, func(b *testing.B) {
			p := make([]byte, 1<<20)
			size, _ := t.info.Bytes()
			b.SetBytes(2 * n * n)
			for b.Loop() {
				for off := int64(0); off < size; off += int64(len(p)) {
					if err := t.read(src, p[:min(int64(len(p)), size-off)], off); err != nil {
						b.Fatal(err)
					}
				}
			}
		})
	}
}
