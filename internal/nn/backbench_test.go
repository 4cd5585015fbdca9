package nn

import (
	"context"
	"fmt"
	"syscall"
	"testing"

	"modelpress/formats"
	"modelpress/internal/device/cpu"
	"modelpress/internal/testmodel"
)

// trainShapes are those of the example model and of the small models that comparisons train.
var trainShapes = []struct {
	name     string
	o        testmodel.Options
	batch, t int
}{
	{"example", testmodel.Options{Layers: 6, D: 256, H: 8, K: 32, F: 768, V: 1024, Context: 512, DType: formats.F32}, 8, 512},
	{"small", testmodel.Options{Layers: 4, D: 128, H: 4, G: 2, K: 32, F: 384, V: 1024, Context: 128, DType: formats.F32}, 8, 128},
}

// BenchmarkBack: forward and backward pass with all gradients over the batch of a step.
func BenchmarkBack(b *testing.B) {
	for _, s := range trainShapes {
		for _, threads := range []int{1, 2} {
			b.Run(fmt.Sprintf("%s/%d", s.name, threads), func(b *testing.B) {
				m := describe(b, testmodel.New(s.o), cpu.New(threads))
				var grads []*BlockGrads
				for l := range m.Arch.Layers {
					g, err := m.NewBlockGrads(l)
					if err != nil {
						b.Fatal(err)
					}
					grads = append(grads, g)
				}
				head, err := m.NewHeadGrads()
				if err != nil {
					b.Fatal(err)
				}
				windows := testmodel.Windows(s.batch, s.t, s.o.V, 1)
				b.ReportAllocs()
				c := cpuSeconds()
				for b.Loop() {
					opt := BackOptions{Keep: 1 << 30, Grads: func(l int) *BlockGrads { return grads[l] }, Grad: func(int, int, []float32) error { return nil }}
					err := m.Back(context.Background(), windows, opt, func(w int, hidden, grad []float32) error {
						n := s.t - 1
						return m.HeadLogitsGrad(grad[:n*s.o.D], hidden, n, 128, head, func(row0 int, l *Logits) error {
							_, err := m.crossEntropy(0, l, windows[w][1:][row0:row0+l.Rows])
							return err
						})
					})
					if err != nil {
						b.Fatal(err)
					}
				}
				tokens := float64(b.N * s.batch * s.t)
				b.ReportMetric(tokens/b.Elapsed().Seconds(), "tok/s")
				b.ReportMetric(tokens/(cpuSeconds()-c), "tok/cpu-s")
			})
		}
	}
}

func cpuSeconds() float64 {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return float64(u.Utime.Sec+u.Stime.Sec) + float64(u.Utime.Usec+u.Stime.Usec)/1e6
}
