package sparse

import (
	"fmt"
	"math"

	"modelpress/calib"
	"modelpress/formats"
	"modelpress/internal/device"
)

// OnDevice reports whether SparseGPTOnDevice takes the pattern: groups have 32 inputs or fewer there, and a power of two.
func (s Scheme) OnDevice() bool { return s.M == 0 || s.M <= 32 && s.M&(s.M-1) == 0 }

// SparseGPTOnDevice is SparseGPT for w [out, h.N], of any kind, and a Hessian in the memory of a device, which are not changed. dst, of the
// kind of store, gets the result. It differs from that of SparseGPT where sums in another order, or a factor that is all in f64, break a tie
// the other way. Where there is no factor, w comes to the host.
//
// Memory on the device beside w, dst and the Hessian, which is factored in place: 4*out*(n+2*Block) bytes, 4*Block*(n+Block) of the
// factor, and some vectors.
func SparseGPTOnDevice(dev device.Quantizer, dst, w device.Buf, out int, h *calib.Hessian, s Scheme, store formats.DType) (Report, error) {
	n := h.N
	if err := checkScheme(out, n, s, store); err != nil {
		return Report{}, err
	}
	if i := dev.NotFinite(w, out, n); i >= 0 {
		var v [1]float32
		dev.Download(v[:], w, i)
		return Report{}, notFinite(i/n, i%n, v[0])
	}
	if err := checkBlock(s); err != nil {
		return Report{}, err
	}
	f, err := h.FactorOnDevice(s.Damp, false)
	if err != nil {
		return Report{}, fmt.Errorf("sparse: %w", err)
	}
	rep, reason := Report{Damp: f.Damp, Retries: f.Retries, DeadColumns: f.DeadColumns}, f.Reason
	if reason == "" {
		var moved float64
		rep.Loss, moved = h.Gram().SparseGPT(dst, w, out, device.Sparsity{Stay: s.N, Group: s.M, Zeros: s.of, Block: s.Block})
		rep.OutputError = max(0, rep.Loss-rep.Damp*moved)
		if !math.IsNaN(rep.Loss) && !math.IsInf(rep.Loss, 0) {
			return rep, nil
		}
		reason = overflowed
	}
	host := make([]float32, out*n)
	dev.Download(host, w, 0)
	q, rep, err := instead(host, out, f, s, store, reason, dev.For)
	if err != nil {
		return Report{}, err
	}
	dev.Upload(dst, 0, q)
	return rep, nil
}
