package devicetest

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"modelpress/internal/device"
)

// roundings are those that the cases below go through.
func roundings(n int) []device.Rounding {
	return []device.Rounding{
		{Bits: 4, Group: 128, Symmetric: true, Store: device.BF16},
		{Bits: 3, Group: 32, Clip: true, Store: device.F16},
		{Bits: 4, Group: 64, Symmetric: true, Clip: true, Store: device.F32},
		{Bits: 8, Group: n, Static: true, Store: device.BF16},
		{Bits: 2, Group: 64, Symmetric: true, Static: true, Store: device.F32},
	}
}

// roundingCase is a rounding that codes are checked against.
type roundingCase device.Rounding

func (r roundingCase) String() string { return fmt.Sprintf("%+v", device.Rounding(r)) }

// limits are the smallest and largest code.
func (r roundingCase) limits() (lo, hi int) { return -1 << (r.Bits - 1), 1<<(r.Bits-1) - 1 }

// read returns scale and zero point of the group of a column.
func (r roundingCase) read(m *device.Rounded, n, row, col int) (scale, zero float64) {
	at := row*(n/r.Group) + col/r.Group
	if m.Zeros != nil {
		zero = float64(m.Zeros[at])
	}
	return float64(m.Scales[at]), zero
}

// check fails unless code is that of y, but for ties within tol steps.
func (r roundingCase) check(t *testing.T, m *device.Rounded, n, row, col int, y, tol float64) {
	t.Helper()
	lo, hi := r.limits()
	scale, zero := r.read(m, n, row, col)
	code := float64(m.Codes[row*n+col])
	if !(scale > 0) || code < float64(lo) || code > float64(hi) || zero < float64(lo) || zero > float64(hi) || r.Symmetric && m.Zeros != nil {
		t.Fatalf("%v: [%d, %d]: code %v, scale %v, zero point %v", r, row, col, code, scale, zero)
	}
	at := min(max(y/scale+zero, float64(lo)), float64(hi))
	if math.Abs(at-code) > 0.5+tol {
		t.Fatalf("%v: [%d, %d]: code %v for %v", r, row, col, code, at)
	}
}

// values checks that dst holds the values of the codes.
func (r roundingCase) values(t *testing.T, s *suite, m *device.Rounded, dst device.Buf, out, n int) []float32 {
	t.Helper()
	got, want := s.read(dst), make([]float32, out*n)
	for i := range want {
		scale, zero := r.read(m, n, i/n, i%n)
		want[i] = float32(float32(float64(m.Codes[i])-zero) * float32(scale))
	}
	_, want = s.buf(t, r.Store, want)
	same(t, got, want)
	return want
}

// fits fails where the range of a group is far from what its grid spans.
func (r roundingCase) fits(t *testing.T, m *device.Rounded, n, row, group int, w []float32) {
	t.Helper()
	lo, hi := slices.Min(w), slices.Max(w)
	scale, zero := r.read(m, n, row, group*r.Group)
	low, high := r.limits()
	span := scale * float64(high-low)
	extent := float64(max(hi, 0)) - float64(min(lo, 0))
	if r.Symmetric {
		extent = 2 * float64(max(hi, -lo))
	}
	least := 0.7
	if r.Clip {
		least = 0.15
	}
	if span < least*extent || span > 3.1*extent {
		t.Errorf("%v: row %d, group %d: values from %v to %v, scale %v, zero point %v", r, row, group, lo, hi, scale, zero)
	}
}

// rtn: each code is the nearest one, scales are of the stored type and fit.
func (s *suite) rtn(t *testing.T, q device.Quantizer) {
	const out, n = 5, 256
	for i, rounding := range roundings(n) {
		r := roundingCase(rounding)
		w, ws := s.buf(t, kinds[i%3], values(out*n, uint64(70+i)))
		dst, _ := s.buf(t, r.Store, make([]float32, out*n))
		m, err := q.RTN(dst, w, out, n, rounding)
		if err != nil {
			t.Fatal(err)
		}
		for i, v := range ws {
			r.check(t, m, n, i/n, i%n, float64(v), 1e-5)
		}
		for k := range out * (n / r.Group) {
			r.fits(t, m, n, k/(n/r.Group), k%(n/r.Group), ws[k*r.Group:][:r.Group])
		}
		_, stored := s.buf(t, r.Store, m.Scales)
		same(t, m.Scales, stored)
		r.values(t, s, m, dst, out, n)
	}
}

// gptq: each code is the nearest one to the weight as it is corrected for the errors before it.
func (s *suite) gptq(t *testing.T, q device.Quantizer) {
	const out, n = 6, 384
	order := make([]int32, n)
	for i := range order {
		order[i] = int32((i*115 + 60) % n)
	}
	for i, rounding := range roundings(n) {
		r := roundingCase(rounding)
		g, h := s.gram(t, q, n, []int{200, 300}, 5, 380)
		diagonal, dead, weights := g.Diagonal(), make([]bool, n), make([]float32, n)
		for c := range diagonal {
			dead[c] = c == 5 || c == 380
			weights[c] = float32(diagonal[c])
			diagonal[c] += 0.05
		}
		places := order
		if !r.Static {
			places = nil
		}
		if !g.Factor(places, diagonal, dead) {
			t.Fatal("no factor")
		}
		w, ws := s.buf(t, kinds[i%3], values(out*n, uint64(60+i)))
		dst, _ := s.buf(t, r.Store, make([]float32, out*n))
		m, err := g.GPTQ(dst, w, out, weights, rounding)
		if err != nil {
			t.Fatal(err)
		}
		s.corrected(t, r, m, r.values(t, s, m, dst, out, n), ws, h, places, diagonal, dead)
	}
}

// corrected follows the codes of m through the columns: each is the nearest one to the weight as it is corrected.
func (s *suite) corrected(t *testing.T, r roundingCase, m *device.Rounded, deq, w []float32, h []float64, order []int32, diagonal []float64, dead []bool) {
	t.Helper()
	n := len(dead)
	spared := make([]float32, len(w))
	for i, v := range w {
		if !dead[i%n] {
			spared[i] = v
		}
	}
	loss, moved := follow(deq, spared, h, order, diagonal, dead, func(row, c int, y float64) { r.check(t, m, n, row, c, y, 1e-3) })
	if math.Abs(m.Loss-loss) > 1e-4*loss || math.Abs(m.Moved-moved) > 1e-5*moved {
		t.Errorf("%v: loss %v, moved %v, want %v, %v", r, m.Loss, m.Moved, loss, moved)
	}
}

// follow takes w through the columns in order to what became of it, q, and shows see what each column is best replaced for after the errors
// before it: y_k = w_k + Σ_{j<k} e_j*A[j,k].
func follow(q, w []float32, h []float64, order []int32, diagonal []float64, dead []bool, see func(row, c int, y float64)) (loss, moved float64) {
	n := len(dead)
	column := func(i int) int {
		if order == nil {
			return i
		}
		return int(order[i])
	}
	f := make([]float64, n*n)
	for i := range n {
		for j := range n {
			a, b := column(i), column(j)
			switch {
			case i == j:
				f[i*n+j] = diagonal[a]
			case !dead[a] && !dead[b]:
				f[i*n+j] = h[a*n+b]
			}
		}
	}
	root := upperFactor(f, n)
	for row := range len(w) / n {
		e := make([]float64, n)
		for k := range n {
			c := column(k)
			y := float64(w[row*n+c])
			for j := range k {
				y += e[j] * root[j*n+k] / root[k*n+k]
			}
			see(row, c, y)
			e[k] = float64(w[row*n+c]) - float64(q[row*n+c])
			left := (y - float64(q[row*n+c])) * root[k*n+k]
			loss, moved = loss+left*left, moved+e[k]*e[k]
		}
	}
	return loss, moved
}

// upperFactor returns R, upper triangular, of a = R·Rᵀ.
func upperFactor(a []float64, n int) []float64 {
	r := make([]float64, n*n)
	for j := n - 1; j >= 0; j-- {
		for i := j; i >= 0; i-- {
			v := a[i*n+j]
			for p := j + 1; p < n; p++ {
				v -= r[i*n+p] * r[j*n+p]
			}
			if i == j {
				r[i*n+j] = math.Sqrt(v)
			} else {
				r[i*n+j] = v / r[j*n+j]
			}
		}
	}
	return r
}
