//go:build cuda

package cuda

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"modelpress/internal/device"
)

// gemmCase is a product on kernels of this package. pad is what lies between rows, at how far the operands are from aligned memory.
type gemmCase struct {
	m, n, k, pad, at int
	ta, tb           bool
	kind             device.Kind
	beta             float32
}

func gemmCases() (all []gemmCase) {
	for i, z := range [][3]int{{1, 1, 1}, {7, 130, 40}, {131, 9, 70}, {64, 33, 257}} {
		for j, turned := range [][2]bool{{false, true}, {false, false}, {true, false}, {true, true}} {
			c := gemmCase{m: z[0], n: z[1], k: z[2], ta: turned[0], tb: turned[1], kind: device.Kind((i + j) % 3), beta: []float32{0, 1, 0.5}[j%3]}
			if i == 2 {
				c.pad, c.at = 5, 1
			}
			all = append(all, c)
		}
	}
	// The f32 of weights and rows, and bfloat16 that is read where it lies.
	return append(all, gemmCase{m: 20, n: 12, k: 300, tb: true}, gemmCase{m: 20, n: 300, k: 12}, gemmCase{m: 30, n: 140, k: 64, pad: 8, tb: true, kind: device.BF16})
}

// gemmMatrix is an operand as it is stored.
type gemmMatrix struct {
	buf    device.Buf
	values []float32
	ld     int
}

func (m gemmMatrix) at(turned bool, i, j int) float64 {
	if turned {
		i, j = j, i
	}
	return float64(m.values[i*m.ld+j])
}

// newGemmMatrix draws an operand [rows, columns], stored as [columns, rows] where it is turned.
func newGemmMatrix(t *testing.T, d *Device, rows, columns int, turned bool, c gemmCase, seed uint64) (gemmMatrix, ptr) {
	t.Helper()
	if turned {
		rows, columns = columns, rows
	}
	m := gemmMatrix{ld: columns + c.pad}
	rng := rand.New(rand.NewPCG(seed, uint64(rows)))
	v := make([]float32, c.at+rows*m.ld)
	for i := range v {
		v[i] = float32(rng.NormFloat64() * math.Exp(2*rng.NormFloat64()))
	}
	b, err := d.Alloc(c.kind, len(v))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Free)
	d.Upload(b, 0, v)
	d.Download(v, b, 0)
	m.buf, m.values = b, v[c.at:]
	return m, ptr(c.at * c.kind.Size())
}

// Products without a library have the accuracy of f32 for operands of all kinds, however these are stored, and the same bits however many rows
// are split at a time.
func TestOwnGemm(t *testing.T) {
	d := open(t, Options{})
	for _, z := range gemmCases() {
		t.Run(fmt.Sprintf("%+v", z), func(t *testing.T) {
			a, atA := newGemmMatrix(t, d, z.m, z.k, z.ta, z, 1)
			b, atB := newGemmMatrix(t, d, z.k, z.n, z.tb, z, 2)
			start := make([]float32, z.m*(z.n+z.pad))
			for i := range start {
				start[i] = float32(i%11) - 5
				if z.beta == 0 && i%(z.n+z.pad) < z.n {
					start[i] = float32(math.NaN()) // not to be read
				}
			}
			var first []float32
			for _, limit := range []int64{planesBytes, 1} {
				out, err := d.Alloc(device.F32, len(start))
				if err != nil {
					t.Fatal(err)
				}
				defer out.Free()
				d.Upload(out, 0, start)
				c := d.begin("test")
				pa, _ := c.any(a.buf, 0)
				pb, _ := c.any(b.buf, 0)
				c.panels(gemm{m: z.m, n: z.n, k: z.k, c: c.out(out, len(start)), a: pa + atA, b: pb + atB, ta: z.ta, tb: z.tb, lda: a.ld, ldb: b.ld,
					ldc: z.n + z.pad, kind: z.kind, beta: z.beta}, limit)
				c.end()
				got := make([]float32, len(start))
				d.Download(got, out, 0)
				if first == nil {
					first = got
					checkGemm(t, z, a, b, start, got)
				}
				for i, v := range got {
					if math.Float32bits(v) != math.Float32bits(first[i]) {
						t.Fatalf("[%d] = %v in panels of 128 rows, %v in one", i, v, first[i])
					}
				}
			}
		})
	}
}

// checkGemm compares with float64. Errors are relative to the sum of magnitudes: tensor cores cut off what is below 2^-23 of the largest
// of the values that they add.
func checkGemm(t *testing.T, z gemmCase, a, b gemmMatrix, start, got []float32) {
	t.Helper()
	ld, tol := z.n+z.pad, 8*math.Exp2(-23)
	if planes[z.kind].terms == 1 { // each step of 16 cuts the running sum
		tol *= 1 + float64(z.k)/64
	}
	for i := range z.m {
		for j := range ld {
			if j >= z.n {
				if got[i*ld+j] != start[i*ld+j] {
					t.Fatalf("[%d,%d] = %v beside the result", i, j, got[i*ld+j])
				}
				continue
			}
			want, size := 0.0, 0.0
			for l := range z.k {
				p := a.at(z.ta, i, l) * b.at(z.tb, l, j)
				want += p
				size += math.Abs(p)
			}
			if z.beta != 0 {
				want += float64(z.beta) * float64(start[i*ld+j])
				size += math.Abs(float64(z.beta) * float64(start[i*ld+j]))
			}
			if diff := math.Abs(float64(got[i*ld+j]) - want); !(diff <= tol*size) {
				t.Fatalf("[%d,%d] = %v, want %v: an error of %g of the sum of magnitudes %g", i, j, got[i*ld+j], want, diff/size, size)
			}
		}
	}
}

// The largest values are exact, and what is not finite makes its row of the result so, and no other.
func TestOwnGemmExtremes(t *testing.T) {
	d := open(t, Options{})
	const m, n, k = 3, 2, 4
	x := []float32{1, 2, 3, 4, float32(math.Inf(1)), 1, 1, 1, math.MaxFloat32, 0, 0, 1e-30}
	w := []float32{1, 1, 1, 1, 0.5, 2, 3, 4}
	a, _ := d.Alloc(device.F32, len(x))
	b, _ := d.Alloc(device.F32, len(w))
	out, _ := d.Alloc(device.F32, m*n)
	for buf, v := range map[device.Buf][]float32{a: x, b: w} {
		d.Upload(buf, 0, v)
		defer buf.Free()
	}
	c := d.begin("test")
	c.ownGemm(gemm{m: m, n: n, k: k, a: c.in(a, m*k), b: c.in(b, n*k), c: c.out(out, m*n), tb: true, lda: k, ldb: k, ldc: n})
	c.end()
	got := make([]float32, m*n)
	d.Download(got, out, 0)
	want := []float32{10, 0.5 + 4 + 9 + 16, 0, 0, math.MaxFloat32, math.MaxFloat32 / 2}
	for i, v := range want {
		if finite := !math.IsNaN(float64(got[i])) && !math.IsInf(float64(got[i]), 0); i/n == 1 == finite || finite && math.Abs(float64(got[i]/v)-1) > 1e-6 {
			t.Errorf("[%d] = %v, want %v", i, got[i], v)
		}
	}
}
