package distill

import (
	"math"
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
