package distill

import (
	"fmt"
	"math"

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
	if l.KL == 0 {
		teacher = nil
	}
	if l.CE == 0 {
		targets = nil
	}
	if logits.LogitLoss(b.kl, b.ce, teacher, targets, l.weights(b)) {
		return b.end()
	}
	var t []float32
	if teacher != nil {
		t = teacher.Floats()
	}
	return l.Apply(logits.Edit(), t, targets, logits.Rows, v, dev.For)
}

// weights are the factors of a batch.
func (l LogitLoss) weights(b *batch) device.LogitWeights {
	tau := l.temperature()
	return device.LogitWeights{Scale: float32(1 / tau), KL: float32(b.klWeight / tau), CE: float32(b.ceWeight)}
}

// ApplyTopKLogits is [LogitLoss.ApplyTopK] on logits where the output head has left them.
func (l LogitLoss) ApplyTopKLogits(logits *nn.Logits, top *TopK, from int, targets []int32, v int, dev device.Device) (LogitSums, error) {
	rows, k := logits.Rows, top.K
	if err := l.checkTopK(top, from, rows, v); err != nil {
		return LogitSums{}, err
	}
	b, err := l.begin(targets, rows, v)
	if err != nil {
		return LogitSums{}, err
	}
	next := targets
	if l.CE == 0 {
		next = nil
	}
	if logits.TopKLoss(b.kl, b.ce, top.IDs[from*k:][:rows*k], top.Log[from*k:][:rows*k], top.Rest[from:][:rows], next, l.weights(b)) {
		return b.end()
	}
	return l.ApplyTopK(logits.Edit(), top, from, targets, rows, v, dev.For)
}

// SelectLogits is [TopK.Select] on logits where the output head has left them.
func (t *TopK) SelectLogits(logits *nn.Logits, v, k int, temperature float64, dev device.Device) error {
	t.begin(logits.Rows, v, k, temperature)
	if !logits.TopK(t.IDs, t.Log, t.Rest, k, float32(1/temperature)) {
		return t.Select(logits.Floats(), logits.Rows, v, k, temperature, dev.For)
	}
	for i := range t.Rest {
		if math.IsNaN(float64(t.Log[i*k])) {
			return fmt.Errorf("distill: top %d of row %d: %w", k, i, ErrNotFinite)
		}
	}
	return nil
}
