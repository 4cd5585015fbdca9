package devicetest

import (
	"fmt"
	"math"
	"testing"

	"modelpress/internal/device"
)

// normCase is rows of normal values around an offset, with means over the number over of channels.
type normCase struct {
	rows, d int
	over    float32
	masked  bool // the channels j with j%3 == 1 are zero, in w and b too
	offset  float32
}

func normCases(offset float32) []normCase {
	var all []normCase
	for _, z := range [][2]int{{1, 1}, {5, 7}, {3, 64}, {100, 257}, {2, 1023}, {3, 1100}} {
		rows, d := z[0], z[1]
		all = append(all, normCase{rows, d, float32(d), false, offset})
		if d > 1 {
			all = append(all, normCase{rows, d, float32(d - (d+1)/3), true, offset})
		}
	}
	return append(all, normCase{4, 64, 60.5, false, 0})
}

func (c normCase) String() string {
	return fmt.Sprintf("%dx%d over %v, offset %v", c.rows, c.d, c.over, c.offset)
}

// values draws values of rows of width d, with zeros in masked channels.
func (c normCase) values(rows int, offset float32, seed uint64) []float32 {
	v := values(rows*c.d, seed)
	for i := range v {
		v[i] += offset
		if c.masked && i%c.d%3 == 1 {
			v[i] = 0
		}
	}
	return v
}

// normalized is a row less its mean, where centre is set, times r = 1/sqrt(var+eps).
func (c normCase) normalized(x []float32, eps float64, centre bool) (n []float64, r float64) {
	over, mean, sq := float64(c.over), 0.0, 0.0
	for _, v := range x {
		sq += float64(v) * float64(v) / over
		if centre {
			mean += float64(v) / over
		}
	}
	r = 1 / math.Sqrt(sq-mean*mean+eps)
	n = make([]float64, c.d)
	for j, v := range x {
		n[j] = (float64(v) - mean) * r
	}
	return n, r
}

// rmsNorm: y = x / sqrt(Σx²/over+eps) * w, also in place.
func (s *suite) rmsNorm(t *testing.T) {
	const eps = 1e-5
	for _, c := range normCases(0) {
		rows, d := c.rows, c.d
		x, xs := s.buf(t, device.F32, append(c.values(rows, c.offset, 9), guard))
		w, ws := s.buf(t, device.F32, c.values(1, 0, 10))
		var want []float64
		for i := range rows {
			n, _ := c.normalized(xs[i*d:(i+1)*d], eps, false)
			for j, v := range n {
				want = append(want, v*float64(ws[j]))
			}
		}
		y := s.out(t, rows*d)
		s.d.RMSNorm(y, x, w, rows, d, c.over, eps)
		near(t, fmt.Sprint("RMSNorm ", c), s.result(t, y, rows*d), want, 2e-6)
		s.d.RMSNorm(x, x, w, rows, d, c.over, eps)
		near(t, fmt.Sprint("RMSNorm in place ", c), s.result(t, x, rows*d), want, 2e-6)
	}
}

// layerNorm: y = (x-mean)/sqrt(var+eps)*w + b, also in place and far from zero.
func (s *suite) layerNorm(t *testing.T) {
	const eps = 1e-5
	for _, c := range normCases(30) {
		rows, d := c.rows, c.d
		x, xs := s.buf(t, device.F32, append(c.values(rows, c.offset, 11), guard))
		w, ws := s.buf(t, device.F32, c.values(1, 0, 12))
		b, bs := s.buf(t, device.F32, c.values(1, 0, 13))
		var want []float64
		for i := range rows {
			n, _ := c.normalized(xs[i*d:(i+1)*d], eps, true)
			for j, v := range n {
				want = append(want, v*float64(ws[j])+float64(bs[j]))
			}
		}
		y := s.out(t, rows*d)
		s.d.LayerNorm(y, x, w, b, rows, d, c.over, eps)
		near(t, fmt.Sprint("LayerNorm ", c), s.result(t, y, rows*d), want, 2e-5)
		s.d.LayerNorm(x, x, w, b, rows, d, c.over, eps)
		near(t, fmt.Sprint("LayerNorm in place ", c), s.result(t, x, rows*d), want, 2e-5)
	}
}

// normBack: the gradients by the input of both norms, also in place of the gradient by the output.
func (s *suite) normBack(t *testing.T) {
	const eps = 1e-5
	for _, c := range normCases(1) {
		rows, d := c.rows, c.d
		x, xs := s.buf(t, device.F32, c.values(rows, c.offset, 53))
		w, ws := s.buf(t, device.F32, c.values(1, 0, 54))
		for _, centre := range []bool{false, true} {
			op := s.d.RMSNormBack
			if centre {
				op = s.d.LayerNormBack
			}
			dy, gs := s.buf(t, device.F32, append(values(rows*d, 55), guard))
			want := make([]float64, 0, rows*d)
			for i := range rows {
				want = append(want, c.slopes(xs[i*d:(i+1)*d], gs[i*d:(i+1)*d], ws, eps, centre)...)
			}
			dx := s.out(t, rows*d)
			op(dx, dy, x, w, rows, d, c.over, eps)
			near(t, fmt.Sprint("norm ", c, centre), s.result(t, dx, rows*d), want, 5e-6)
			op(dy, dy, x, w, rows, d, c.over, eps)
			near(t, fmt.Sprint("norm in place ", c, centre), s.result(t, dy, rows*d), want, 5e-6)
		}
	}
}

// slopes multiplies a row of gradients by the matrix of derivatives of what normalized gives, entry by entry.
func (c normCase) slopes(x, dy, w []float32, eps float64, centre bool) []float64 {
	n, r := c.normalized(x, eps, centre)
	out := make([]float64, c.d)
	for j := range c.d {
		for k := range c.d {
			e := -n[j] * n[k] * r / float64(c.over)
			if j == k {
				e += r
			}
			if centre {
				e -= r / float64(c.over)
			}
			out[k] += float64(dy[j]) * float64(w[j]) * e
		}
	}
	return out
}

// normGrad: the gradients by the gain and the bias of both norms, added to what is there.
func (s *suite) normGrad(t *testing.T) {
	const eps = 1e-5
	for _, c := range normCases(1) {
		rows, d := c.rows, c.d
		x, xs := s.buf(t, device.F32, c.values(rows, c.offset, 63))
		dy, gs := s.buf(t, device.F32, values(rows*d, 64))
		for _, centre := range []bool{false, true} {
			dw, start := s.buf(t, device.F32, append(values(d, 65), guard))
			db, _ := s.buf(t, device.F32, append(values(d, 65), guard))
			gain, bias := make([]float64, d), make([]float64, d)
			for j, v := range start[:d] {
				gain[j], bias[j] = float64(v), float64(v)
			}
			for i := range rows {
				n, _ := c.normalized(xs[i*d:(i+1)*d], eps, centre)
				for j, v := range n {
					gain[j] += float64(gs[i*d+j]) * v
					bias[j] += float64(gs[i*d+j])
				}
			}
			if centre {
				s.d.LayerNormGrad(dw, db, dy, x, rows, d, c.over, eps)
				near(t, fmt.Sprint("bias ", c), s.result(t, db, d), bias, 5e-6)
			} else {
				s.d.RMSNormGrad(dw, dy, x, rows, d, c.over, eps)
			}
			near(t, fmt.Sprint("gain ", c, centre), s.result(t, dw, d), gain, 5e-6)
		}
	}
}

// wideNorms runs the norms on rows as wide as those of large models: x as a matrix [rows, 1600].
func (s *suite) wideNorms(t *testing.T, x device.Buf) (all []float32) {
	t.Helper()
	const d = 1600
	rows := x.Len() / d
	w, _ := s.buf(t, device.F32, values(d, 29))
	y, gain, bias := s.out(t, rows*d), s.out(t, d), s.out(t, d)
	s.d.RMSNorm(y, x, w, rows, d, d, 1e-5)
	s.d.LayerNorm(y, y, w, w, rows, d, d-0.5, 1e-5)
	s.d.RMSNormBack(y, y, x, w, rows, d, d, 1e-5)
	s.d.LayerNormBack(y, y, x, w, rows, d, d, 1e-5)
	s.d.RMSNormGrad(gain, y, x, rows, d, d, 1e-5)
	s.d.LayerNormGrad(gain, bias, y, x, rows, d, d, 1e-5)
	for _, b := range []device.Buf{y, gain, bias} {
		all = append(all, s.read(b)...)
	}
	return all
}
