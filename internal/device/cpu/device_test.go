package cpu

import (
	"fmt"
	"testing"

	"modelpress/internal/device"
	"modelpress/internal/device/devicetest"
)

func TestConformance(t *testing.T) {
	for _, threads := range []int{1, 3} {
		t.Run(fmt.Sprint(threads), func(t *testing.T) { devicetest.Run(t, New(threads)) })
		t.Run(fmt.Sprint("bf16/", threads), func(t *testing.T) { devicetest.Run(t, NewBF16(threads)) })
	}
}

func TestThreadsChangeNothing(t *testing.T) {
	devicetest.Same(t, New(1), New(2))
	devicetest.Same(t, New(1), New(7))
	devicetest.Same(t, NewBF16(1), NewBF16(3))
}

func TestPanicCrossesThreads(t *testing.T) {
	defer func() {
		if p := recover(); p != "body 30" {
			t.Errorf("recovered %v", p)
		}
	}()
	New(3).For(100, func(i int) {
		if i == 30 {
			panic("body 30")
		}
	})
	t.Error("For returned")
}

func TestWrongSizesPanic(t *testing.T) {
	d := New(1)
	buf := func(kind device.Kind, n int) device.Buf {
		b, err := d.Alloc(kind, n)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	x, half := buf(device.F32, 8), buf(device.BF16, 8)
	for name, f := range map[string]func(){
		"short output":   func() { d.MatMulNT(x, x, x, 3, 3, 2, 0) },
		"short weight":   func() { d.MatMulNT(x, x, half, 1, 3, 4, 0) },
		"16-bit operand": func() { d.Add(x, half, 8) },
		"odd head":       func() { d.RoPE(x, 1, 1, 5, make([]float32, 8), make([]float32, 8)) },
		"masks":          func() { d.Attention(x, nil, x, x, x, device.AttnShape{T: 1, H: 2, G: 2, K: 4}, make([]device.Mask, 1)) },
		"short gradient": func() { d.MatMulTN(x, x, x, 1, 3, 3, 0) },
		"no channels":    func() { d.RMSNorm(x, x, x, 2, 4, 0, 0) },
		"few factors":    func() { d.ScaleColumns(x, x, make([]float32, 3), 2, 4) },
		"few sums":       func() { d.ColumnDots(make([]float64, 3), x, nil, 2, 4) },
		"16-bit gain":    func() { d.RMSNormGrad(half, x, x, 1, 8, 8, 0) },
		"heads":          func() { d.Attention(x, nil, x, x, x, device.AttnShape{T: 1, H: 3, G: 2, K: 2}, nil) },
		"half a value":   func() { d.UploadRaw(x, 0, make([]byte, 3)) },
		"past the end":   func() { d.Upload(x, 7, make([]float32, 2)) },
		"behind a slice": func() { d.Upload(d.Slice(x, 0, 4), 3, make([]float32, 2)) },
		"long slice":     func() { d.Slice(half, 5, 4) },
		"other kind":     func() { d.Copy(x, 0, half, 0, 1) },
		"long zeros":     func() { d.Zero(half, 8, 1) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", name)
				}
			}()
			f()
		}()
	}
}
