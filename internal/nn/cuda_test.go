//go:build cuda

package nn

import (
	"context"
	"math"
	"os"
	"slices"
	"testing"

	"modelpress/internal/device/cpu"
	"modelpress/internal/device/cuda"
	"modelpress/internal/device/cuda/emu"
	"modelpress/internal/testmodel"
)

func TestMain(m *testing.M) { os.Exit(emu.Main(m)) }

// onGPU opens the emulated device.
func onGPU(t *testing.T) *cuda.Device {
	t.Helper()
	emu.Require(t)
	d, err := cuda.Open(cuda.Options{Threads: 2})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

// relative is the largest difference, relative to the largest value, or to small where all are smaller.
func relative(got, want []float32, small float64) float64 {
	most, diff := small, 0.0
	for i, v := range want {
		most = math.Max(most, math.Abs(float64(v)))
		diff = math.Max(diff, math.Abs(float64(got[i])-float64(v)))
	}
	return diff / most
}

// TestFamiliesOnGPU: logits, taps and states of every family are those of the CPU, but for the order of sums.
func TestFamiliesOnGPU(t *testing.T) {
	dev := onGPU(t)
	for _, c := range testmodel.Cases() {
		src := testmodel.New(c.Options)
		here, there := describe(t, src, cpu.New(2)), describe(t, src, dev)
		windows := [][]int32{testmodel.Windows(1, 21, here.Arch.V, 1)[0], testmodel.Windows(1, 21, here.Arch.V, 2)[0], testmodel.Windows(1, 5, here.Arch.V, 3)[0]}
		want, err := tapped(here, windows, false)
		if err != nil {
			t.Fatal(err)
		}
		got, err := tapped(there, windows, false)
		if err != nil {
			t.Fatal(err)
		}
		for i := range want {
			if d := relative(got[i], want[i], 1e-3); d > 1e-4 {
				t.Fatalf("%s: result %d differs by %g of its largest value", c.Name, i, d)
			}
		}
		there.Release()
	}
}

// TestGradientsOnGPU: the way back is that of the CPU, but for the order of sums, and its bits do not depend on what has room on the device.
func TestGradientsOnGPU(t *testing.T) {
	for _, c := range gradModels() {
		o := c.Options
		o.Context = 80
		src := testmodel.New(o)
		here := describe(t, src, cpu.New(2))
		windows := append(testmodel.Windows(1, 70, o.V, 5), testmodel.Windows(3, 5, o.V, 6)...)
		want := keptRun(t, here, windows, BackOptions{}, nil)
		dev := onGPU(t)
		first := keptRun(t, describe(t, src, dev), windows, BackOptions{}, nil)
		for i := range want {
			if d := relative(first[i], want[i], 0.1); d > 2e-4 {
				t.Fatalf("%s: result %d differs by %g of its largest value", c.Name, i, d)
			}
		}
		short := describe(t, src, dev)
		short.SetAside(1 << 40) // nothing but blocks and passes has room on the device
		same(t, first, keptRun(t, short, windows, BackOptions{Dir: t.TempDir(), MemLimit: 100}, nil))
	}
}

// TestTogetherOnGPU: windows have the bits alone that they have with others, and where states are taken from the host.
func TestTogetherOnGPU(t *testing.T) {
	src := testmodel.New(testmodel.Options{Layers: 3, D: 16, H: 4, G: 2, F: 32, V: 40, Context: 100, Seed: 5})
	windows := append(testmodel.Windows(5, 9, 40, 5), testmodel.Windows(2, 70, 40, 6)...)
	dev := onGPU(t)
	run := func(aside int64, opt RunOptions) (out [][]float32) {
		m := describe(t, src, dev)
		m.SetAside(aside)
		defer m.Release()
		err := m.Run(context.Background(), windows, opt, func(_ int, h []float32) error { out = append(out, slices.Clone(h)); return nil })
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	want := run(0, RunOptions{Together: 1})
	same(t, want, run(0, RunOptions{}))
	same(t, want, run(0, RunOptions{Pass: func(int, int) *Pass { return &Pass{Tap: func(Site, []float32, int, int) {}} }}))
	same(t, want, run(1<<40, RunOptions{}))
}
