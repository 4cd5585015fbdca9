package pipeline

import (
	"fmt"

	"modelpress/calib"
	"modelpress/formats"
	"modelpress/internal/arch"
	"modelpress/internal/device"
	"modelpress/internal/nn"
	"modelpress/quantize"
)

// quantized is a matrix as it was quantized.
type quantized struct {
	*quantize.Matrix
	quantize.Report
	error float64      // relative, as the report of the run has it
	put   func() error // puts the dequantized values in the place of the weight
	free  func()       // gives back what put has not used
}

// onHost quantizes a projection on the host.
func (z *quantizer) onHost(b *nn.Block, r arch.Role, hessian *calib.Hessian) (*quantized, error) {
	lin, par := b.Arch().Linears[r], z.dev.For
	w, err := b.Weight(r)
	if err != nil {
		return nil, err
	}
	q := &quantized{free: func() {}}
	var h []float64
	if hessian == nil {
		q.Matrix, err = quantize.RTN(w, lin.Out, lin.In, z.d.scheme(), z.d.scales(), par)
	} else {
		h = hessian.Values()
		q.Matrix, q.Report, err = quantize.GPTQ(w, lin.Out, lin.In, h, z.d.scheme(), z.d.scales(), par)
	}
	if err != nil {
		return nil, formats.Errorf("model", lin.Weight, "%w", err)
	}
	deq := make([]float32, len(w))
	q.Dequantize(deq, par)
	switch {
	case h == nil:
		q.error = relativeError(w, deq)
	case q.FellBack:
		q.error = quantize.RelativeOutputError(w, deq, lin.Out, lin.In, h, par)
	case q.OutputError > 0:
		q.error = q.OutputError / quantize.OutputEnergy(w, lin.Out, lin.In, h, par)
	}
	q.put = func() error { return b.SetWeight(r, deq, z.d.scales()) }
	return q, nil
}

// onDevice quantizes a projection where it is: codes alone come to the host.
func (z *quantizer) onDevice(b *nn.Block, r arch.Role, h *calib.Hessian) (*quantized, error) {
	lin, dev := b.Arch().Linears[r], z.dev.(device.Quantizer)
	w, err := b.WeightBuf(r)
	if err != nil {
		return nil, err
	}
	b.Model().MakeRoom(matrixBytes(lin.Out, lin.In))
	deq, err := b.Model().Alloc(nn.KindOf(z.d.scales()), lin.Out*lin.In)
	if err != nil {
		return nil, fmt.Errorf("pipeline: %s: %w", lin.Weight, err)
	}
	q := &quantized{free: deq.Free}
	if h == nil {
		q.Matrix, err = quantize.RTNOnDevice(dev, deq, w, lin.Out, lin.In, z.d.scheme(), z.d.scales())
	} else {
		q.Matrix, q.Report, err = quantize.GPTQOnDevice(dev, deq, w, lin.Out, h, z.d.scheme(), z.d.scales())
	}
	if err != nil {
		q.free()
		return nil, formats.Errorf("model", lin.Weight, "%w", err)
	}
	switch {
	case h == nil:
		if far, size := dev.Distance(w, deq, lin.Out, lin.In); size > 0 {
			q.error = far / size
		}
	case q.FellBack:
		q.error = relativeEnergy(h, w, deq, lin.Out)
	case q.OutputError > 0:
		q.error = q.OutputError / h.Gram().Energy(w, nil, lin.Out)
	}
	q.put = func() error {
		q.free = func() {}
		return b.SetWeightBuf(r, deq)
	}
	return q, nil
}

// relativeEnergy is quantize.RelativeOutputError of q in place of w, both on the device that the Hessian is on.
func relativeEnergy(h *calib.Hessian, w, q device.Buf, out int) float64 {
	y := h.Gram().Energy(w, nil, out)
	if y == 0 {
		return 0
	}
	return h.Gram().Energy(w, q, out) / y
}

// relativeError is ‖W−Ŵ‖²/‖W‖², 0 for a matrix of zeros.
func relativeError(w, deq []float32) float64 {
	var num, den float64
	for i, v := range w {
		d := float64(v) - float64(deq[i])
		num += float64(d * d)
		den += float64(float64(v) * float64(v))
	}
	if den == 0 {
		return 0
	}
	return num / den
}
