package num

import (
	"fmt"
	"runtime"
	"testing"
)

// bench runs f in the loop of a benchmark and reports GFLOP/s by the clock and per second of processor time, for f of
// flops operations.
func bench(b *testing.B, flops float64, f func()) {
	cpu := cpuSeconds()
	for b.Loop() {
		f()
	}
	cpu = cpuSeconds() - cpu
	flops *= float64(b.N) / 1e9
	b.ReportMetric(flops/b.Elapsed().Seconds(), "GFLOP/s")
	if cpu > 0 {
		b.ReportMetric(flops/cpu, "GFLOP/cpu-s")
	}
}

func BenchmarkGemmNT(b *testing.B) {
	for _, s := range [][3]int{{64, 2048, 2048}, {256, 2048, 2048}, {1024, 1024, 1024}, {2048, 2048, 2048}} {
		m, n, k := s[0], s[1], s[2]
		x, w, y := randoms(newRand(1), m*k), randoms(newRand(2), n*k), make([]float32, m*n)
		h := make([]uint16, n*k)
		F32ToBF16(h, w)
		for name, w := range map[string]Weights{"f32": F32Weights(w, k), "bf16": {U16: h, BF16: true, LD: k}} {
			for threads := 1; threads <= runtime.GOMAXPROCS(0); threads++ {
				b.Run(fmt.Sprintf("%dx%dx%d/%s/threads=%d", m, n, k, name, threads), func(b *testing.B) {
					par := workers(threads)
					bench(b, 2*float64(m)*float64(n)*float64(k), func() { GemmNT(y, n, x, k, w, m, n, k, 0, par) })
				})
			}
		}
	}
}

// Products on bfloat16 with the weights packed beforehand; packing of weights alone, in values.
func BenchmarkGemmPacked(b *testing.B) {
	for _, s := range [][3]int{{64, 2048, 2048}, {1024, 1024, 1024}, {2048, 2048, 2048}} {
		m, n, k := s[0], s[1], s[2]
		x, w, y := randoms(newRand(1), m*k), randoms(newRand(2), n*k), make([]float32, m*n)
		h := make([]uint16, n*k)
		F32ToBF16(h, w)
		packed := PackBF16(Weights{U16: h, BF16: true, LD: k}, n, k, nil)
		for threads := 1; threads <= runtime.GOMAXPROCS(0); threads++ {
			par := workers(threads)
			b.Run(fmt.Sprintf("%dx%dx%d/threads=%d", m, n, k, threads), func(b *testing.B) {
				bench(b, 2*float64(m)*float64(n)*float64(k), func() { GemmPacked(y, n, x, k, packed, m, 0, par) })
			})
		}
		b.Run(fmt.Sprintf("%dx%dx%d/pack", m, n, k), func(b *testing.B) {
			bench(b, float64(n)*float64(k), func() { PackBF16(Weights{U16: h, BF16: true, LD: k}, n, k, nil) })
		})
		b.Run(fmt.Sprintf("%dx%dx%d/packf32", m, n, k), func(b *testing.B) {
			bench(b, float64(n)*float64(k), func() { PackBF16(F32Weights(w, k), n, k, nil) })
		})
	}
}

// The micro-kernel alone, from the first-level cache: what the processor can do.
func BenchmarkMicro(b *testing.B) {
	a, c := make([]float32, maxMR*blockK), make([]float32, maxMR*maxNR)
	w := make([]float32, maxNR*blockK)
	bench(b, 2000*float64(kernel32.mr*kernel32.nr*blockK), func() {
		for range 1000 {
			kernel32.run(c, kernel32.nr, a, w, blockK, true)
		}
	})
}

// Second moments and plain products by turns: "%gemm" is the rate of the one, counted as the half that is computed, in
// percent of the other's, the median of neighbours.
func BenchmarkSyrkLower(b *testing.B) {
	for _, s := range [][2]int{{512, 576}, {512, 2048}, {2048, 2048}, {2048, 4096}, {1024, 11008}} {
		m, k := s[0], s[1]
		x, c := randoms(newRand(1), m*k), make([]float64, k*k)
		scale := x[:m]
		for threads := 1; threads <= runtime.GOMAXPROCS(0); threads++ {
			b.Run(fmt.Sprintf("%dx%d/threads=%d", m, k, threads), func(b *testing.B) {
				par := workers(threads)
				w, y := randoms(newRand(2), 2048*2048), make([]float32, 2048*2048)
				var cpu, wall []float64
				for b.Loop() {
					p := rate(func() float64 {
						GemmNT(y, 2048, w, 2048, F32Weights(w, 2048), 2048, 2048, 2048, 0, par)
						return 2 * 2048 * 2048 * 2048
					})
					q := rate(func() float64 {
						SyrkLower(c, x, k, scale, m, k, par)
						return float64(m) * float64(k) * float64(k)
					})
					cpu, wall = append(cpu, 100*q.cpu/p.cpu), append(wall, 100*q.wall/p.wall)
				}
				b.ReportMetric(median(cpu), "%cpu-gemm")
				b.ReportMetric(median(wall), "%gemm")
			})
		}
	}
}

func BenchmarkCholesky(b *testing.B) {
	for _, n := range []int{1024, 4096} {
		a := positive(1, n)
		c := make([]float64, n*n)
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			bench(b, float64(n)*float64(n)*float64(n)/3, func() {
				copy(c, a)
				if err := Cholesky(c, n, workers(2)); err != nil {
					b.Fatal(err)
				}
			})
		})
		b.Run(fmt.Sprint("UpperMixed/", n), func(b *testing.B) {
			bench(b, float64(n)*float64(n)*float64(n)/3, func() {
				copy(c, a)
				if err := CholeskyUpperMixed(c, n, workers(2)); err != nil {
					b.Fatal(err)
				}
			})
		})
		b.Run(fmt.Sprint("Upper/", n), func(b *testing.B) {
			bench(b, float64(n)*float64(n)*float64(n)/3, func() {
				copy(c, a)
				if err := CholeskyUpper(c, n, workers(2)); err != nil {
					b.Fatal(err)
				}
			})
		})
	}
}

func BenchmarkAttentionHead(b *testing.B) {
	for _, t := range []int{512, 2048} {
		for _, recent := range []int{0, 256} {
			h := randomHead(1, t, 64, 0)
			h.Sink, h.Recent = 16, recent
			out, lse := make([]float32, t*64), make([]float32, t)
			b.Run(fmt.Sprintf("T=%d/recent=%d", t, recent), func(b *testing.B) {
				bench(b, 2*float64(t)*float64(t)*64, func() { AttentionHead(out, 64, lse, h, 0, t) })
			})
			b.Run(fmt.Sprintf("sums/T=%d/recent=%d", t, recent), func(b *testing.B) {
				bench(b, float64(t)*float64(t)*64, func() { AttentionColumnSums(out[:t], lse, h, 0, t) })
			})
		}
	}
}

// Here an operation is a value.
func BenchmarkElementwise(b *testing.B) {
	const n = 1 << 14
	x, y, u := randoms(newRand(1), n), make([]float32, n), randoms(newRand(2), n)
	m, v, step := make([]float32, n), make([]float32, n), AdamWStep{LR: 1e-3, Beta1: 0.9, Beta2: 0.95, Eps: 1e-8, GradScale: 1, Step: 1}
	for name, f := range map[string]func(){
		"Exp32":    func() { Exp32(y, x) },
		"Softmax":  func() { Softmax(y, x) },
		"Dot":      func() { Dot(x, u) },
		"Axpy":     func() { Axpy(y, 1e-9, u) },
		"SiLUMul":  func() { SiLUMul(y, x, u, n, nil) },
		"GELU":     func() { GELU(y, x, n, true, nil) },
		"RMSNorm":  func() { RMSNorm(y, x, u, 8, n/8, n/8, 1e-5, nil) },
		"Hadamard": func() { Hadamard32(y) },
		"Squares":  func() { SumSquares(x, nil) },
		"AdamW":    func() { AdamW(y, x, m, v, step, nil) },
	} {
		b.Run(name, func(b *testing.B) {
			bench(b, n, f)
		})
	}
}
