//go:build cuda

package cuda

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"modelpress/internal/device"
	"modelpress/internal/num"
)

// matrixOf returns a buffer of random values and what it holds.
func matrixOf(t *testing.T, d *Device, kind device.Kind, n int, seed uint64) (device.Buf, []float32) {
	t.Helper()
	rng := rand.New(rand.NewPCG(seed, uint64(n)))
	v := make([]float32, n)
	for i := range v {
		v[i] = float32(rng.NormFloat64())
	}
	b := alloc(t, d, kind, n)
	t.Cleanup(b.Free)
	d.Upload(b, 0, v)
	d.Download(v, b, 0)
	return b, v
}

func bf16(v []float32) []float32 {
	half, out := make([]uint16, len(v)), make([]float32, len(v))
	num.F32ToBF16(half, v)
	num.BF16ToF32(out, half)
	return out
}

// closeTo compares m*n results with the sums of products a(i,l)*b(j,l) over l and beta times what was there.
func closeTo(t *testing.T, what string, got, before []float32, m, n, k int, beta float64, a, b func(i, l int) float32) {
	t.Helper()
	for i := range m {
		for j := range n {
			want, size := 0.0, 0.0
			for l := range k {
				p := float64(a(i, l)) * float64(b(j, l))
				want += p
				size += math.Abs(p)
			}
			if beta != 0 {
				want += beta * float64(before[i*n+j])
			}
			if diff := math.Abs(float64(got[i*n+j]) - want); !(diff <= 1e-6*(size+1)) {
				t.Fatalf("%s: [%d,%d] = %v, want %v", what, i, j, got[i*n+j], want)
			}
		}
	}
}

// Products that are cut into pieces, of rows and of a weight that is converted, are the products.
func TestMatMulPieces(t *testing.T) {
	const m, n, kd = 37, 29, 21
	for _, o := range []Options{{}, {BF16: true}} {
		d := open(t, o)
		for _, sizes := range []pieceSizes{{weightPiece, rowsPiece}, {5 * kd, 7 * n}, {1, 1}, {kd * (n - 1), n * (m - 1)}} {
			d.pieces = sizes
			for _, kind := range []device.Kind{device.F32, device.BF16, device.F16} {
				for _, beta := range []float64{0, 1, -0.5} {
					what := fmt.Sprintf("%s %v kind %d beta %v", d.Class(), sizes, kind, beta)
					w, ws := matrixOf(t, d, kind, n*kd, 1)
					x, xs := matrixOf(t, d, device.F32, m*kd, 2)
					y, ys := matrixOf(t, d, device.F32, m*n, 3)
					back, before := matrixOf(t, d, device.F32, m*kd, 4)
					d.MatMulNN(back, y, w, m, n, kd, float32(beta))
					got := make([]float32, m*kd)
					d.Download(got, back, 0)
					closeTo(t, "NN "+what, got, before, m, kd, n, beta, func(i, l int) float32 { return ys[i*n+l] }, func(j, l int) float32 { return ws[l*kd+j] })
					if o.BF16 {
						xs, ws = bf16(xs), bf16(ws)
					}
					d.MatMulNT(y, x, w, m, n, kd, float32(beta))
					got = make([]float32, m*n)
					d.Download(got, y, 0)
					closeTo(t, "NT "+what, got, ys, m, n, kd, beta, func(i, l int) float32 { return xs[i*kd+l] }, func(j, l int) float32 { return ws[j*kd+l] })
				}
			}
		}
	}
}

// The bfloat16 of x is made once for all products of x, and anew when x has been written, in whole or in part.
func TestRoundedOnce(t *testing.T) {
	const m, n, kd = 5, 3, 16
	d := open(t, Options{BF16: true})
	x, xs := matrixOf(t, d, device.F32, m*kd, 1)
	other, _ := matrixOf(t, d, device.F32, m*kd, 9)
	y := alloc(t, d, device.F32, m*n)
	check := func(in device.Buf, xs []float32, rows int) {
		t.Helper()
		w, ws := matrixOf(t, d, device.BF16, n*kd, 5)
		d.MatMulNT(y, in, w, rows, n, kd, 0)
		got := make([]float32, rows*n)
		d.Download(got, y, 0)
		a := bf16(xs)
		closeTo(t, "product", got, nil, rows, n, kd, 0, func(i, l int) float32 { return a[i*kd+l] }, func(j, l int) float32 { return ws[j*kd+l] })
	}
	check(x, xs, m)
	first := d.rounded
	check(x, xs, m)
	if first.block == nil || d.rounded != first {
		t.Errorf("rounded again: %+v, %+v", first, d.rounded)
	}
	d.Upload(d.Slice(x, kd+1, 2), 0, []float32{7, 8})
	copy(xs[kd+1:], []float32{7, 8})
	check(x, xs, m)
	if d.rounded.version == first.version {
		t.Error("not rounded again after a write")
	}
	check(d.Slice(x, kd, 2*kd), xs[kd:], 2) // another place of the same memory
	check(x, xs, m)
	d.Add(x, x, m*kd)
	for i := range xs {
		xs[i] *= 2
	}
	check(x, xs, m)
	d.Copy(x, 0, other, 0, m*kd)
	d.Download(xs, other, 0)
	check(x, xs, m)
	d.Zero(x, 3, 20)
	clear(xs[3:23])
	check(x, xs, m)
	used := d.Used()
	x.Free()
	if d.rounded.store != nil || d.Used() >= used {
		t.Errorf("%+v is remembered of a buffer that was freed", d.rounded)
	}
}

// Conversions between kinds are those of the host bit by bit, at any alignment, for every value of 16 bits and for values around the ties.
func TestConvert(t *testing.T) {
	d := open(t, Options{})
	var halfs []uint16
	for i := range 1 << 16 {
		halfs = append(halfs, uint16(i))
	}
	wide := []float32{0, float32(math.Copysign(0, -1)), float32(math.Inf(1)), float32(math.Inf(-1)), 65519.996, 65520, math.MaxFloat32, 1e-45, 5.9604645e-8, 2.9802322e-8, 2.98023225e-8}
	for i := range 1 << 16 {
		wide = append(wide, math.Float32frombits(uint32(i)<<16|uint32([]int{0x8000, 0x7fff, 0x8001, 0x1000, 0x3000}[i%5])))
	}
	raw := func(v []uint16) []byte {
		b := make([]byte, 0, 2*len(v))
		for _, h := range v {
			b = append(b, byte(h), byte(h>>8))
		}
		return b
	}
	f32s := map[device.Kind]func([]float32, []uint16){device.BF16: num.BF16ToF32, device.F16: num.F16ToF32}
	from := map[device.Kind]func([]uint16, []float32){device.BF16: num.F32ToBF16, device.F16: num.F32ToF16}
	floats := func(v []uint16, kind device.Kind) []float32 {
		x := make([]float32, len(v))
		f32s[kind](x, v)
		return x
	}
	for _, c := range []struct{ to, from device.Kind }{
		{device.BF16, device.F32}, {device.F16, device.F32}, {device.F32, device.BF16}, {device.F32, device.F16}, {device.BF16, device.F16},
	} {
		src, values := floatBytes(wide), wide
		if c.from != device.F32 {
			src, values = raw(halfs), floats(halfs, c.from)
		}
		want := values
		if c.to != device.F32 {
			h := make([]uint16, len(values))
			from[c.to](h, values)
			want = floats(h, c.to)
		}
		for _, skip := range []int{0, 1, 3} {
			call := d.begin("test")
			size := c.to.Size()
			out := call.scratch(int64((len(values) + 4) * size))
			n := len(values) - skip
			call.convert(out+ptr(size), c.to, call.table(src)+ptr(skip*c.from.Size()), c.from, n)
			got := make([]byte, n*size)
			call.fetch(got, out+ptr(size))
			call.end()
			x := halvesToFloats(got, c.to, f32s)
			for i := range x {
				w := want[skip+i]
				if math.Float32bits(x[i]) != math.Float32bits(w) && !(x[i] != x[i] && w != w) {
					t.Fatalf("kind %d to %d: %v (%#x) gives %v, want %v", c.from, c.to, values[skip+i], math.Float32bits(values[skip+i]), x[i], w)
				}
			}
		}
	}
}

func halvesToFloats(b []byte, kind device.Kind, widen map[device.Kind]func([]float32, []uint16)) []float32 {
	if kind == device.F32 {
		x := make([]float32, len(b)/4)
		copy(floatBytes(x), b)
		return x
	}
	h, x := make([]uint16, len(b)/2), make([]float32, len(b)/2)
	for i := range h {
		h[i] = uint16(b[2*i]) | uint16(b[2*i+1])<<8
	}
	widen[kind](x, h)
	return x
}
