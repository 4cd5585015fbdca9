package calib

import (
	"fmt"

	"modelpress/internal/device"
)

// Hessian is the Hessian of the mean squared error of a linear layer by a row of its weights, where it was added up: on the host or on a
// device.
type Hessian struct {
	N    int
	host []float64   // [N, N], the half on and below the diagonal; nil as long as the device alone has it
	gram device.Gram // nil on the host

	factor     *Factor // the last one of gram
	damp       float64
	descending bool
}

// NewHessian returns the Hessian h [n, n], of which the half on and below the diagonal is read, in the memory of a device.
func NewHessian(dev device.Quantizer, h []float64, n int) (*Hessian, error) {
	g, err := dev.NewGram(n)
	if err != nil {
		return nil, fmt.Errorf("calib: Hessian of width %d: %w", n, err)
	}
	g.Upload(h)
	return &Hessian{N: n, gram: g}, nil
}

// Gram returns the Hessian on the device, nil where it is on the host.
func (h *Hessian) Gram() device.Gram { return h.gram }

// Values returns the half on and below the diagonal on the host, [N, N]; from a device it is copied at the first call, which takes 8·N²
// bytes. What lies above the diagonal may be overwritten.
func (h *Hessian) Values() []float64 {
	if h.host == nil {
		h.host = make([]float64, h.N*h.N)
		h.gram.Download(h.host)
	}
	return h.host
}

// Diagonal returns the diagonal.
func (h *Hessian) Diagonal() []float64 {
	if h.host == nil {
		return h.gram.Diagonal()
	}
	d := make([]float64, h.N)
	for i := range d {
		d[i] = h.host[i*h.N+i]
	}
	return d
}

// Free gives the memory on the device back. The Hessian must not be used after it; nil has none.
func (h *Hessian) Free() {
	if h == nil {
		return
	}
	if h.gram != nil {
		h.gram.Free()
	}
	*h = Hessian{}
}

// FactorOnDevice is CheckHessian and FactorHessian for a Hessian on a device, where the factor then is. The last one is kept, so that the
// matrices of a site share it.
func (h *Hessian) FactorOnDevice(damp float64, descending bool) (*Factor, error) {
	if h.factor != nil && h.damp == damp && h.descending == descending {
		return h.factor, nil
	}
	f := &Factor{N: h.N, Diag: h.gram.Diagonal()}
	row, col, v, found := h.gram.NotFinite()
	for i, d := range f.Diag {
		if found && i == row {
			return nil, notFiniteError(row, col, v)
		}
		if d < 0 {
			return nil, negativeError(i, d)
		}
	}
	f.search(damp, descending, func(mean float64) bool { return h.factorOnce(f, mean) })
	h.factor, h.damp, h.descending = f, damp, descending
	return f, nil
}

// factorOnce is Factor.factor on the device.
func (h *Hessian) factorOnce(f *Factor, mean float64) bool {
	var order []int32
	if f.Perm != nil {
		order = make([]int32, h.N)
		for i, c := range f.Perm {
			order[i] = int32(c)
		}
	}
	diagonal := make([]float64, h.N)
	for c := range diagonal {
		diagonal[c] = f.damped(c, mean)
	}
	return h.gram.Factor(order, diagonal, f.Dead)
}
