package cpu

import (
	"fmt"

	"modelpress/internal/device"
)

// MixHeads: y = alpha[g]*a + (1-alpha[g])*b for the query heads of each KV head g; b may be nil.
func (d *Device) MixHeads(y, a, b device.Buf, alpha []float32, s device.AttnShape) {
	const op = "MixHeads"
	checkMix(op, s, len(alpha))
	n, width := s.T*s.H*s.K, s.H/max(1, s.G)*s.K
	out, x := f32(op, y, n), f32(op, a, n)
	var z []float32
	if b != nil {
		z = f32(op, b, n)
	}
	d.rows(s.T*s.G, width, func(lo, hi int) {
		for i := lo; i < hi; i++ {
			w := alpha[i%s.G]
			row, u := out[i*width:(i+1)*width], x[i*width:(i+1)*width]
			if z == nil {
				for c, v := range u {
					row[c] = w * v
				}
				continue
			}
			for c, v := range z[i*width : (i+1)*width] {
				row[c] = float32(w*u[c]) + float32((1-w)*v)
			}
		}
	})
}

// MixSlopes: dst[g] = Σ dy·(a-b) over rows and the query heads of KV head g, a head per task.
func (d *Device) MixSlopes(dst []float64, dy, a, b device.Buf, s device.AttnShape) {
	const op = "MixSlopes"
	checkMix(op, s, len(dst))
	n := s.T * s.H * s.K
	g, x, z := f32(op, dy, n), f32(op, a, n), f32(op, b, n)
	part := make([]float64, s.H)
	d.For(s.H, func(h int) {
		for t := range s.T {
			at := (t*s.H + h) * s.K
			var sum float64
			for c, v := range g[at : at+s.K] {
				sum += float64(float64(v) * (float64(x[at+c]) - float64(z[at+c])))
			}
			part[h] += sum
		}
	})
	clear(dst)
	for h, v := range part {
		dst[h/(s.H/s.G)] += v
	}
}

func checkMix(op string, s device.AttnShape, gates int) {
	checkShape(op, s, nil)
	if gates != s.G {
		panic(fmt.Sprintf("cpu: %s: %d gates for %d KV heads", op, gates, s.G))
	}
}
