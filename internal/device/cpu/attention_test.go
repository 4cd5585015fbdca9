package cpu

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"testing"

	"modelpress/internal/device"
)

// Long sequences, dense and under a plan that makes three of four KV heads streaming: time should grow as the work does,
// with the square of T for the full heads and with T for the others. Run it with -benchtime 1x -count 5.
func BenchmarkAttentionLong(b *testing.B) {
	const h, g, k = 8, 4, 64
	streaming := device.Mask{Sink: 64, Recent: 256}
	plan := []device.Mask{{}, streaming, streaming, streaming}
	for _, t := range []int{8192, 32768} {
		d := New(0)
		s := device.AttnShape{T: t, H: h, G: g, K: k, Scale: 0.125}
		q, out := normal(d, t*h*k), normal(d, t*h*k)
		kb, v, lse := normal(d, t*g*k), normal(d, t*g*k), normal(d, t*h)
		for name, masks := range map[string][]device.Mask{"dense": nil, "plan": plan} {
			b.Run(fmt.Sprintf("T=%d/%s", t, name), func(b *testing.B) {
				for b.Loop() {
					d.Attention(out, lse, q, kb, v, s, masks)
				}
				var m runtime.MemStats
				runtime.ReadMemStats(&m)
				b.ReportMetric(float64(m.HeapInuse)/(1<<20), "MiB")
			})
		}
	}
}

func normal(d *Device, n int) device.Buf {
	rng := rand.New(rand.NewPCG(uint64(n), 1))
	b := &buffer{f32: make([]float32, n)}
	for i := range b.f32 {
		b.f32[i] = float32(rng.NormFloat64())
	}
	return b
}
