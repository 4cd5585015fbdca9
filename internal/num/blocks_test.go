package num

import (
	"encoding/binary"
	"fmt"
	"math"
	"testing"
	"unsafe"
)

// blockCases returns blocks of 32 values of many kinds.
func blockCases() []float32 {
	rng := newRand(31)
	var x []float32
	for k := range 400 {
		scale := float32(math.Ldexp(1, int(rng.Uint32()%60)-40))
		for i := range blockValues {
			v := float32(rng.NormFloat64()) * scale
			switch k % 10 {
			case 1: // few values, halves among them
				v = float32(int(rng.Uint32()%16)-8) / 2
			case 2: // one sign
				v = float32(math.Abs(float64(v)))
			case 3:
				v = -float32(math.Abs(float64(v)))
			case 4: // zeros of both signs
				v = float32(math.Copysign(0, float64(v)))
			case 5: // mostly zeros
				if rng.Uint32()%8 != 0 {
					v = float32(math.Copysign(0, float64(v)))
				}
			case 6: // near a constant
				v = 3 + v*1e-6
			case 7: // the same
				v = -scale
			case 8: // next to nothing
				v *= 0x1p-100
			case 9: // one large value
				if i == k%blockValues {
					v *= 1000
				}
			}
			x = append(x, v)
		}
	}
	return x
}

// QuantizeQ8 is compared with its definition in float64: no rounding of it matters but those that are written here.
func TestQuantizeQ8(t *testing.T) {
	x := blockCases()
	dst := make([]byte, len(x)/blockValues*34)
	most := QuantizeQ8(dst, x)
	if want := magnitudeBitsGeneric(x); most != want || MagnitudeBits(x) != want {
		t.Errorf("magnitude %#x and %#x, want %#x", most, MagnitudeBits(x), want)
	}
	for b := range len(x) / blockValues {
		block, got := x[b*blockValues:][:blockValues], dst[b*34:][:34]
		largest := 0.0
		for _, v := range block {
			largest = max(largest, math.Abs(float64(v)))
		}
		d := float32(largest / 127)
		inv := float32(1 / float64(d))
		if math.IsInf(float64(inv), 0) {
			inv = 0
		}
		h := halfByDefinition(binary.LittleEndian.Uint16(got))
		if off := math.Abs(h - float64(d)); off > max(0x1p-25, float64(d)*0x1p-11) && !(d >= 65520 && math.IsInf(h, 1)) {
			t.Fatalf("block %d: scale %v, want %v", b, h, d)
		}
		for i, v := range block {
			if want := math.Round(float64(float32(float64(v) * float64(inv)))); float64(int8(got[2+i])) != want {
				t.Fatalf("block %d: value %d, %v of %v, has code %d, want %v", b, i, v, d, int8(got[2+i]), want)
			}
		}
	}
	// What is not finite is seen, wherever it is.
	for _, v := range []float32{float32(math.Inf(1)), float32(math.Inf(-1)), float32(math.NaN())} {
		for i := range 2 * blockValues {
			y := make([]float32, 2*blockValues)
			y[i] = v
			if got := QuantizeQ8(make([]byte, 68), y); got < 0x7f800000 {
				t.Fatalf("%v at %d: magnitude %#x", v, i, got)
			}
			if got := MagnitudeBits(y[:i+1]); got < 0x7f800000 {
				t.Fatalf("%v at %d: magnitude %#x", v, i, got)
			}
		}
	}
}

// Halves are rounded away from zero, and what is next to them to the nearer number.
func TestRoundAway(t *testing.T) {
	for n := -127; n <= 127; n++ {
		for _, v := range []float32{float32(n), float32(n) + 0.5, float32(n) - 0.5} {
			for _, v := range []float32{v, math.Nextafter32(v, -1000), math.Nextafter32(v, 1000)} {
				if got, want := roundAway(v), math.Round(float64(v)); float64(got) != want {
					t.Fatalf("%v becomes %d, want %v", v, got, want)
				}
			}
		}
	}
}

// The kernels on blocks give what the plain bodies do.
func TestBlockKernels(t *testing.T) {
	x := blockCases()
	blocks := len(x) / blockValues
	extremes, least, largest := make([]float32, blocks), make([]float32, blocks), make([]float32, blocks)
	wantE, wantL, wantH := make([]float32, blocks), make([]float32, blocks), make([]float32, blocks)
	BlockExtremes(extremes, x)
	blockExtremesGeneric(wantE, x)
	BlockBounds(least, largest, x)
	blockBoundsGeneric(wantL, wantH, x)
	same(t, "extremes", extremes, wantE)
	same(t, "least", least, wantL)
	same(t, "largest", largest, wantH)

	inv := make([]float32, blocks)
	for b := range inv {
		inv[b] = finiteInverse((largest[b] - least[b]) / 31)
	}
	codes := make([]byte, len(x))
	BlockCodes(codes, x, least, inv, 0.5, 30)
	for i, v := range x {
		b := i / blockValues
		if want := min(math.Floor(float64(float32(float32((v-least[b])*inv[b])+0.5))), 30); float64(codes[i]) != want {
			t.Fatalf("value %d has code %d, want %v", i, codes[i], want)
		}
	}

	parts := len(x) / partValues
	add, step := make([]float32, parts), make([]float32, parts)
	for p := range step {
		add[p], step[p] = least[p/2]*float32(p%3), (largest[p/2]-least[p/2])/float32(20+p%50)
	}
	PartCodes(codes, x, add, step, -32, 31, 32)
	for i, v := range x {
		p := i / partValues
		want := min(max(nearestInt((v+add[p])/step[p]), -32), 31) + 32
		if even := math.RoundToEven(float64((v + add[p]) / step[p])); step[p] != 0 && math.Abs(even) < 1<<22 && float64(want) != min(max(even, -32), 31)+32 {
			t.Fatalf("value %d: plain code %d, want %v", i, want, even)
		}
		if step[p] != 0 && codes[i] != byte(want) {
			t.Fatalf("value %d has code %d, want %d", i, codes[i], want)
		}
	}
}

// RootWeights against float64, and its bits against plain Go.
func TestRootWeights(t *testing.T) {
	x := blockCases()[:32*97+5]
	importance, w := make([]float32, len(x)), make([]float32, len(x))
	for i := range importance {
		importance[i] = float32(i % 13)
	}
	RootWeights(w, x, importance, 0.3)
	for i, v := range x {
		if want := float32(importance[i] * float32(math.Sqrt(float64(0.3+float32(v*v))))); w[i] != want {
			t.Fatalf("weight %d is %v, want %v", i, w[i], want)
		}
		if want := float64(importance[i]) * math.Sqrt(float64(float32(0.3))+float64(v)*float64(v)); math.Abs(float64(w[i])-want) > 3e-7*want {
			t.Fatalf("weight %d is %v, want %v", i, w[i], want)
		}
	}
}

// Lanes hold the values that they are loaded with, and zeros.
func TestSearchLoad(t *testing.T) {
	x := randoms(newRand(3), searchMost*searchLanes)
	for _, n := range []int{4, 16, 20, 32} {
		for lanes := range searchLanes + 1 {
			var a AffineSearch
			var s ScaleSearch
			for i := range a.X {
				a.X[i], a.W[i], s.X[i], s.W[i] = 7, 7, 7, 7
			}
			w := randoms(newRand(4), n*lanes)
			a.Load(x[:n*lanes], w, n)
			s.Load(x[:n*lanes], w, n)
			for i := range n {
				for r := range searchLanes {
					var wantX, wantW float32
					if r < lanes {
						wantX, wantW = x[n*r+i], w[n*r+i]
					}
					if at := searchLanes*i + r; a.X[at] != wantX || a.W[at] != wantW || s.X[at] != wantX || s.W[at] != wantW {
						t.Fatalf("%d values, %d lanes: value %d of lane %d is %v, weight %v", n, lanes, i, r, a.X[at], a.W[at])
					}
				}
			}
		}
	}
}

// searchCase fills lanes with n values each, from those of blockCases.
func searchCase(x, w *[searchMost * searchLanes]float32, cases []float32, k, n int) {
	rng := newRand(uint64(k))
	for r := range searchLanes {
		for i := range n {
			x[searchLanes*i+r] = cases[(k*searchLanes+r)*blockValues%len(cases)+i]
			w[searchLanes*i+r] = rng.Float32()
			if k%3 == 1 {
				w[searchLanes*i+r] = float32(math.Exp(3 * rng.NormFloat64()))
			}
		}
	}
}

// The lanes of a search have the bits of the plain body, whose grids are no worse than those that they start with.
func TestSearches(t *testing.T) {
	cases := blockCases()
	tries := []float32{13.9, 14.3, 14.8, 15.2, 15.7, 16}
	scaleTries := []float32{-15.3, -15.8, -16.4, -17}
	for k := range 75 {
		n := []int{4, 16, 32}[k%3]
		var a, wantA AffineSearch
		searchCase(&a.X, &a.W, cases, k, n)
		wantA = a
		a.Run(n, 15, tries)
		affineSearchGeneric(&wantA, n, 15, tries)
		for name, f := range map[string][2]*[searchLanes]float32{"scale": {&a.Scale, &wantA.Scale}, "min": {&a.Min, &wantA.Min},
			"base": {&a.Base, &wantA.Base}, "inv": {&a.Inv, &wantA.Inv}, "weight": {&a.Weight, &wantA.Weight}} {
			same(t, fmt.Sprint(k, " affine ", name), f[0][:], f[1][:])
		}
		var s, wantS ScaleSearch
		s.X, s.W = a.X, a.W
		wantS = s
		s.Run(n, 16, scaleTries, 1e-15)
		scaleSearchGeneric(&wantS, n, 16, scaleTries, 1e-15)
		same(t, fmt.Sprint(k, " scale"), s.Scale[:], wantS.Scale[:])
		same(t, fmt.Sprint(k, " inv"), s.Inv[:], wantS.Inv[:])
		for r := range searchLanes {
			checkAffine(t, &a, r, n, 15)
			checkScale(t, &s, r, n, 16)
		}
	}
}

// checkAffine compares the loss of a lane, in float64, with that of the grid that spans its values and 0.
func checkAffine(t *testing.T, s *AffineSearch, r, n int, top float64) {
	t.Helper()
	lo, hi := 0.0, math.Inf(-1)
	for i := range n {
		lo, hi = min(lo, float64(s.X[searchLanes*i+r])), max(hi, float64(s.X[searchLanes*i+r]))
	}
	step := (hi - lo) / top
	if step < 1e-30 {
		return
	}
	var got, start, energy float64
	for i := range n {
		x, w := float64(s.X[searchLanes*i+r]), float64(s.W[searchLanes*i+r])
		energy += w * x * x
		code := min(max(math.RoundToEven((x-float64(s.Base[r]))*float64(s.Inv[r])), 0), top)
		d := float64(s.Scale[r])*code + float64(s.Min[r]) - x
		got += w * d * d
		d = step*min(max(math.RoundToEven((x-lo)/step), 0), top) + lo - x
		start += w * d * d
	}
	if got > start+1e-6*energy || s.Min[r] > 0 { // losses are differences of such sums in float32
		t.Fatalf("lane %d: loss %g, %g of the grid that it starts with; min %v", r, got, start, s.Min[r])
	}
}

func checkScale(t *testing.T, s *ScaleSearch, r, n int, top float64) {
	t.Helper()
	extreme := 0.0
	for i := range n {
		if v := float64(s.X[searchLanes*i+r]); math.Abs(v) > math.Abs(extreme) {
			extreme = v
		}
	}
	if math.Abs(extreme) < 1e-15 {
		if s.Scale[r] != 0 || s.Inv[r] != 0 {
			t.Fatalf("lane %d: scale %v where values are tiny", r, s.Scale[r])
		}
		return
	}
	var got, start, energy float64
	for i := range n {
		x, w := float64(s.X[searchLanes*i+r]), float64(s.W[searchLanes*i+r])
		energy += w * x * x
		d := float64(s.Scale[r])*min(max(math.RoundToEven(x*float64(s.Inv[r])), -top), top-1) - x
		got += w * d * d
		d = -extreme/top*min(max(math.RoundToEven(-x*top/extreme), -top), top-1) - x
		start += w * d * d
	}
	if got > start+1e-6*energy {
		t.Fatalf("lane %d: loss %g, %g of the grid that it starts with", r, got, start)
	}
}

// The assembly knows where the fields are.
func TestSearchLayout(t *testing.T) {
	var a AffineSearch
	var s ScaleSearch
	for i, f := range [][2]uintptr{
		{unsafe.Offsetof(a.X), 0}, {unsafe.Offsetof(a.W), 2048}, {unsafe.Offsetof(a.codes), 4096}, {unsafe.Offsetof(a.Scale), 6144},
		{unsafe.Offsetof(a.Min), 6208}, {unsafe.Offsetof(a.Base), 6272}, {unsafe.Offsetof(a.Inv), 6336}, {unsafe.Offsetof(a.Weight), 6400},
		{unsafe.Offsetof(s.X), 0}, {unsafe.Offsetof(s.W), 2048}, {unsafe.Offsetof(s.wx), 4096}, {unsafe.Offsetof(s.Scale), 6144}, {unsafe.Offsetof(s.Inv), 6208},
	} {
		if f[0] != f[1] {
			t.Errorf("field %d is at %d, want %d", i, f[0], f[1])
		}
	}
}

func BenchmarkBlocks(b *testing.B) {
	const n = 16 << 10
	x, codes := randoms(newRand(1), n), make([]byte, 34*n/32)
	f, g := make([]float32, n/16), make([]float32, n/16)
	for i := range g {
		g[i] = 1
	}
	for name, run := range map[string]func(){
		"Q8": func() { QuantizeQ8(codes, x) }, "extremes": func() { BlockExtremes(f, x) }, "bounds": func() { BlockBounds(f, g, x) },
		"codes": func() { BlockCodes(codes, x, f, g, 8, 15) }, "parts": func() { PartCodes(codes, x, f, g, 0, 15, 0) }, "magnitude": func() { MagnitudeBits(x) },
	} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(4 * n)
			for b.Loop() {
				run()
			}
		})
	}
	var a AffineSearch
	var s ScaleSearch
	searchCase(&a.X, &a.W, blockCases(), 0, 32)
	s.X, s.W = a.X, a.W
	tries := make([]float32, 20)
	for i := range tries {
		tries[i] = 14 + float32(i)/10
	}
	b.Run("affine search", func(b *testing.B) {
		b.SetBytes(4 * 512)
		for b.Loop() {
			a.Run(32, 15, tries)
		}
	})
	b.Run("scale search", func(b *testing.B) {
		b.SetBytes(4 * 256)
		for b.Loop() {
			s.Run(16, 16, tries, 1e-15)
		}
	})
}
