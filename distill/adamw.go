package distill

import (
	"fmt"
	"math"
	"sync"

	"modelpress/internal/device"
	"modelpress/internal/num"
)

// AdamW holds the settings of the optimizer of Loshchilov and Hutter (arXiv:1711.05101), as num.AdamW computes it. Matrices
// decay, gains and biases do not.
type AdamW struct {
	Beta1, Beta2, Eps, Decay float64
}

// DefaultAdamW returns betas of 0.9 and 0.95, an epsilon of 1e-8 and no decay.
func DefaultAdamW() AdamW { return AdamW{Beta1: 0.9, Beta2: 0.95, Eps: 1e-8} }

// Check returns an error where the settings are out of range.
func (a AdamW) Check() error {
	switch {
	case !(a.Beta1 >= 0 && a.Beta1 < 1 && a.Beta2 >= 0 && a.Beta2 < 1):
		return fmt.Errorf("distill: AdamW: betas %g and %g are not within [0, 1)", a.Beta1, a.Beta2)
	case !(a.Eps > 0) || math.IsInf(a.Eps, 0):
		return fmt.Errorf("distill: AdamW: epsilon %g", a.Eps)
	case !(a.Decay >= 0) || math.IsInf(a.Decay, 0):
		return fmt.Errorf("distill: AdamW: decay %g", a.Decay)
	}
	return nil
}

// Optimizer moves parameters by AdamW and holds the moments of their gradients in f32.
//
// Memory: 8 bytes a value that is trained, and 64 KiB a thread for master copies in bfloat16.
type Optimizer struct {
	settings AdamW
	seed     uint64 // of the rounding of master copies in bfloat16
	params   []*Param
	m, v     [][]float32
	step     int64 // steps begun
}

// NewOptimizer returns an optimizer of the parameters before its first step. seed is that of the rounding of master copies in
// bfloat16.
func NewOptimizer(params []*Param, settings AdamW, seed uint64) (*Optimizer, error) {
	if err := settings.Check(); err != nil {
		return nil, err
	}
	o := &Optimizer{settings: settings, seed: seed, params: params}
	for _, q := range params {
		o.m, o.v = append(o.m, make([]float32, q.Len())), append(o.v, make([]float32, q.Len()))
	}
	return o, nil
}

// Params returns the parameters that are trained, in their order. The slice is not to be changed.
func (o *Optimizer) Params() []*Param { return o.params }

// Steps returns the number of steps begun.
func (o *Optimizer) Steps() int64 { return o.step }

// Moments returns the memory of the first and second moments of parameter i.
func (o *Optimizer) Moments(i int) (m, v []float32) {
	o.params[i].pull(true)
	return o.m[i], o.v[i]
}

// Step moves all parameters against their gradients, one slice for each, at the rate lr; scale multiplies the gradients first
// ([ClipScale]). A parameter whose gradient is nil stays, and so do its moments.
func (o *Optimizer) Step(grads [][]float32, lr, scale float64, par num.Par) {
	if len(grads) != len(o.params) {
		panic(fmt.Sprintf("distill: gradients of %d parameters, %d are trained", len(grads), len(o.params)))
	}
	o.Begin()
	for i, g := range grads {
		if g != nil {
			o.Update(i, g, lr, scale, par)
		}
	}
}

// move is Step with gradients wherever they are. Those on a device go to the parameters there; for others they are copied, one at a time.
func (o *Optimizer) move(grads []gradient, lr, scale float64, dev device.Device) {
	o.Begin()
	var room []float32
	for i, g := range grads {
		switch q := o.params[i]; {
		case g.host != nil:
			o.Update(i, g.host, lr, scale, dev.For)
		case g.buf != nil && q.home != nil:
			q.home.move(q, g.buf, o.settingsOf(q, lr, scale), NewRounding(o.seed, o.step, i))
		case g.buf != nil:
			room = sized(room, q.Len())
			dev.Download(room, g.buf, 0)
			o.Update(i, room, lr, scale, dev.For)
		}
	}
}

// Begin begins a step, in which each parameter may be moved once by [Optimizer.Update], in any order.
func (o *Optimizer) Begin() { o.step++ }

// Update moves parameter i in the step begun last.
func (o *Optimizer) Update(i int, grad []float32, lr, scale float64, par num.Par) {
	q := o.params[i]
	if len(grad) != q.Len() {
		panic(fmt.Sprintf("distill: gradient of %d values for the %d of %s", len(grad), q.Len(), q.Name))
	}
	s := o.settingsOf(q, lr, scale)
	if q.Half == nil {
		num.AdamW(q.Values, grad, o.m[i], o.v[i], s, par)
		return
	}
	round := NewRounding(o.seed, o.step, i)
	each(par, (q.Len()+serveValues-1)/serveValues, func(c int) {
		lo := c * serveValues
		hi := min(lo+serveValues, q.Len())
		buf := halfChunks.Get().(*[serveValues]float32)
		defer halfChunks.Put(buf)
		p := buf[:hi-lo]
		q.Read(p, lo)
		num.AdamW(p, grad[lo:hi], o.m[i][lo:hi], o.v[i][lo:hi], s, nil)
		round.Store(q.Half[lo:hi], p, lo)
	})
}

// settingsOf are those of the step begun last.
func (o *Optimizer) settingsOf(q *Param, lr, scale float64) num.AdamWStep {
	s := num.AdamWStep{LR: lr, Beta1: o.settings.Beta1, Beta2: o.settings.Beta2, Eps: o.settings.Eps, GradScale: scale, Step: int(o.step)}
	if q.Matrix {
		s.Decay = o.settings.Decay
	}
	return s
}

// halfChunks holds runs of bfloat16 values in f32 while they are moved.
var halfChunks = sync.Pool{New: func() any { return new([serveValues]float32) }}
