//go:build amd64 && !noasm

package num

import (
	"fmt"
	"runtime"
	"testing"
)

// BenchmarkPeak is the rate of multiply-adds between registers, which bounds every product in f32.
func BenchmarkPeak(b *testing.B) {
	for l := levelAVX2; l <= detect(); l++ {
		for threads := 1; threads <= runtime.GOMAXPROCS(0); threads++ {
			b.Run(fmt.Sprintf("level=%d/threads=%d", l, threads), func(b *testing.B) {
				atLevel(l, func() { bench(b, Peak(threads, nil), func() { Peak(threads, workers(threads)) }) })
			})
		}
	}
}

// BenchmarkOfPeak runs products and the peak loop by turns and reports the median of the ratios of neighbours, in percent.
func BenchmarkOfPeak(b *testing.B) {
	for l := levelAVX2; l <= detect(); l++ {
		for _, n := range []int{1024, 2048} {
			x, w, y := randoms(newRand(1), n*n), randoms(newRand(2), n*n), make([]float32, n*n)
			for threads := 1; threads <= runtime.GOMAXPROCS(0); threads++ {
				b.Run(fmt.Sprintf("level=%d/%d/threads=%d", l, n, threads), func(b *testing.B) {
					var cpu, wall []float64
					product := func() float64 {
						GemmNT(y, n, x, n, F32Weights(w, n), n, n, n, 0, workers(threads))
						return 2 * float64(n) * float64(n) * float64(n)
					}
					atLevel(l, func() {
						product()
						for b.Loop() {
							p, q := rate(func() float64 { return Peak(threads, workers(threads)) }), rate(product)
							cpu, wall = append(cpu, 100*q.cpu/p.cpu), append(wall, 100*q.wall/p.wall)
						}
					})
					b.ReportMetric(median(cpu), "%cpu-peak")
					b.ReportMetric(median(wall), "%peak")
				})
			}
		}
	}
}
