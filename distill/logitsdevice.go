package distill

import (
	"modelpress/internal/device"
	"modelpress/internal/nn"
)

// ApplyLogits is [LogitLoss.Apply] on logits where the output head has left them: on a device that takes losses in a memory of its own,
// which has bits of its own, else on the host. teacher may be nil where KL is 0.
func (l LogitLoss) ApplyLogits(logits, teacher *nn.Logits, targets []int32, v int, dev device.Device) (LogitSums, error) {
	b, err := l.begin(targets, logits.Rows, v)
	if err != nil {
		return LogitSums{}, err
	}
	tau := l.temperature()
	w := device.LogitWeights{Scale: float32(1 / tau), KL: float32(b.klWeight / tau), CE: float32(b.ceWeight)}
	if l.KL == 0 {
		teacher = nil
	}
	if l.CE == 0 {
		targets = nil
	}
	if logits.LogitLoss(b.kl, b.ce, teacher, targets, w) {
		return b.end()
	}
	var t []float32
	if teacher != nil {
		t = teacher.Floats()
	}
	return l.Apply(logits.Edit(), t, targets, logits.Rows, v, dev.For)
}
