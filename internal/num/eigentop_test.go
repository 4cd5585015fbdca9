package num

import (
	"fmt"
	"math"
	"testing"
)

func TestSymEigenTop(t *testing.T) {
	for _, s := range [][2]int{{1, 1}, {20, 3}, {150, 1}, {150, 2}, {300, 9}, {300, 300}} {
		n, k := s[0], s[1]
		for name, a := range symmetric(n) {
			t.Run(fmt.Sprint(name, s), func(t *testing.T) {
				for i := range n {
					for j := range i {
						a[i*n+j] = a[j*n+i]
					}
				}
				w, v := make([]float64, k), make([]float64, k*n)
				if err := SymEigenTop(w, v, a, n, k, 1e-12, workers(2)); err != nil {
					t.Fatal(err)
				}
				all, full := make([]float64, n), append([]float64(nil), a...)
				if err := SymEigen(all, full, n, nil); err != nil {
					t.Fatal(err)
				}
				norm := max(math.Abs(all[0]), math.Abs(all[n-1]), 1e-300)
				for i, x := range w {
					if math.Abs(x-all[n-1-i]) > 1e-10*norm {
						t.Fatalf("value %d is %v, want %v", i, x, all[n-1-i])
					}
					if d := Dot64(v[i*n:][:n], v[i*n:]); math.Abs(d-1) > 1e-12 {
						t.Fatalf("vector %d has length² %v", i, d)
					}
					for j := range i {
						if d := Dot64(v[i*n:][:n], v[j*n:]); math.Abs(d) > 1e-12 {
							t.Fatalf("vectors %d and %d: product %v", i, j, d)
						}
					}
					av := make([]float64, n)
					GemmNN64(av, n, v[i*n:], n, a, n, 1, n, n, 1/norm, 0, nil)
					Axpy64(av, -x/norm, v[i*n:][:n])
					if r := math.Sqrt(Dot64(av, av)); r > 2e-12 {
						t.Fatalf("residual %d is %v of the norm", i, r)
					}
				}
			})
		}
	}
}

func BenchmarkSymEigenTop(b *testing.B) {
	const n, k = 2048, 64
	x, a := randoms64(newRand(1), n*n), make([]float64, n*n)
	for i := range n {
		scale64(x[i*n:][:n], 1/math.Sqrt(float64(i+1))) // the second moment of features that decay
	}
	GemmTN64(a, n, x, n, x, n, n, n, n, 1, 0, nil)
	w, v := make([]float64, k), make([]float64, k*n)
	for name, a := range map[string][]float64{"decaying": a, "random": symmetricRandom(n)} {
		b.Run(name, func(b *testing.B) {
			cpu := cpuSeconds()
			for b.Loop() {
				if err := SymEigenTop(w, v, a, n, k, 1e-10, workers(2)); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric((cpuSeconds()-cpu)/float64(b.N), "cpu-s/op")
		})
	}
}
