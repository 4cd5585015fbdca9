package quantize

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"modelpress/formats"
)

// schemes returns every combination of bits, group, symmetry and clipping.
func schemes() []Scheme {
	var list []Scheme
	for _, bits := range []int{2, 3, 4, 8} {
		for _, group := range []int{32, 64, 128, -1} {
			for _, sym := range []bool{true, false} {
				for _, clip := range []bool{true, false} {
					list = append(list, Scheme{Bits: bits, Group: group, Symmetric: sym, Clip: clip, Damp: 0.01})
				}
			}
		}
	}
	return list
}

func (s Scheme) name() string {
	return fmt.Sprintf("%d bits, group %d, symmetric %v, clip %v, order %v", s.Bits, s.Group, s.Symmetric, s.Clip, s.ActOrder)
}

// onGrid returns weights that a scheme represents exactly, each group reaching its extreme codes.
func onGrid(out, in int, s Scheme) []float32 {
	w := make([]float32, out*in)
	lo, hi := s.limits()
	width := s.width(in)
	for i := range w {
		q, zero := lo+(i*i+i/width)%(hi-lo+1), 0
		switch i % width {
		case 0:
			q = hi
		case 1:
			q = lo
		}
		if !s.Symmetric {
			zero = lo + (i/width)%(hi-lo+1)
		}
		// Whole powers of two survive every rounding.
		w[i] = float32(q-zero) * float32(math.Ldexp(1, -4-(i/width)%3))
	}
	return w
}

func TestRTNKeepsWeightsOnTheGrid(t *testing.T) {
	const out, in = 5, 256
	for _, s := range schemes() {
		w := onGrid(out, in, s)
		for _, store := range []formats.DType{formats.BF16, formats.F16, formats.F32} {
			m, err := RTN(w, out, in, s, store, nil)
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(dense(m), w) {
				t.Errorf("%s, %s: weights on the grid changed", s.name(), store)
			}
		}
	}
}

func TestRTNErrorIsBounded(t *testing.T) {
	const out, in = 70, 256
	w := random(1, out*in)
	for _, s := range schemes() {
		m, err := RTN(w, out, in, s, formats.F32, nil)
		if err != nil {
			t.Fatal(err)
		}
		lo, hi := s.limits()
		values := dense(m)
		for i, q := range m.Codes {
			if int(q) < lo || int(q) > hi {
				t.Fatalf("%s: code %d", s.name(), q)
			}
			k := i/in*s.Groups(in) + i%in/s.width(in)
			step := float64(m.Scales[k])
			// Symmetric grids may give up the extreme of one sign, by one step at most.
			if d := math.Abs(float64(w[i]) - float64(values[i])); !s.Clip && (d > step*1.001 || !s.Symmetric && d > step*0.501) {
				t.Errorf("%s: error %v at step %v", s.name(), d, step)
			}
			if step <= 0 {
				t.Fatalf("%s: scale %v", s.name(), step)
			}
		}
		if s.Clip {
			plain := s
			plain.Clip = false
			p, err := RTN(w, out, in, plain, formats.F32, nil)
			if err != nil {
				t.Fatal(err)
			}
			if a, b := power(w, dense(m)), power(w, dense(p)); a > b*(1+1e-5) {
				t.Errorf("%s: error %v with the search, %v without", s.name(), a, b)
			}
		}
	}
}

// power returns the error that the search minimizes.
func power(w, q []float32) float64 {
	var s float64
	for i := range w {
		s += math.Pow(math.Abs(float64(w[i])-float64(q[i])), 2.5)
	}
	return s
}

// TestGridIsTheBest compares the search with a brute force over 4,000 scales.
func TestGridIsTheBest(t *testing.T) {
	w := random(2, 64)
	for _, bits := range []int{2, 3, 4} {
		s := Scheme{Bits: bits, Group: 64, Symmetric: true, Clip: true}
		f := newFinder(s, formats.F32)
		got, err := f.find(w, nil)
		if err != nil {
			t.Fatal(err)
		}
		lo, hi := extremes(w)
		best := float32(math.Inf(1))
		for i := 1; i <= 4000; i++ {
			g := newGrid(max(-lo, hi)*float32(i)/4000/float32(f.qmax)*1.05, 0, f.qmin, f.qmax)
			best = min(best, g.cost(w, nil))
		}
		if c := got.cost(w, nil); c > best*1.02 {
			t.Errorf("%d bits: cost %v, best %v", bits, c, best)
		}
	}
}

func TestStoredScalesAreRounded(t *testing.T) {
	w := random(3, 64*128)
	for _, store := range []formats.DType{formats.BF16, formats.F16} {
		m, err := RTN(w, 64, 128, Scheme{Bits: 4, Group: 32, Clip: true}, store, nil)
		if err != nil {
			t.Fatal(err)
		}
		round := rounder(store)
		for _, s := range m.Scales {
			if round(s) != s {
				t.Fatalf("%s does not hold scale %v", store, s)
			}
		}
		for _, v := range dense(m) {
			if round(v) != v {
				t.Fatalf("%s does not hold weight %v", store, v)
			}
		}
	}
}

func TestRTNEdges(t *testing.T) {
	s := Scheme{Bits: 4, Group: 32, Symmetric: true, Clip: true}
	zero := make([]float32, 64)
	m, err := RTN(zero, 1, 64, s, formats.F16, nil)
	if err != nil || !slices.Equal(dense(m), zero) {
		t.Errorf("zeros: %v", err)
	}
	tiny := slices.Repeat([]float32{1e-40, -1e-40}, 32)
	for _, sym := range []bool{true, false} {
		s.Symmetric = sym
		if m, err = RTN(tiny, 1, 64, s, formats.F32, nil); err != nil {
			t.Fatal(err)
		}
		mustFinite(t, m.Scales)
		huge := slices.Repeat([]float32{3e38, -3e38}, 32)
		if m, err = RTN(huge, 1, 64, s, formats.F32, nil); err != nil {
			t.Fatal(err)
		}
		mustFinite(t, m.Scales)
		if _, err = RTN(huge, 1, 64, s, formats.F16, nil); err == nil {
			t.Error("scales past the range of F16 were accepted")
		}
		for _, bad := range []float32{float32(math.NaN()), float32(math.Inf(-1))} {
			w := slices.Clone(zero)
			w[37] = bad
			if _, err := RTN(w, 1, 64, s, formats.BF16, nil); err == nil {
				t.Errorf("weight %v was accepted", bad)
			}
		}
	}
}

func TestSchemeCheck(t *testing.T) {
	for _, c := range []struct {
		s       Scheme
		out, in int
	}{
		{Scheme{Bits: 5, Group: 64}, 1, 64},
		{Scheme{Bits: 4, Group: 16}, 1, 64},
		{Scheme{Bits: 4, Group: 0}, 1, 64},
		{Scheme{Bits: 4, Group: 64}, 1, 96},
		{Scheme{Bits: 4, Group: 64}, 0, 64},
		{Scheme{Bits: 4, Group: 64, Damp: -1}, 1, 64},
		{Scheme{Bits: 4, Group: 64, Damp: math.NaN()}, 1, 64},
	} {
		if c.s.Check(c.out, c.in) == nil {
			t.Errorf("%+v [%d, %d] passed", c.s, c.out, c.in)
		}
	}
	if _, err := RTN(make([]float32, 64), 1, 64, Scheme{Bits: 4, Group: 64}, formats.I8, nil); err == nil {
		t.Error("scales of type I8 were accepted")
	}
}
