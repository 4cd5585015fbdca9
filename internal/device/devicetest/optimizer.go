package devicetest

import (
	"math"
	"math/rand/v2"
	"testing"

	"modelpress/formats"
	"modelpress/internal/device"
	"modelpress/internal/num"
)

// optimizer: AdamW over several steps with the bits of the host's, also of parts that begin anywhere, and sums of squares.
func (s *suite) optimizer(t *testing.T) {
	d, ok := s.d.(device.Optimizer)
	if !ok {
		t.Skip("the device has no optimizer")
	}
	for _, n := range []int{1, 3, 4, 1000, 4099} {
		for _, at := range []int{0, 1} {
			s.adamW(t, d, n, at)
			s.adamWHalf(t, d, n, at)
		}
	}
	for _, n := range []int{0, 1, 1000, 65536, 200003} {
		x, xs := s.buf(t, device.F32, append(values(n, 110), 1e9))
		want := 0.0
		for _, v := range xs[:n] {
			want += float64(v) * float64(v)
		}
		if got := d.SumSquares(x, n); math.Abs(got-want) > 1e-13*want {
			t.Errorf("Σx² of %d values: %v, want %v", n, got, want)
		}
	}
}

// gradients of a step: of ordinary size, tiny and zero.
func gradients(n, step int) []float32 {
	g := values(n, 111+uint64(step))
	for i := range g {
		switch i % 7 {
		case 3:
			g[i] *= 1e-30
		case 5:
			g[i] = 0
		}
	}
	return g
}

func stepOf(step int) num.AdamWStep {
	return num.AdamWStep{LR: 1e-3 / float64(step), Beta1: 0.9, Beta2: 0.95, Eps: 1e-8, Decay: 0.1, GradScale: 0.7, Step: step}
}

func (s *suite) adamW(t *testing.T, d device.Optimizer, n, at int) {
	t.Helper()
	p, m, v := values(n, 112), make([]float32, n), make([]float32, n)
	part := func(v []float32) (device.Buf, device.Buf) {
		b, _ := s.buf(t, device.F32, append(append(make([]float32, at), v...), guard))
		return b, s.d.Slice(b, at, n)
	}
	pb, pd := part(p)
	mb, md := part(m)
	vb, vd := part(v)
	for step := 1; step <= 3; step++ {
		g := gradients(n, step)
		_, gd := part(g)
		d.AdamW(pd, gd, md, vd, n, stepOf(step))
		num.AdamW(p, g, m, v, stepOf(step), nil)
	}
	same(t, s.result(t, pb, at+n)[at:], p)
	same(t, s.result(t, mb, at+n)[at:], m)
	same(t, s.result(t, vb, at+n)[at:], v)
}

// adamWHalf checks parameters in bfloat16: moved in f32, then cut off after a random number is added.
func (s *suite) adamWHalf(t *testing.T, d device.Optimizer, n, at int) {
	t.Helper()
	b, all := s.buf(t, device.BF16, append(append(make([]float32, at), values(n, 113)...), guard))
	p := append([]float32(nil), all[at:at+n]...)
	md, m := s.buf(t, device.F32, make([]float32, n))
	vd, v := s.buf(t, device.F32, make([]float32, n))
	rng := rand.New(rand.NewPCG(1, 2))
	for step := 1; step <= 3; step++ {
		g, draws := gradients(n, step), rng.Uint64()
		gd, _ := s.buf(t, device.F32, g)
		d.AdamWHalf(s.d.Slice(b, at, n), gd, md, vd, n, stepOf(step), draws)
		num.AdamW(p, g, m, v, stepOf(step), nil)
		for i, x := range p {
			draw := uint32(splitMix(draws+uint64(i/4)*0x9e3779b97f4a7c15)>>(16*(i%4))) & 0xffff
			p[i] = formats.BF16ToF32(uint16((math.Float32bits(x) + draw) >> 16))
		}
	}
	got := s.read(b)
	same(t, got[at:at+n], p)
	same(t, got[at+n:], all[at+n:])
	same(t, s.read(md), m)
	same(t, s.read(vd), v)
}

// splitMix is the output function of splitmix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014).
func splitMix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// sampler: multipliers of masks, drawn by the method of Box and Muller.
func (s *suite) sampler(t *testing.T) {
	d, ok := s.d.(device.Sampler)
	if !ok {
		t.Skip("the device draws no masks")
	}
	for _, n := range []int{1, 2, 7, 5001} {
		mu, ms := s.buf(t, device.F32, values(n, 114))
		logD, ls := s.buf(t, device.F32, values(n, 115))
		eps, z := s.out(t, n), s.out(t, n)
		const key = 0xfedcba9876543210
		d.SampleMasks(eps, z, mu, logD, key, n)
		wantEps, wantZ := make([]float64, n), make([]float64, n)
		for i := range n {
			bits := splitMix(key + uint64(i/2))
			u, v := (float64(bits>>32)+0.5)/(1<<32), (float64(bits&0xffffffff)+0.5)/(1<<32)
			r := math.Sqrt(-2 * math.Log(u))
			if i%2 == 0 {
				wantEps[i] = r * math.Cos(2*math.Pi*v)
			} else {
				wantEps[i] = r * math.Sin(2*math.Pi*v)
			}
			wantZ[i] = float64(ms[i]) + wantEps[i]*math.Exp(float64(ls[i])/2)
		}
		near(t, "noise", s.result(t, eps, n), wantEps, 1e-7)
		near(t, "multipliers", s.result(t, z, n), wantZ, 3e-7)
	}
}
