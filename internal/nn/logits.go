package nn

import (
	"math"

	"modelpress/internal/device"
	"modelpress/internal/num"
)

// Logits are the logits [Rows, V] of some rows where the output head has left them, valid during the call that they are given to. What
// is asked of them is computed on the device where the host cannot address its memory and the device takes losses; else on the host.
type Logits struct {
	Rows int

	v      int
	dev    device.Device
	buf    device.Buf
	room   *[]float32 // for a copy on the host
	host   []float32  // nil until it is asked for
	edited bool
}

// Floats returns the logits [Rows, V] on the host, a copy where it cannot address them. They must not be changed.
func (l *Logits) Floats() []float32 {
	n := l.Rows * l.v
	switch {
	case l.host != nil:
	case l.dev.Host(l.buf) != nil:
		l.host = l.dev.Host(l.buf)[:n]
	default:
		if len(*l.room) < n {
			*l.room = make([]float32, n)
		}
		l.host = (*l.room)[:n]
		l.dev.Download(l.host, l.buf, 0)
	}
	return l.host
}

// Edit returns the logits on the host to be replaced by a gradient by them.
func (l *Logits) Edit() []float32 {
	l.edited = true
	return l.Floats()
}

// losses returns the device where it takes losses that the host would need a copy of the logits for; else nil.
func (l *Logits) losses() device.Losses {
	if l.host != nil || l.dev.Host(l.buf) != nil {
		return nil
	}
	d, _ := l.dev.(device.Losses)
	return d
}

// row returns the logits of row i on the host.
func (l *Logits) row(i int) []float32 { return l.host[i*l.v : (i+1)*l.v] }

// Scores compares rows with the tokens that follow: nll[i] = -log p(targets[i]) in nats, and top[i] is the token with the largest logit, of
// equal ones the first. Targets must lie within the vocabulary; nil stands for the likeliest tokens.
func (l *Logits) Scores(nll []float64, top []int32, targets []int32) {
	if d := l.losses(); d != nil {
		d.Scores(nll[:l.Rows], top, l.buf, targets, l.v)
		return
	}
	l.Floats()
	l.dev.For(l.Rows, func(i int) {
		row := l.row(i)
		top[i] = int32(argMax(row))
		target := top[i]
		if targets != nil {
			target = targets[i]
		}
		nll[i] = num.LogSumExp(row) - float64(row[target])
	})
}

// Divergences sets kl[i] to KL(softmax(ref) ‖ softmax(l)) of row i, in nats.
func (l *Logits) Divergences(kl []float64, ref *Logits) {
	if d := l.losses(); d != nil && ref.losses() == d {
		d.Divergences(kl[:l.Rows], ref.buf, l.buf, l.v)
		return
	}
	l.Floats()
	ref.Floats()
	l.dev.For(l.Rows, func(i int) { kl[i] = divergence(ref.row(i), l.row(i)) })
}

// LogitLoss replaces the logits by a gradient as [device.Losses] says, teacher and targets nil for none. It reports false, and does
// nothing, where the host has to do it.
func (l *Logits) LogitLoss(kl, ce []float64, teacher *Logits, targets []int32, w device.LogitWeights) bool {
	d := l.losses()
	switch {
	case d == nil:
		return false
	case teacher == nil:
		d.LogitLoss(kl[:l.Rows], ce, l.buf, nil, targets, l.v, w)
	case teacher.losses() != d:
		return false
	default:
		d.LogitLoss(kl[:l.Rows], ce, l.buf, teacher.buf, targets, l.v, w)
	}
	return true
}

// TopK fills in what [device.Losses] says of the likeliest tokens of len(rest) rows. It reports false, and does nothing, where the host has to
// do it.
func (l *Logits) TopK(ids []int32, logs, rest []float32, k int, scale float32) bool {
	d := l.losses()
	if d != nil {
		d.TopK(ids, logs, rest, l.buf, l.v, k, scale)
	}
	return d != nil
}

// TopKLoss is LogitLoss for a teacher of whom that is known.
func (l *Logits) TopKLoss(kl, ce []float64, ids []int32, logs, rest []float32, targets []int32, w device.LogitWeights) bool {
	d := l.losses()
	if d != nil {
		d.TopKLoss(kl[:l.Rows], ce, l.buf, ids, logs, rest, targets, l.v, w)
	}
	return d != nil
}

// Keep makes l a copy of o on the same device, which stays until Free.
func (l *Logits) Keep(o *Logits) error {
	n := o.Rows * o.v
	if l.buf != nil && (l.dev != o.dev || l.buf.Len() < n) {
		l.Free()
	}
	if l.buf == nil {
		b, err := o.dev.Alloc(device.F32, n)
		if err != nil {
			return err
		}
		*l = Logits{dev: o.dev, buf: b, room: new([]float32)}
	}
	l.Rows, l.v, l.host = o.Rows, o.v, nil
	o.dev.Copy(l.buf, 0, o.buf, 0, n)
	return nil
}

// Free gives back the memory of what was kept.
func (l *Logits) Free() {
	if l.buf != nil {
		l.buf.Free()
	}
	*l = Logits{}
}

// divergence is KL(softmax(p) ‖ softmax(q)) = Σ p*(log p - log q), in nats.
func divergence(p, q []float32) float64 {
	lp, lq, kl := num.LogSumExp(p), num.LogSumExp(q), 0.0
	for i, v := range p {
		log := float64(v) - lp
		kl += float64(math.Exp(log) * (log - (float64(q[i]) - lq)))
	}
	return kl
}

// argMax returns the first index of the largest value.
func argMax(x []float32) int {
	best := 0
	for i, v := range x {
		if v > x[best] {
			best = i
		}
	}
	return best
}
