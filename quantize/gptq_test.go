package quantize

import (
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"modelpress/formats"
)

// obs is GPTQ as the theory has it: after each column, the inverse Hessian of the columns that are left is updated
// explicitly (optimal brain surgeon, Hassibi and Stork 1993). O(out·n² + n³), float64, scales given. begin, unless it is nil,
// sees the corrected weights of a row when a group begins.
func obs(w []float32, h []float64, m *Matrix, damp float64, perm []int, begin func(r, group int, w []float64)) []int8 {
	n, width := m.In, m.width(m.In)
	inv := invert(h, n, damp)
	work := make([]float64, len(w))
	for i, v := range w {
		work[i] = float64(v)
	}
	codes := make([]int8, len(w))
	for _, i := range perm {
		d := inv[i*n+i]
		for r := range m.Out {
			if begin != nil && i%width == 0 {
				begin(r, i/width, work[r*n+i:][:width])
			}
			g := m.grid(r, i/width)
			k := math.RoundToEven(min(max(work[r*n+i]/float64(g.Scale), float64(g.Lo)), float64(g.Hi)))
			codes[r*n+i] = g.code(float32(k))
			e := (work[r*n+i] - k*float64(g.Scale)) / d
			for j := range n {
				work[r*n+j] -= e * inv[i*n+j]
			}
		}
		row := slices.Clone(inv[i*n : (i+1)*n])
		for a := range n {
			for b := range n {
				inv[a*n+b] -= row[a] * row[b] / d
			}
		}
	}
	return codes
}

// invert returns (h + damp)⁻¹ by Gauss-Jordan elimination, from the lower half of h.
func invert(h []float64, n int, damp float64) []float64 {
	a, inv := slices.Clone(h), make([]float64, n*n)
	for i := range n {
		for j := i + 1; j < n; j++ {
			a[i*n+j] = h[j*n+i]
		}
		a[i*n+i] += damp
		inv[i*n+i] = 1
	}
	for i := range n {
		p := a[i*n+i]
		for j := range n {
			a[i*n+j] /= p
			inv[i*n+j] /= p
		}
		for r := range n {
			if f := a[r*n+i]; r != i && f != 0 {
				for j := range n {
					a[r*n+j] -= f * a[i*n+j]
					inv[r*n+j] -= f * inv[i*n+j]
				}
			}
		}
	}
	return inv
}

func TestGPTQMatchesOBS(t *testing.T) {
	const out, n = 9, 192
	w, h := random(4, out*n), correlated(4, n, 600)
	for _, s := range []Scheme{
		{Bits: 4, Group: -1, Symmetric: true, Damp: 0.01},
		{Bits: 3, Group: -1, Damp: 0.01},
		{Bits: 3, Group: 64, Symmetric: true, ActOrder: true, Damp: 0.01},
		{Bits: 2, Group: 32, ActOrder: true, Clip: true, Damp: 0.1},
	} {
		m, rep, err := GPTQ(w, out, n, h, s, formats.F32, nil)
		if err != nil {
			t.Fatal(err)
		}
		perm := make([]int, n)
		for i := range perm {
			perm[i] = i
		}
		if s.ActOrder {
			slices.SortStableFunc(perm, func(a, b int) int {
				if h[a*n+a] > h[b*n+b] {
					return -1
				}
				return 1
			})
		}
		want := obs(w, h, m, rep.Damp, perm, nil)
		same := 0
		for i := range want {
			if want[i] == m.Codes[i] {
				same++
			}
		}
		// Ties that float32 breaks the other way change the rest of a row.
		if share := float64(same) / float64(len(want)); share < 0.97 {
			t.Errorf("%s: %.3f of the codes agree with the float64 reference", s.name(), share)
		}
		ref := *m
		ref.Codes = want
		a, b := outputError(w, dense(m), h, out, n), outputError(w, dense(&ref), h, out, n)
		if math.Abs(a-b) > 0.02*b {
			t.Errorf("%s: error %v, float64 reference %v", s.name(), a, b)
		}
	}
}

// TestGPTQGrids: where grids are found on the way, each is the best for the weights of its group as optimal brain surgeon has
// corrected them for all columns before.
func TestGPTQGrids(t *testing.T) {
	const out, n = 9, 384
	w, h := random(14, out*n), correlated(14, n, 1000)
	var most float64
	for i := range n {
		most = max(most, h[i*n+i])
	}
	diag := make([]float32, n)
	for i := range diag {
		diag[i] = float32(h[i*n+i] / most)
	}
	perm := make([]int, n)
	for i := range perm {
		perm[i] = i
	}
	for _, s := range []Scheme{{Bits: 4, Group: 64, Symmetric: true, Damp: 0.01}, {Bits: 3, Group: 128, Damp: 0.01, Clip: true}, {Bits: 4, Group: 32, Symmetric: true, Clip: true, Damp: 0.1}} {
		m, rep, err := GPTQ(w, out, n, h, s, formats.F32, nil)
		if err != nil {
			t.Fatal(err)
		}
		f, width, same, all := newFinder(s, formats.F32), s.Group, 0, 0
		obs(w, h, m, rep.Damp, perm, func(r, group int, now []float64) {
			row := make([]float32, width)
			for k, v := range now {
				row[k] = float32(v)
			}
			g, err := f.find(row, diag[group*width:][:width])
			if err != nil {
				t.Fatal(err)
			}
			all++
			if have := m.grid(r, group); have.zero == g.zero && math.Abs(float64(have.Scale-g.Scale)) < 1e-4*float64(g.Scale) {
				same++
			}
		})
		if share := float64(same) / float64(all); share < 0.9 { // ties that float32 breaks the other way
			t.Errorf("%s: %.3f of %d grids agree with the float64 reference", s.name(), share, all)
		}
	}
}

func TestGPTQBeatsRTN(t *testing.T) {
	const out, n = 40, 256
	w, h := random(5, out*n), correlated(5, n, 1000)
	for _, s := range schemes() {
		for _, order := range []bool{false, true} {
			s.ActOrder = order
			m, rep, err := GPTQ(w, out, n, h, s, formats.BF16, nil)
			if err != nil {
				t.Fatal(err)
			}
			p, err := RTN(w, out, n, s, formats.BF16, nil)
			if err != nil {
				t.Fatal(err)
			}
			got, plain := outputError(w, dense(m), h, out, n), outputError(w, dense(p), h, out, n)
			if got > plain {
				t.Errorf("%s: error %.4g, RTN %.4g", s.name(), got, plain)
			}
			// The column losses add up to the error in the norm of the damped Hessian.
			total := got + rep.Damp*squared(w, dense(m))
			if math.Abs(rep.Loss-total) > 1e-3*total {
				t.Errorf("%s: loss %v, error %v", s.name(), rep.Loss, total)
			}
			if math.Abs(rep.OutputError-got) > 2e-3*got {
				t.Errorf("%s: output error %v, want %v", s.name(), rep.OutputError, got)
			}
		}
	}
}

func TestGPTQKeepsWeightsOnTheGrid(t *testing.T) {
	const out, n = 5, 256
	h := correlated(6, n, 600)
	for _, s := range schemes() {
		for _, order := range []bool{false, true} {
			s.ActOrder = order
			w := onGrid(out, n, s)
			m, rep, err := GPTQ(w, out, n, h, s, formats.F16, nil)
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(dense(m), w) || rep.Loss != 0 {
				t.Errorf("%s: weights on the grid changed, loss %v", s.name(), rep.Loss)
			}
		}
	}
}

func TestGPTQDoesNotDependOnThreads(t *testing.T) {
	const out, n = 150, 384
	w, h := random(7, out*n), correlated(7, n, 500)
	for _, s := range []Scheme{
		{Bits: 4, Group: 64, Symmetric: true, Clip: true, Damp: 0.01},
		{Bits: 3, Group: 128, ActOrder: true, Damp: 0.01},
	} {
		a, ra, err := GPTQ(w, out, n, h, s, formats.BF16, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, k := range []int{1, 2, 3} {
			b, rb, err := GPTQ(w, out, n, h, s, formats.BF16, threads(k))
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(a.Codes, b.Codes) || !slices.Equal(a.Scales, b.Scales) || !slices.Equal(a.Zeros, b.Zeros) || ra != rb {
				t.Errorf("%s: %d threads change the result: %+v, %+v", s.name(), k, ra, rb)
			}
		}
	}
}

func TestGPTQDeadColumns(t *testing.T) {
	const out, n = 6, 128
	w, h := random(8, out*n), correlated(8, n, 400)
	for _, c := range []int{0, 5, 127} {
		for j := range n {
			h[c*n+j], h[j*n+c] = 0, 0
		}
		for r := range out {
			w[r*n+c] = 50 // would spoil the scale of its group
		}
	}
	for _, order := range []bool{false, true} {
		m, rep, err := GPTQ(w, out, n, h, Scheme{Bits: 4, Group: 32, ActOrder: order, Damp: 0.01}, formats.F32, nil)
		if err != nil || rep.DeadColumns != 3 || rep.FellBack {
			t.Fatalf("%+v, %v", rep, err)
		}
		q := dense(m)
		for i, v := range q {
			if c := i % n; (c == 0 || c == 5 || c == 127) && v != 0 {
				t.Errorf("dead weight %d became %v", i, v)
			}
		}
		if e := outputError(w, q, h, out, n) / outputError(w, make([]float32, len(w)), h, out, n); e > 0.01 {
			t.Errorf("relative error %v", e)
		}
	}
}

func TestGPTQDampsWhatIsSingular(t *testing.T) {
	const out, n = 4, 128
	w, h := random(9, out*n), correlated(9, n, 3) // rank 3
	m, rep, err := GPTQ(w, out, n, h, Scheme{Bits: 4, Group: 32, Symmetric: true}, formats.F32, nil)
	if err != nil || rep.FellBack || rep.Retries == 0 || rep.Damp == 0 {
		t.Fatalf("%+v, %v", rep, err)
	}
	mustFinite(t, dense(m))
	// An indefinite matrix is no Hessian of anything.
	for i := range n {
		for j := range n {
			h[i*n+j] = 1e6
		}
		h[i*n+i] = 1
	}
	m, rep, err = GPTQ(w, out, n, h, Scheme{Bits: 4, Group: 32, Symmetric: true, Damp: 0.01}, formats.F32, nil)
	if err != nil || !rep.FellBack || rep.Reason == "" {
		t.Fatalf("%+v, %v", rep, err)
	}
	p, err := RTN(w, out, n, Scheme{Bits: 4, Group: 32, Symmetric: true, Damp: 0.01}, formats.F32, nil)
	if err != nil || !slices.Equal(p.Codes, m.Codes) {
		t.Error("the fallback is not RTN")
	}
	if _, rep, err = GPTQ(w, out, n, make([]float64, n*n), m.Scheme, formats.F32, nil); err != nil || !rep.FellBack {
		t.Errorf("no input at all: %+v, %v", rep, err)
	}
}

func TestGPTQRefusesBadInput(t *testing.T) {
	const out, n = 2, 64
	s := Scheme{Bits: 4, Group: 32, Damp: 0.01}
	for _, c := range []struct {
		spoil func(w []float32, h []float64)
		want  string
	}{
		{func(w []float32, h []float64) { w[70] = float32(math.NaN()) }, "weight [1, 6] is NaN"},
		{func(w []float32, h []float64) { h[65] = math.Inf(1) }, "Hessian [1, 1] is +Inf"},
		{func(w []float32, h []float64) { h[0] = -1 }, "Hessian [0, 0] is -1"},
	} {
		w, h := random(10, out*n), correlated(10, n, 100)
		c.spoil(w, h)
		if _, _, err := GPTQ(w, out, n, h, s, formats.BF16, nil); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("error %v, want %q", err, c.want)
		}
	}
}

func TestGPTQLeavesItsInputAlone(t *testing.T) {
	const out, n = 3, 64
	w, h := random(11, out*n), correlated(11, n, 100)
	w0, h0 := slices.Clone(w), slices.Clone(h)
	if _, _, err := GPTQ(w, out, n, h, Scheme{Bits: 3, Group: 32, ActOrder: true, Damp: 0.01}, formats.BF16, nil); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(w, w0) {
		t.Error("weights changed")
	}
	for i := range n {
		if !slices.Equal(h[i*n:i*n+i+1], h0[i*n:i*n+i+1]) {
			t.Fatalf("row %d of the Hessian changed", i)
		}
	}
}

func FuzzRTN(f *testing.F) {
	f.Add(uint64(1), 4, 32, true, 1.0)
	f.Add(uint64(2), 2, -1, false, 1e30)
	f.Fuzz(func(t *testing.T, seed uint64, bits, group int, sym bool, size float64) {
		s := Scheme{Bits: bits, Group: group, Symmetric: sym, Clip: seed%2 == 0}
		r := rand.New(rand.NewPCG(seed, 3))
		w := make([]float32, 128)
		for i := range w {
			w[i] = float32(r.NormFloat64() * size)
		}
		m, err := RTN(w, 1, 128, s, formats.BF16, nil)
		if err != nil {
			return
		}
		mustFinite(t, m.Scales)
	})
}
