//go:build cuda

package cuda

import (
	"os"
	"testing"

	"modelpress/internal/device"
	"modelpress/internal/device/devicetest"
	"modelpress/internal/num"
)

// scheduled is a device whose threads and streams take an order of their own from its first buffer on. It leaves attention out, which has
// tests of its own.
type scheduled struct {
	*Device
	threads, streams string
}

func (d scheduled) Alloc(kind device.Kind, n int) (device.Buf, error) {
	os.Setenv("MODELPRESS_EMU_SCHEDULE", d.threads)
	os.Setenv("MODELPRESS_EMU_STREAMS", d.streams)
	return d.Device.Alloc(kind, n)
}

func (d scheduled) Attention(out, lse, q, k, v device.Buf, s device.AttnShape, masks []device.Mask) {
}

func (d scheduled) AttnColumnSums(dst, q, k, lse device.Buf, s device.AttnShape, masks []device.Mask) {
}

func (d scheduled) AttentionBack(dq, dk, dv, dout, q, k, v, out, lse device.Buf, s device.AttnShape, masks []device.Mask) {
}

func (d scheduled) AttnStatistics(st *device.AttnStats, q, k, v, out, dout, lse device.Buf, s device.AttnShape, masks []device.Mask) {
}

// All operations but attention have the same bits for any order of threads and blocks, and whenever streams do their work.
func TestSchedules(t *testing.T) {
	for _, v := range []string{"MODELPRESS_EMU_SCHEDULE", "MODELPRESS_EMU_STREAMS"} {
		t.Setenv(v, os.Getenv(v)) // to be as it was at the end
	}
	for name, o := range map[string]Options{"f32": {}, "bf16": {BF16: true}} {
		t.Run(name, func(t *testing.T) {
			d := open(t, o)
			devicetest.Same(t, scheduled{d, "up", "lazy"}, scheduled{d, "down", "ahead"})
			devicetest.Same(t, scheduled{d, "random:1", "eager"}, scheduled{d, "random:2", "random:1"})
		})
	}
}

// Sizes that do not fit, and buffers of other kinds, are refused by every operation, which leaves the device as it was.
func TestPlainRefusals(t *testing.T) {
	d := open(t, Options{})
	buf := func(kind device.Kind, n int) device.Buf {
		b, err := d.Alloc(kind, n)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	x, half := buf(device.F32, 8), buf(device.BF16, 8)
	tables := make([]float32, 8)
	for name, f := range map[string]func(){
		"16-bit operand": func() { d.Add(x, half, 8) },
		"short bias":     func() { d.AddBias(x, d.Slice(x, 0, 3), 2, 4) },
		"no such row":    func() { d.Gather(x, half, []int32{0, 2}, 4) },
		"negative row":   func() { d.Gather(x, half, []int32{-1}, 4) },
		"odd head":       func() { d.RoPE(x, 1, 1, 5, tables, tables) },
		"short tables":   func() { d.Rotate(x, 2, 1, 4, d.Slice(x, 0, 3), x) },
		"no channels":    func() { d.RMSNorm(x, x, x, 2, 4, 0, 0) },
		"short gain":     func() { d.LayerNorm(x, x, x, d.Slice(x, 0, 3), 2, 4, 4, 0) },
		"16-bit gain":    func() { d.RMSNormGrad(half, x, x, 1, 8, 8, 0) },
		"few factors":    func() { d.ScaleColumns(x, x, tables[:3], 2, 4) },
		"few sums":       func() { d.ColumnDots(make([]float64, 3), x, nil, 2, 4) },
		"gates":          func() { d.MixHeads(x, x, nil, tables[:1], device.AttnShape{T: 1, H: 4, G: 2, K: 2}) },
		"heads":          func() { d.MixSlopes(make([]float64, 2), x, x, x, device.AttnShape{T: 1, H: 3, G: 2, K: 2}) },
		"target":         func() { d.Scores(make([]float64, 2), make([]int32, 2), x, []int32{0, 4}, 4) },
		"few losses": func() {
			d.LogitLoss(make([]float64, 2), make([]float64, 1), x, nil, []int32{0, 1}, 4, device.LogitWeights{Scale: 1, CE: 1})
		},
		"f32 for half": func() { d.AdamWHalf(x, x, x, x, 8, num.AdamWStep{Step: 1}, 0) },
		"no step":      func() { d.AdamW(x, x, x, x, 8, num.AdamWStep{}) },
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
	d.Upload(x, 0, []float32{1, 2, 3, 4, 5, 6, 7, 8})
	d.Add(x, x, 8)
	got := make([]float32, 8)
	if d.Download(got, x, 0); got[7] != 16 {
		t.Errorf("afterwards %v", got)
	}
}
