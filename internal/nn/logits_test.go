package nn

import (
	"math"
	"math/rand/v2"
	"testing"

	"modelpress/internal/device"
	"modelpress/internal/device/cpu"
	"modelpress/internal/device/devicetest"
	"modelpress/internal/num"
	"modelpress/internal/testmodel"
)

// hiddenRows draws n values of hidden states.
func hiddenRows(n int) []float32 {
	rng := rand.New(rand.NewPCG(9, uint64(n)))
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(rng.NormFloat64())
	}
	return x
}

// TestHeadBackOnTheDevice: a device that takes losses gives the loss and its gradient without showing a logit.
func TestHeadBackOnTheDevice(t *testing.T) {
	for _, name := range []string{"llama-gqa", "gpt2"} {
		host := describe(t, testmodel.Named(name), cpu.New(2))
		dev := devicetest.Learner{Remote: devicetest.NewRemote(cpu.New(2), 1<<30)}
		m := describe(t, testmodel.Named(name), dev)
		const n = 11
		d := m.Arch.D
		x, want, got := hiddenRows(n*d), make([]float32, n*d), make([]float32, n*d)
		targets := make([]int32, n)
		for i := range targets {
			targets[i] = int32(i * 7 % m.Arch.V)
		}
		loss, err := host.HeadBack(want, x, targets, 4)
		if err != nil {
			t.Fatal(err)
		}
		again, err := m.HeadBack(got, x, targets, 4)
		if err != nil || math.Abs(again-loss) > 1e-6*loss {
			t.Errorf("%s: cross entropy %v, want %v, %v", name, again, loss, err)
		}
		if diff := maxDiff(t, got, want); diff > 1e-5 {
			t.Errorf("%s: gradients differ by %g", name, diff)
		}
		if down := dev.Traffic().Down; down != 4*n*int64(d) {
			t.Errorf("%s: %d bytes came down, want the gradient alone, %d", name, down, 4*n*d)
		}
		if _, err := m.HeadBack(got, x, targets, n); err != nil {
			t.Error(err)
		}
		x[3] = float32(math.Inf(1))
		if _, err := m.HeadBack(nil, x, targets, 2); err == nil {
			t.Errorf("%s: a loss that is not finite is accepted", name)
		}
	}
}

// TestLogitsKept: what is kept outlives the call, and what is edited becomes the gradient.
func TestLogitsKept(t *testing.T) {
	for _, dev := range []device.Device{cpu.New(2), devicetest.NewRemote(cpu.New(1), 1<<30), devicetest.Learner{Remote: devicetest.NewRemote(cpu.New(1), 1<<30)}} {
		m := describe(t, testmodel.Named("llama-gqa"), dev)
		const n = 6
		d, v := m.Arch.D, m.Arch.V
		x, targets := hiddenRows(n*d), []int32{1, 2, 3, 4, 5, 6}
		var kept Logits
		nll, top := make([]float64, n), make([]int32, n)
		err := m.HeadLogits(x, n, n, func(row0 int, l *Logits) error {
			l.Scores(nll, top, targets)
			return kept.Keep(l)
		})
		if err != nil {
			t.Fatal(err)
		}
		var all []float32
		if err := m.Head(x, n, 4, func(_, _ int, logits []float32) error { all = append(all, logits...); return nil }); err != nil {
			t.Fatal(err)
		}
		if diff := maxDiff(t, kept.Floats(), all); kept.Rows != n || diff != 0 {
			t.Errorf("%T: %d rows are kept, different by %g", dev, kept.Rows, diff)
		}
		for i, target := range targets {
			row := all[i*v : (i+1)*v]
			if want := num.LogSumExp(row) - float64(row[target]); math.Abs(nll[i]-want) > 1e-6 || int(top[i]) != argMax(row) {
				t.Errorf("%T: row %d: %v and token %d, want %v and %d", dev, i, nll[i], top[i], want, argMax(row))
			}
		}
		kl := make([]float64, n)
		kept.Divergences(kl, &kept)
		for _, k := range kl {
			if k != 0 {
				t.Errorf("%T: divergence %v from itself", dev, k)
			}
		}
		kept.Free()
		want, got := make([]float32, n*d), make([]float32, n*d)
		half := func(logits []float32) {
			for i := range logits {
				logits[i] /= 2
			}
		}
		if err := m.HeadGrad(want, x, n, 4, nil, func(_, _ int, logits []float32) error { half(logits); return nil }); err != nil {
			t.Fatal(err)
		}
		if err := m.HeadLogitsGrad(got, x, n, n, nil, func(_ int, l *Logits) error { half(l.Edit()); return nil }); err != nil || maxDiff(t, got, want) > 1e-6 {
			t.Errorf("%T: gradients of edited logits differ by %g, %v", dev, maxDiff(t, got, want), err)
		}
	}
}
