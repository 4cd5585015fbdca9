package calib

import (
	"fmt"

	"modelpress/internal/device"
)

// Accumulator adds the Hessian of a linear layer up where its inputs are: on a device that is a device.Quantizer, else on the host, by a
// Gram. Memory is that of a Gram, there or here.
type Accumulator struct {
	n    int
	dev  device.Device
	host *Gram       // nil on a device
	gram device.Gram // nil on the host

	tokens float64
	copied []float32 // rows of a device that the host cannot address and that is no Quantizer
}

// NewAccumulator returns an empty one of width n. It fails for want of device memory only.
func NewAccumulator(dev device.Device, n int) (*Accumulator, error) {
	a := &Accumulator{n: n, dev: dev}
	q, ok := dev.(device.Quantizer)
	if !ok {
		a.host = NewGram(n)
		return a, nil
	}
	var err error
	if a.gram, err = q.NewGram(n); err != nil {
		return nil, fmt.Errorf("calib: second moment of width %d: %w", n, err)
	}
	return a, nil
}

// Add adds rows of x, a buffer that begins with [rows, n], with weights w, nil for all ones.
func (a *Accumulator) Add(x device.Buf, rows int, w []float32) {
	if a.gram != nil {
		if w != nil {
			w = w[:rows]
		}
		a.gram.Add(x, rows, w)
		a.tokens += float64(rows)
		return
	}
	values := a.dev.Host(x)
	if values == nil {
		if len(a.copied) < rows*a.n {
			a.copied = make([]float32, rows*a.n)
		}
		values = a.copied[:rows*a.n]
		a.dev.Download(values, x, 0)
	}
	a.host.Add(values, rows, w, a.dev.For)
}

// Hessian returns 2/Tokens times the sums, all zero where nothing was added. The Accumulator is empty afterwards and must not be used.
func (a *Accumulator) Hessian() *Hessian {
	h := &Hessian{N: a.n, gram: a.gram}
	if a.gram == nil {
		h.host = a.host.Hessian()
	} else if a.tokens > 0 {
		a.gram.Finish(2 / a.tokens)
	} else {
		a.gram.Finish(0)
	}
	*a = Accumulator{}
	return h
}

// Joined is Hessian of the sums of several, one after the other, on the device of the first. They are empty afterwards and must not be used.
func Joined(list []*Accumulator) *Hessian {
	if len(list) == 1 {
		return list[0].Hessian()
	}
	first := list[0]
	total := NewGram(first.n)
	part := make([]float64, len(total.H))
	for _, a := range list {
		h := part
		if a.gram == nil {
			h = a.host.H
			total.Tokens += a.host.Tokens
		} else {
			a.gram.Finish(1)
			a.gram.Download(h)
			total.Tokens += a.tokens
		}
		for i := range first.n {
			row := total.H[i*first.n:][:i+1]
			for j, v := range h[i*first.n:][:i+1] {
				row[j] += v
			}
		}
	}
	for _, a := range list[1:] {
		a.Free()
	}
	h := &Hessian{N: first.n, gram: first.gram, host: total.Hessian()}
	if h.gram != nil {
		h.gram.Upload(h.host)
		h.host = nil
	}
	*first = Accumulator{}
	return h
}

// Free gives the memory of an Accumulator back that was not made a Hessian.
func (a *Accumulator) Free() {
	if a.gram != nil {
		a.gram.Free()
	}
	*a = Accumulator{}
}
