package num

import (
	"fmt"
	"math"
	"testing"
)

var lengths = []int{0, 1, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 300, 5000}

func TestVectors(t *testing.T) {
	rng := newRand(11)
	for _, n := range lengths {
		a0, b0 := randoms(rng, n), randoms(rng, n)
		a, oka := guarded(t, a0)
		b, okb := guarded(t, b0)
		var dot, sum float64
		top := math.Inf(-1)
		want := make([]float64, n)
		for i := range a {
			dot += float64(a[i]) * float64(b[i])
			sum += float64(a[i])
			top = max(top, float64(a[i]))
			want[i] = float64(b[i]) + 0.7*float64(a[i])
		}
		if got := Dot(a, b); math.Abs(float64(got)-dot) > 1e-5*math.Sqrt(float64(n+1)) {
			t.Errorf("Dot %d: %v, want %v", n, got, dot)
		}
		if got := Sum(a); math.Abs(float64(got)-sum) > 1e-5*math.Sqrt(float64(n+1)) {
			t.Errorf("Sum %d: %v, want %v", n, got, sum)
		}
		if got := Max(a); float64(got) != top {
			t.Errorf("Max %d: %v, want %v", n, got, top)
		}
		Axpy(b, 0.7, a)
		closeTo(t, fmt.Sprint("Axpy ", n), b, want, 1e-6)
		oka()
		okb()
	}
}

func TestAddWide(t *testing.T) {
	for _, n := range append(lengths, 256) {
		src, ok := guarded(t, randoms(newRand(uint64(n)), n))
		dst, want := randoms64(newRand(3), n+1), make([]float64, n+1)
		copy(want, dst)
		for i, v := range src {
			want[i] += float64(v)
		}
		AddWide(dst, src)
		ok()
		same(t, fmt.Sprint("AddWide ", n), dst, want)
	}
}

func TestAddOuter16(t *testing.T) {
	for _, n := range lengths {
		y0, x0, e := randoms(newRand(1), 16*n), randoms(newRand(uint64(n)), n), [16]float32(randoms(newRand(2), 16))
		y, oky := guarded(t, y0)
		x, okx := guarded(t, x0)
		want := make([]float64, 16*n)
		for i := range want {
			want[i] = float64(y0[i]) + float64(x0[i/16])*float64(e[i%16])
		}
		AddOuter16(y, x, &e)
		oky()
		okx()
		closeTo(t, fmt.Sprint("AddOuter16 ", n), y, want, 1e-6)
	}
}

func TestRoundingCost(t *testing.T) {
	g := RoundingGrid{Scale: 0.3, Inv: 1 / float32(0.3), Lo: -8, Hi: 7}
	for _, n := range append(lengths, 128, 1000) {
		w, okw := guarded(t, randoms(newRand(uint64(n)), n))
		for i := range w {
			w[i] *= 1.5 // some beyond the ends
		}
		h, okh := guarded(t, randoms(newRand(uint64(n+1)), n))
		var plain, weighted float64
		for i, v := range w {
			h[i] = max(h[i], -h[i])
			d := float64(v) - min(max(math.RoundToEven(float64(v*g.Inv)), -8), 7)*float64(g.Scale)
			loss := math.Pow(math.Abs(d), 2.5)
			plain, weighted = plain+loss, weighted+loss*float64(h[i])
		}
		a, b := RoundingCost(w, nil, &g), RoundingCost(w, h, &g)
		okw()
		okh()
		closeTo(t, fmt.Sprint("RoundingCost ", n), []float32{a, b}, []float64{plain, weighted}, 1e-5)
		same(t, fmt.Sprint("RoundingCost against plain Go ", n), []float32{a, b}, []float32{roundingCostGeneric(w, nil, &g), roundingCostGeneric(w, h, &g)})
	}
}

func TestRoundLanes(t *testing.T) {
	rng := newRand(31)
	for range 50 {
		var grids RoundingLanes
		y, z := randoms(rng, 16), [16]float64{}
		for r := range y {
			scale := rng.Float32() + 0.01
			z[r] = float64(rng.IntN(8) - 4)
			grids.Set(r, &RoundingGrid{scale, 1 / scale, float32(-8 - z[r]), float32(7 - z[r])})
			y[r] *= 3
		}
		var steps, q, plainSteps, plainQ [16]float32
		RoundLanes(&steps, &q, (*[16]float32)(y), &grids)
		roundLanesGeneric(&plainSteps, &plainQ, (*[16]float32)(y), &grids)
		if steps != plainSteps || q != plainQ {
			t.Fatalf("%v, %v; plain Go gives %v, %v", steps, q, plainSteps, plainQ)
		}
		for r, v := range y {
			want := min(max(math.RoundToEven(float64(v*grids.Inv[r])), -8-z[r]), 7-z[r])
			if float64(steps[r]) != want || q[r] != float32(want)*grids.Scale[r] {
				t.Fatalf("lane %d: %v of scale %v is step %v, value %v", r, v, grids.Scale[r], steps[r], q[r])
			}
		}
	}
}

func TestExp32(t *testing.T) {
	inf := float32(math.Inf(1))
	special := []float32{0, 1, -1, 88.7, 88.72284, 88.8, 1e30, inf, -inf, -87.3, -87.5, -100, -103.9, -104, -110, -1e30, float32(math.NaN()), 1e-30, -1e-45}
	for i := range 20000 {
		special = append(special, float32(i)/100-110)
	}
	for _, n := range append(lengths, len(special)) {
		src := special
		if n < len(special) {
			src = randoms(newRand(uint64(n)), n)
		}
		dst, ok := guarded(t, src)
		Exp32(dst, dst)
		ok()
		for i, v := range src {
			checkExp(t, v, dst[i])
		}
	}
}

// checkExp fails the test unless got is e^v within 2 units in the last place.
func checkExp(t *testing.T, v, got float32) {
	t.Helper()
	want := math.Exp(float64(v))
	ulp := math.Ldexp(1, max(math.Ilogb(want)-23, -149))
	switch {
	case v != v:
		if got == got {
			t.Fatalf("exp(NaN) = %v", got)
		}
	case want > math.MaxFloat32:
		if !math.IsInf(float64(got), 1) {
			t.Fatalf("exp(%v) = %v", v, got)
		}
	case math.Abs(float64(got)-want) > 2*ulp:
		t.Fatalf("exp(%v) = %v, want %v", v, got, want)
	}
}

func TestSoftmax(t *testing.T) {
	for _, n := range lengths[1:] {
		src := randoms(newRand(uint64(n)), n)
		src[n/2] = float32(math.Inf(-1))
		src[0] = 90
		x, ok := guarded(t, src)
		lse := Softmax(x, x)
		ok()
		want, total := make([]float64, n), 0.0
		for i, v := range src {
			want[i] = math.Exp(float64(v) - 90)
			total += want[i]
		}
		for i := range want {
			want[i] /= total
		}
		closeTo(t, fmt.Sprint("softmax ", n), x, want, 1e-6)
		closeTo(t, "lse", []float32{lse}, []float64{90 + math.Log(total)}, 1e-6)
		closeTo(t, "LogSumExp", []float64{LogSumExp(src)}, []float64{90 + math.Log(total)}, 1e-12)
	}
	hidden := []float32{float32(math.Inf(-1)), float32(math.Inf(-1))}
	if lse := Softmax(hidden, hidden); !math.IsInf(float64(lse), -1) || hidden[0] != 0 {
		t.Error("softmax of a hidden row", lse, hidden)
	}
}

func TestNorms(t *testing.T) {
	rng := newRand(12)
	for _, d := range lengths[1:] {
		const rows = 3
		x0, w, b := randoms(rng, rows*d), randoms(rng, d), randoms(rng, d)
		rms, layer := make([]float64, rows*d), make([]float64, rows*d)
		for i := range rows {
			var s, q, mean float64
			for _, v := range x0[i*d:][:d] {
				s += float64(v) * float64(v)
				mean += float64(v) / float64(d)
			}
			for _, v := range x0[i*d:][:d] {
				q += (float64(v) - mean) * (float64(v) - mean)
			}
			for j, v := range x0[i*d:][:d] {
				rms[i*d+j] = float64(v) / math.Sqrt(s/float64(d)+1e-5) * float64(w[j])
				layer[i*d+j] = (float64(v)-mean)/math.Sqrt(q/float64(d)+1e-5)*float64(w[j]) + float64(b[j])
			}
		}
		x, ok := guarded(t, x0)
		RMSNorm(x, x, w, rows, d, float32(d), 1e-5, workers(2))
		ok()
		closeTo(t, fmt.Sprint("rms ", d), x, rms, 3e-6)
		if x, ok = guarded(t, x0); d > 1 {
			LayerNorm(x, x, w, b, rows, d, float32(d), 1e-5, nil)
			ok()
			closeTo(t, fmt.Sprint("layer ", d), x, layer, 1e-5)
		}
	}
}

func TestActivations(t *testing.T) {
	rng := newRand(13)
	for _, n := range lengths {
		g0, u := randoms(rng, n), randoms(rng, n)
		for i := range g0 {
			g0[i] *= 10
		}
		if n > 8 {
			g0[3], g0[4] = -200, 200
		}
		silu, erf, tanh := make([]float64, n), make([]float64, n), make([]float64, n)
		for i, v := range g0 {
			x := float64(v)
			silu[i] = x / (1 + math.Exp(-x)) * float64(u[i])
			erf[i] = 0.5 * x * (1 + math.Erf(x/math.Sqrt2))
			tanh[i] = 0.5 * x * (1 + math.Tanh(math.Sqrt(2/math.Pi)*(x+0.044715*x*x*x)))
		}
		g, ok := guarded(t, g0)
		SiLUMul(g, g, u, n, workers(2))
		ok()
		closeTo(t, fmt.Sprint("silu ", n), g, silu, 1e-6)
		g, ok = guarded(t, g0)
		GELU(g, g, n, false, nil)
		ok()
		closeTo(t, fmt.Sprint("gelu ", n), g, erf, 1e-6)
		g, ok = guarded(t, g0)
		GELU(g, g, n, true, nil)
		ok()
		closeTo(t, fmt.Sprint("gelu tanh ", n), g, tanh, 2e-6)
	}
}

func TestHalfConversions(t *testing.T) {
	for h := range 1 << 16 {
		h := uint16(h)
		mag := h & 0x7fff
		f := f16ToF32(h)
		want := math.Ldexp(float64(mag&0x3ff), -24)
		if e := int(mag >> 10); e > 0 {
			want = math.Ldexp(float64(mag&0x3ff|0x400), e-25)
		}
		switch {
		case mag > 0x7c00:
			if f == f {
				t.Fatalf("%#x is not NaN", h)
			}
			continue
		case mag == 0x7c00:
			want = math.Inf(1)
		}
		if h&0x8000 != 0 {
			want = -want
		}
		if float64(f) != want || f32ToF16(f) != h {
			t.Fatalf("%#x: %v, want %v; back %#x", h, f, want, f32ToF16(f))
		}
		if mag < 0x7bff { // the midpoint to the next value goes to the even one
			mid := (f + f16ToF32(h+1)) / 2
			even := h + h&1
			if got := f32ToF16(mid); got != even {
				t.Fatalf("midpoint after %#x: %#x", h, got)
			}
		}
	}
	var b [4]uint16
	F32ToBF16(b[:], []float32{1, float32(math.NaN()), math.Float32frombits(0x3f808000), math.Float32frombits(0x3f818000)})
	if b[0] != 0x3f80 || b[1]&0x7fff <= 0x7f80 || b[2] != 0x3f80 || b[3] != 0x3f82 {
		t.Errorf("bf16: %#x", b)
	}
}
