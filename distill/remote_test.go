package distill

import (
	"errors"
	"math"
	"path/filepath"
	"slices"
	"testing"

	"modelpress/internal/device/cpu"
	"modelpress/internal/device/devicetest"
	"modelpress/internal/nn"
)

// A device that takes losses gives those of logits, and the steps of a run, without showing the logits.
func TestLogitLossOnTheDevice(t *testing.T) {
	c := trainModels()[1]
	for name, o := range map[string]Objective{"ce": {CE: 1}, "kl": {KL: 1}, "kl, ce at tau 2.5": {KL: 0.7, CE: 0.4, Temperature: 2.5}} {
		run := func(dev *devicetest.Learner) Report {
			m, p := student(t, c.Options, 2)
			teacher := frozen(t, c.Options, 2)
			if dev != nil {
				m, teacher = nn.New(dev, p, p.Arch), nn.New(dev, teacher.Src, teacher.Arch)
			}
			for _, q := range p.List() { // away from the teacher
				for i := range q.Values {
					q.Values[i] *= 1.1
				}
			}
			r := newRun(m, p, 3)
			r.Objective = o
			if o.KL != 0 {
				r.Objective.Teacher = teacher
			}
			reports := train(t, r)
			return reports[len(reports)-1]
		}
		dev := &devicetest.Learner{Remote: devicetest.NewRemote(cpu.New(2), 1<<30)}
		want, got := run(nil), run(dev)
		if math.Abs(got.Loss-want.Loss) > 1e-5*want.Loss || math.Abs(got.Norm-want.Norm) > 1e-4*want.Norm {
			t.Errorf("%s: loss %v and norm %v, want %v and %v", name, got.Loss, got.Norm, want.Loss, want.Norm)
		}
		for i, part := range want.Parts {
			if d := math.Abs(got.Parts[i].Value - part.Value); d > 1e-5*part.Value+1e-9 {
				t.Errorf("%s: %s %v, want %v", name, part.Name, got.Parts[i].Value, part.Value)
			}
		}
		if up := dev.Traffic().Uploads; up == 0 {
			t.Error("nothing ran on the device")
		}
	}
}

// A teacher's likeliest tokens are those that the host finds, and a run by them has the losses that it has there.
func TestTopKOnTheDevice(t *testing.T) {
	o := trainModels()[1].Options
	run := func(dev *devicetest.Learner) (TopK, Report) {
		m, p := student(t, o, 2)
		teacher := frozen(t, o, 2)
		if dev != nil {
			m, teacher = nn.New(dev, p, p.Arch), nn.New(dev, teacher.Src, teacher.Arch)
		}
		for _, q := range p.List() {
			for i := range q.Values {
				q.Values[i] *= 1.1
			}
		}
		r := newRun(m, p, 3)
		path := filepath.Join(t.TempDir(), "top")
		if err := CacheTopK(t.Context(), path, teacher, r.Data, TopKOptions{K: 5, Temperature: 2}); err != nil {
			t.Fatal(err)
		}
		f, err := OpenTopK(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		var top TopK
		if err := f.Read(&top, 0, r.Data.Tokens()); err != nil {
			t.Fatal(err)
		}
		r.Objective = Objective{KL: 0.8, CE: 0.2, Temperature: 2, TopK: f}
		reports := train(t, r)
		return top, reports[len(reports)-1]
	}
	dev := &devicetest.Learner{Remote: devicetest.NewRemote(cpu.New(2), 1<<30)}
	wantTop, want := run(nil)
	top, got := run(dev)
	if !slices.Equal(top.IDs, wantTop.IDs) {
		t.Error("other tokens are the likeliest")
	}
	for i, l := range wantTop.Log {
		if math.Abs(float64(top.Log[i]-l)) > 1e-5 {
			t.Fatalf("logarithm %d is %v, want %v", i, top.Log[i], l)
		}
	}
	for i, part := range want.Parts {
		if d := math.Abs(got.Parts[i].Value - part.Value); d > 1e-5*part.Value {
			t.Errorf("%s %v, want %v", part.Name, got.Parts[i].Value, part.Value)
		}
	}
	if math.Abs(got.Norm-want.Norm) > 1e-4*want.Norm {
		t.Errorf("norm %v, want %v", got.Norm, want.Norm)
	}
	teacher := frozen(t, o, 2)
	logits := nn.New(dev, teacher.Src, teacher.Arch)
	x := make([]float32, 3*teacher.Arch.D)
	x[teacher.Arch.D] = float32(math.NaN())
	err := logits.HeadLogits(x, 3, 3, func(_ int, l *nn.Logits) error { return new(TopK).SelectLogits(l, teacher.Arch.V, 4, 1, dev) })
	if !errors.Is(err, ErrNotFinite) {
		t.Errorf("error %v of logits that are none", err)
	}
}
