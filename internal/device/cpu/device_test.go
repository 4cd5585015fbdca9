package cpu

import (
	"errors"
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

// Statistics of attention over more positions than an emulated device has the time for.
func TestLongStatistics(t *testing.T) { devicetest.LongStatistics(t, New(2)) }

// A stand-in for a device with its own memory is a device like any other, and gives the bits of the one behind it.
func TestRemoteConformance(t *testing.T) {
	r := devicetest.NewRemote(New(2), 1<<30)
	t.Run("all", func(t *testing.T) { devicetest.Run(t, r) })
	t.Run("reader", func(t *testing.T) { devicetest.Run(t, devicetest.Reader{Remote: r}) })
	t.Run("same", func(t *testing.T) { devicetest.Same(t, New(1), r) })
	if got := r.Traffic(); got.Used != 0 || got.Peak == 0 || got.Up == 0 || got.Down == 0 || got.Tables == 0 {
		t.Errorf("%+v", got)
	}
	small := devicetest.NewRemote(New(1), 100)
	b, err := small.Alloc(device.F32, 20)
	if _, no := small.Alloc(device.BF16, 11); err != nil || !errors.Is(no, device.ErrMemory) || small.Room() != 20 {
		t.Errorf("%v, %v, room %d", err, no, small.Room())
	}
	own := errors.New("own")
	small.Fail = func(op string) error {
		if op == "Add" {
			return own
		}
		return nil
	}
	defer func() {
		f, ok := recover().(*device.Fault)
		if !ok || f.Op != "Add" || !errors.Is(f, own) {
			t.Errorf("recovered %v", f)
		}
	}()
	small.Add(b, b, 20)
	t.Error("Add returned")
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
