package distill

import (
	"sync"

	"modelpress/internal/device"
	"modelpress/internal/nn"
	"modelpress/internal/num"
)

// residence is the memory of a device that a parameter and its moments lie in while they are trained there: matrices that the device alone
// reads. The host has copies, which are brought up to date when they are looked at.
//
// Memory: on the device 12 bytes a value, 10 with a master copy in bfloat16, beside what the host has anyhow.
type residence struct {
	dev     device.Device
	trains  device.Optimizer // dev
	p, m, v device.Buf
	moments [2][]float32 // the host's copies

	mu              sync.Mutex
	old, oldMoments bool // the host's copies are older than what the device has
}

// settle moves a parameter and its moments to a device.
func (q *Param) settle(dev device.Device, trains device.Optimizer, m, v []float32) error {
	r := &residence{dev: dev, trains: trains, moments: [2][]float32{m, v}}
	kind := device.F32
	if q.Half != nil {
		kind = device.BF16
	}
	for _, b := range []struct {
		buf  *device.Buf
		kind device.Kind
	}{{&r.p, kind}, {&r.m, device.F32}, {&r.v, device.F32}} {
		var err error
		if *b.buf, err = dev.Alloc(b.kind, q.Len()); err != nil {
			r.free()
			return err
		}
	}
	q.home = r
	q.push()
	return nil
}

func (r *residence) free() {
	for _, b := range []device.Buf{r.p, r.m, r.v} {
		if b != nil {
			b.Free()
		}
	}
}

// push gives the device what the host has.
func (q *Param) push() {
	r := q.home
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	q.each(func(lo, hi int, buf []float32) {
		q.copyOut(buf, lo)
		r.dev.Upload(r.p, lo, buf)
	})
	r.dev.Upload(r.m, 0, r.moments[0])
	r.dev.Upload(r.v, 0, r.moments[1])
	r.old, r.oldMoments = false, false
}

// pull brings the host's copy of the parameter up to date, and where moments is set that of its moments.
func (q *Param) pull(moments bool) {
	r := q.home
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.old {
		q.each(func(lo, hi int, buf []float32) {
			r.dev.Download(buf, r.p, lo)
			q.copyIn(buf, lo)
		})
		r.old = false
	}
	if moments && r.oldMoments {
		r.dev.Download(r.moments[0], r.m, 0)
		r.dev.Download(r.moments[1], r.v, 0)
		r.oldMoments = false
	}
}

// leave ends the stay on the device: what it has is on the host.
func (q *Param) leave() {
	if q.home == nil {
		return
	}
	q.pull(true)
	q.home.free()
	q.home = nil
}

// each calls f for runs of the parameter's values, with room for them.
func (q *Param) each(f func(lo, hi int, buf []float32)) {
	const run = 1 << 20
	buf := make([]float32, min(run, q.Len()))
	for lo := 0; lo < q.Len(); lo += run {
		hi := min(lo+run, q.Len())
		f(lo, hi, buf[:hi-lo])
	}
}

// move moves the parameter on its device against a gradient there.
func (r *residence) move(q *Param, grad device.Buf, s num.AdamWStep, round Rounding) {
	if q.Half == nil {
		r.trains.AdamW(r.p, grad, r.m, r.v, q.Len(), s)
	} else {
		r.trains.AdamWHalf(r.p, grad, r.m, r.v, q.Len(), s, uint64(round.draws))
	}
	r.mu.Lock()
	r.old, r.oldMoments = true, true
	r.mu.Unlock()
}

var _ nn.Held = (*Params)(nil)

// Buffer implements [nn.Held].
func (p *Params) Buffer(name string, dev device.Device) device.Buf {
	if q := p.byName[name]; q != nil && q.home != nil && q.home.dev == dev {
		return q.home.p
	}
	return nil
}

// settle moves parameters, in their order, to the device of the gradients as far as their memory is within room bytes, and those alone that
// the device reads and sums the gradient of by itself. What is computed does not depend on how many.
func (o *Optimizer) settle(dev device.Device, grads []device.Buf, room int64) {
	trains := dev.(device.Optimizer)
	for i, q := range o.params[:len(grads)] {
		bytes := int64(q.Len()) * int64(8+q.DType().Size())
		if grads[i] == nil || !q.Matrix || q.Part != Projection && q.Part != Head || bytes > room {
			continue
		}
		if err := q.settle(dev, trains, o.m[i], o.v[i]); err != nil {
			return // there is less than it seemed: the others stay
		}
		room -= bytes
	}
}

// leave brings all parameters back to the host.
func (o *Optimizer) leave() {
	for _, q := range o.params {
		q.leave()
	}
}
