package heads

import (
	"modelpress/internal/device"
	"modelpress/internal/nn"
)

// reader returns the device where it has queries and keys in a memory of its own and reads off attention there, else nil: then they are
// read on the host.
func (r rows) reader() device.AttnReader {
	if r.DevQ == nil || r.Dev.Host(r.DevQ) != nil {
		return nil
	}
	d, _ := r.Dev.(device.AttnReader)
	return d
}

// masses returns the attention in spans, [H, len(ends)]; see [device.AttnReader].
func (r rows) masses(d device.AttnReader, spans []device.AttnSpan, ends ...int) []float64 {
	out := make([]float64, r.Shape.H*len(ends))
	d.AttnMass(out, spans, ends, r.DevQ, r.DevK, r.DevLSE, r.Shape, r.Masks)
	return out
}

func span(i, lo, hi int) device.AttnSpan {
	return device.AttnSpan{Row: int32(i), Lo: int32(lo), Hi: int32(hi)}
}

// weightRows calls each with the rows lo to hi-1 of attention, [H, hi-lo, T], some at a time, ascending. They take 256 MiB, or one row
// of every head.
func (r rows) weightRows(d device.AttnReader, lo, hi int, each func(lo, hi int, a []float32)) {
	s := r.Shape
	most := min(hi-lo, max(1, (64<<20)/(s.H*s.T)))
	var a []float32
	for ; lo < hi; lo += most {
		n := min(most, hi-lo)
		list := make([]int, n)
		for i := range list {
			list[i] = lo + i
		}
		if a == nil {
			a = make([]float32, s.H*n*s.T)
		}
		d.AttnRows(a, list, r.DevQ, r.DevK, r.DevLSE, s, r.Masks)
		each(lo, lo+n, a[:s.H*n*s.T])
	}
}

// tops returns the most attended key of each of the rows lo to hi-1, [H, hi-lo].
func (r rows) tops(lo, hi int) []int {
	st := device.AttnStats{ArgMax: make([]int, r.Shape.H*(hi-lo))}
	for i := lo; i < hi; i++ {
		st.Rows = append(st.Rows, i)
	}
	r.Dev.AttnStatistics(&st, r.DevQ, r.DevK, nil, nil, nil, r.DevLSE, r.Shape, r.Masks)
	return st.ArgMax
}

// upload copies values to a buffer of the device.
func upload(dev device.Device, x []float32) (device.Buf, error) {
	b, err := dev.Alloc(device.F32, len(x))
	if err != nil {
		return nil, err
	}
	dev.Upload(b, 0, x)
	return b, nil
}

// freeAll gives back those of the buffers that there are.
func freeAll(bufs ...device.Buf) {
	for _, b := range bufs {
		if b != nil {
			b.Free()
		}
	}
}

// onDevice is a copy of what a layer's attention is made from and has made, put back on the device.
func (r rows) onDevice(parts nn.AttnPart) (q, k, v, out, lse device.Buf, err error) {
	for _, p := range []struct {
		part nn.AttnPart
		to   *device.Buf
		x    []float32
	}{{nn.Queries, &q, r.Q}, {nn.Keys, &k, r.K}, {nn.Values, &v, r.V}, {nn.Outputs, &out, r.Out}, {nn.LSE, &lse, r.LSE}} {
		if parts&p.part == 0 {
			continue
		}
		if *p.to, err = upload(r.Dev, p.x); err != nil {
			freeAll(q, k, v, out, lse)
			return nil, nil, nil, nil, nil, err
		}
	}
	return q, k, v, out, lse, nil
}
