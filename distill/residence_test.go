package distill

import (
	"math"
	"path/filepath"
	"slices"
	"testing"

	"modelpress/internal/device/cpu"
	"modelpress/internal/device/devicetest"
	"modelpress/internal/nn"
	"modelpress/internal/testmodel"
)

// onHost returns gradients of a device whose memory the host addresses.
func onHost(list []gradient) (out [][]float32) {
	for _, g := range list {
		out = append(out, g.host)
	}
	return out
}

// remoteRun is a run on a device with so much memory of its own.
func remoteRun(t *testing.T, family int, half bool, budget int64, steps int) (*Trainer, devicetest.Learner) {
	t.Helper()
	o := trainModels()[family].Options
	src := testmodel.New(o)
	p := newTestParams(t, src, described(t, src.Config, src), half)
	dev := devicetest.Learner{Remote: devicetest.NewRemote(cpu.New(2), budget)}
	r := newRun(nn.New(dev, p, p.Arch), p, steps)
	r.Options.AdamW = AdamW{Beta1: 0.9, Beta2: 0.95, Eps: 1e-8, Decay: 0.1}
	return r, dev
}

// values returns all parameters and moments of a run.
func (t *Trainer) values() (all []float32) {
	for i, q := range t.optimizer.Params() {
		v := make([]float32, q.Len())
		q.Read(v, 0)
		m, w := t.optimizer.Moments(i)
		all = append(append(append(all, v...), m...), w...)
	}
	return all
}

func settled(r *Trainer) (n int) {
	for _, q := range r.optimizer.Params() {
		if q.home != nil {
			n++
		}
	}
	return n
}

// What is trained on a device has the bits that it has where the device holds the gradients alone, whether all, some or no parameters fit.
func TestTrainingOnTheDevice(t *testing.T) {
	for _, c := range []struct {
		family int
		half   bool
	}{{1, false}, {2, false}, {5, false}, {1, true}} {
		var want []float32
		var moved int64
		counts := []int{}
		for _, budget := range []int64{1 << 30, 0, -1} {
			r, dev := remoteRun(t, c.family, c.half, 1<<30, 5)
			if budget <= 0 { // as much as the run needs without parameters, and a part of them
				if err := r.prepare(); err != nil {
					t.Fatal(err)
				}
				r.optimizer.leave()
				grads := r.sink.(*fullSink).bufs
				if budget == 0 {
					r.optimizer.settle(dev, grads, 12*700)
				}
			}
			train(t, r)
			counts = append(counts, settled(r))
			got := r.values()
			if want == nil {
				want, moved = got, dev.Traffic().Up
			} else if dev.Traffic().Up <= moved {
				t.Errorf("model %d: %d bytes went up, %d with all parameters there", c.family, dev.Traffic().Up, moved)
			}
			if !sameBits(got, want) {
				t.Fatalf("model %d: %v parameters on the device have other bits", c.family, counts)
			}
			before := slices.Clone(r.Params.List()[1].copy())
			r.Release()
			r.Model.Release()
			if !sameBits(r.Params.List()[1].copy(), before) || settled(r) != 0 {
				t.Error("what was trained is not on the host")
			}
			if used := dev.Traffic().Used; used != 0 {
				t.Errorf("%d bytes of the device stay in use", used)
			}
			if _, err := r.Step(t.Context()); err == nil {
				t.Error("a released run goes on")
			}
		}
		if counts[0] <= counts[1] || counts[1] == 0 || counts[2] != 0 {
			t.Errorf("model %d: %v parameters on the device", c.family, counts)
		}
	}
}

func (q *Param) copy() []float32 {
	v := make([]float32, q.Len())
	q.Read(v, 0)
	return v
}

// A run on a device is that on the host but for the bits of losses and norms; a device without room trains on the host.
func TestTrainingOnTheDeviceIsTheHosts(t *testing.T) {
	r, _ := remoteRun(t, 1, false, 1<<30, 6)
	m, p := student(t, trainModels()[1].Options, 2)
	host := newRun(m, p, 6)
	host.Options.AdamW = r.Options.AdamW
	a, b := train(t, r), train(t, host)
	for i := range a {
		if math.Abs(a[i].Loss-b[i].Loss) > 1e-4*b[i].Loss || math.Abs(a[i].Norm-b[i].Norm) > 1e-3*b[i].Norm {
			t.Errorf("step %d: loss %v and norm %v, on the host %v and %v", i, a[i].Loss, a[i].Norm, b[i].Loss, b[i].Norm)
		}
	}
	if settled(r) == 0 {
		t.Error("nothing is trained on the device")
	}
}

// A run that is interrupted on the device and resumed there, or where it has no room, goes on as if nothing had been.
func TestResumeOnTheDevice(t *testing.T) {
	for _, half := range []bool{false, true} {
		whole, _ := remoteRun(t, 1, half, 1<<30, 6)
		whole.Options.Evaluate, whole.Options.KeepBest = 2, true
		train(t, whole)
		path := filepath.Join(t.TempDir(), "state")
		first, _ := remoteRun(t, 1, half, 1<<30, 6)
		first.Options.Evaluate, first.Options.KeepBest = 2, true
		if err := first.TrainTo(t.Context(), 3); err != nil {
			t.Fatal(err)
		}
		if err := first.Save(path); err != nil {
			t.Fatal(err)
		}
		for _, room := range []bool{true, false} {
			second, _ := remoteRun(t, 1, half, 1<<30, 6)
			second.Options.Evaluate, second.Options.KeepBest = 2, true
			if err := second.prepare(); err != nil {
				t.Fatal(err)
			}
			if !room {
				second.optimizer.leave()
			}
			if err := second.Resume(path); err != nil {
				t.Fatal(err)
			}
			train(t, second)
			if !sameBits(second.values(), whole.values()) {
				t.Errorf("half %t, room %t: the resumed run ends elsewhere", half, room)
			}
		}
	}
}
