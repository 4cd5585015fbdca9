package quantize

import (
	"errors"
	"fmt"

	"modelpress/calib"
	"modelpress/formats"
	"modelpress/internal/device"
)

// RTNOnDevice is RTN for w [out, in], of any kind, in the memory of a device. dst, of the kind of store, gets what Dequantize gives;
// dst nil is left out. It gives the codes of RTN.
func RTNOnDevice(dev device.Quantizer, dst, w device.Buf, out, in int, s Scheme, store formats.DType) (*Matrix, error) {
	if err := checkOnDevice(dev, w, out, in, s, store); err != nil {
		return nil, err
	}
	r, err := dev.RTN(dst, w, out, in, s.rounding(in, store))
	if err != nil {
		return nil, gridError(err)
	}
	return matrixOf(r, out, in, s, store), nil
}

// GPTQOnDevice is GPTQ for w [out, h.N], of any kind, and a Hessian in the memory of a device, which are not changed. dst, of the kind of
// store, gets what Dequantize gives; dst nil is left out. Codes are those of GPTQ but where sums in another order, or a factor
// that is all in f64, break a tie the other way.
//
// Memory on the device beside w, dst and the Hessian, which is factored in place: out*n bytes for the codes, 4*out*(n+256) for
// weights, 4*256*(n+256) for the factor, and some vectors.
func GPTQOnDevice(dev device.Quantizer, dst, w device.Buf, out int, h *calib.Hessian, s Scheme, store formats.DType) (*Matrix, Report, error) {
	if err := checkOnDevice(dev, w, out, h.N, s, store); err != nil {
		return nil, Report{}, err
	}
	f, err := h.FactorOnDevice(s.Damp, s.ActOrder)
	if err != nil {
		return nil, Report{}, fmt.Errorf("quantize: %w", err)
	}
	rep, reason := Report{Damp: f.Damp, Retries: f.Retries, DeadColumns: f.DeadColumns}, f.Reason
	if reason == "" {
		r, err := h.Gram().GPTQ(dst, w, out, relative(f.Diag), s.rounding(h.N, store))
		if err != nil {
			return nil, Report{}, gridError(err)
		}
		if finite(r.Loss) {
			rep.Loss, rep.OutputError = r.Loss, max(0, r.Loss-rep.Damp*r.Moved)
			return matrixOf(r, out, h.N, s, store), rep, nil
		}
		reason = overflowed
	}
	m, err := RTNOnDevice(dev, dst, w, out, h.N, s, store)
	return m, Report{DeadColumns: rep.DeadColumns, Retries: rep.Retries, FellBack: true, Reason: reason}, err
}

// checkOnDevice is check for weights on a device.
func checkOnDevice(dev device.Quantizer, w device.Buf, out, in int, s Scheme, store formats.DType) error {
	if err := s.check(out, in, store); err != nil {
		return err
	}
	if w.Len() < out*in {
		panic(fmt.Sprintf("quantize: %d weights for [%d, %d]", w.Len(), out, in))
	}
	i := dev.NotFinite(w, out, in)
	if i < 0 {
		return nil
	}
	var v [1]float32
	dev.Download(v[:], w, i)
	return notFiniteWeight(i/in, i%in, v[0])
}

// rounding is the scheme in the terms of a device, for rows of in columns.
func (s Scheme) rounding(in int, store formats.DType) device.Rounding {
	kind := map[formats.DType]device.Kind{formats.F32: device.F32, formats.BF16: device.BF16, formats.F16: device.F16}[store]
	return device.Rounding{Bits: s.Bits, Group: s.width(in), Symmetric: s.Symmetric, Clip: s.Clip, Static: s.ActOrder || s.Group == -1, Store: kind}
}

// matrixOf returns what a device has rounded.
func matrixOf(r *device.Rounded, out, in int, s Scheme, store formats.DType) *Matrix {
	return &Matrix{Out: out, In: in, Scheme: s, Store: store, Codes: r.Codes, Scales: r.Scales, Zeros: r.Zeros}
}

// gridError is the error of a device as rowError has it.
func gridError(err error) error {
	var e *device.GridError
	if errors.As(err, &e) {
		return fmt.Errorf("quantize: %w", e)
	}
	return err
}
