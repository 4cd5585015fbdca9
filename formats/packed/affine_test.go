package packed

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"modelpress/formats"
)

// source returns a Source of tensors, whose sizes it checks.
func source(t testing.TB, list []formats.Tensor) memory {
	t.Helper()
	m := memory{}
	for i, e := range list {
		if n, err := e.Bytes(); err != nil || n != int64(len(e.Data)) {
			t.Fatalf("%s: %d bytes for %v %s", e.Name, len(e.Data), e.Shape, e.DType)
		}
		if i > 0 && list[i-1].Name >= e.Name {
			t.Fatalf("%s stands after %s", e.Name, list[i-1].Name)
		}
		m[e.Name] = e
	}
	return m
}

// settings are settings of integer codes with the schemes of weights that they store as they are.
type setting struct {
	Setting
	Scheme
	formats.AffineFormat
	ordered bool
}

func settings() (list []setting) {
	for _, dt := range []formats.DType{formats.BF16, formats.F16, formats.F32} {
		for _, bits := range []int{4, 8} {
			for _, group := range []int{-1, 1, 8, 24} {
				for _, sym := range []bool{true, false} {
					s := Scheme{bits, group, sym}
					p := PackQuantized{Scheme: s, Scales: dt}
					list = append(list, setting{p, s, p, false})
					if p.ActOrder = true; group != -1 {
						list = append(list, setting{p, s, p, true})
					}
				}
			}
		}
		for _, sym := range []bool{true, false} {
			q := IntQuantized{sym, dt}
			list = append(list, setting{q, q.scheme8(), q, false})
		}
	}
	return list
}

// Codes, scales, zero points and orders of columns come back as they were, and the dense view is what they stand for.
func TestAffineRoundTrip(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 3))
	for _, s := range settings() {
		for _, n := range [][2]int{{1, 24}, {7, 48}, {33, 72}} {
			dt := s.Setting.Tensors("m", 1, 24)
			scale := dt[slices.IndexFunc(dt, func(i formats.TensorInfo) bool { return i.Name == "m.weight_scale" })].DType
			m := randomAffine(r, n[0], n[1], s.Scheme, scale, s.ordered)
			what := fmt.Sprintf("%+v %v", s.Setting, n)
			list, err := s.Encode("m", m)
			if err != nil {
				t.Fatal(what, err)
			}
			for i, info := range s.Setting.Tensors("m", int64(n[0]), int64(n[1])) {
				if list[i].Name != info.Name || list[i].DType != info.DType || !slices.Equal(list[i].Shape, info.Shape) {
					t.Errorf("%s: tensor %v, laid out as %v", what, list[i].TensorInfo, info)
				}
			}
			view, err := Dense(source(t, list), Config([]GroupConfig{{Setting: s.Setting}}, nil))
			if err != nil {
				t.Fatal(what, err)
			}
			got, err := view.Affine("m.weight")
			if err != nil {
				t.Fatal(what, err)
			}
			if err := got.Check(); err != nil {
				t.Error(what, err)
			}
			if !slices.ContainsFunc(m.Zeros, func(z int8) bool { return z != 0 }) {
				m.Zeros = nil
			}
			if got.Out != m.Out || got.In != m.In || got.Bits != m.Bits || got.Group != m.Group || got.Scale != m.Scale ||
				!slices.Equal(got.Codes, m.Codes) || !slices.Equal(got.Scales, m.Scales) || !slices.Equal(got.Zeros, m.Zeros) || !slices.Equal(got.GIdx, m.GIdx) {
				t.Errorf("%s: weight does not come back", what)
			}
			checkDense(t, what, view, m)
			exact := *m
			exact.Scale = formats.F32
			checkDense(t, what+" unrounded", view.(formats.Unrounder).Unrounded(), &exact)
			st, ok := view.Storage("m.weight")
			var bits float64
			for _, e := range list {
				bits += 8 * float64(len(e.Data)) / float64(n[0]*n[1])
			}
			if !ok || !st.Grid || st.Code != s.Bits || st.Symmetric != s.Symmetric || st.Group != s.GroupSize || st.Ordered != s.ordered || math.Abs(st.Bits-bits) > 1e-9 || len(st.Tensors) != len(list) {
				t.Errorf("%s: storage %+v", what, st)
			}
		}
	}
}

// checkDense compares the dense view with float64 arithmetic, rounded once to the type of the scales.
func checkDense(t *testing.T, what string, view formats.Source, m *formats.Affine) {
	t.Helper()
	got := make([]float32, m.Out*m.In)
	if err := formats.ReadF32(view, "m.weight", got, 0); err != nil {
		t.Fatal(what, err)
	}
	g := m.Groups()
	for i, v := range got {
		row, column := i/m.In, i%m.In
		k := column / (m.In / g)
		if m.GIdx != nil {
			k = int(m.GIdx[column])
		}
		z := 0
		if m.Zeros != nil {
			z = int(m.Zeros[row*g+k])
		}
		// The product has at most 9 + 24 bits: float64 holds it, and one of float32 scales is rounded to float32 alone.
		want := round(float32(float64(int(m.Codes[i])-z)*float64(m.Scales[row*g+k])), m.Scale)
		if v != want {
			t.Fatalf("%s: value %d is %v, want %v", what, i, v, want)
		}
	}
}

// What fits in a wider format is stored, and stands for the same values.
func TestEncodeWidens(t *testing.T) {
	r := rand.New(rand.NewPCG(4, 4))
	order := []int32{1, 0, 1, 0, 1, 0, 1, 0}
	for _, c := range []struct {
		name string
		m    *formats.Affine
		f    formats.AffineFormat
	}{
		{"4 bits in 8", randomAffine(r, 5, 48, Scheme{4, 24, false}, formats.F16, false), PackQuantized{Scheme{8, 24, false}, formats.F32, false}},
		{"a row in groups", randomAffine(r, 5, 48, Scheme{4, -1, false}, formats.BF16, false), PackQuantized{Scheme{4, 16, false}, formats.BF16, false}},
		{"groups in parts", randomAffine(r, 5, 48, Scheme{4, 24, true}, formats.BF16, false), PackQuantized{Scheme{4, 8, true}, formats.BF16, false}},
		{"symmetric in asymmetric", randomAffine(r, 5, 48, Scheme{4, 24, true}, formats.BF16, false), PackQuantized{Scheme{4, 24, false}, formats.BF16, false}},
		{"columns in line, with an order", randomAffine(r, 5, 48, Scheme{4, 24, true}, formats.BF16, false), PackQuantized{Scheme{4, 24, true}, formats.BF16, true}},
		{"one group in a row", randomAffine(r, 5, 48, Scheme{8, 48, false}, formats.F16, false), IntQuantized{false, formats.F16}},
		{"a trivial order", func() *formats.Affine {
			m := randomAffine(r, 2, 8, Scheme{4, 4, true}, formats.F16, false)
			m.GIdx = []int32{0, 0, 0, 0, 1, 1, 1, 1}
			return m
		}(), PackQuantized{Scheme{4, 4, true}, formats.F16, false}},
		{"an order", func() *formats.Affine {
			m := randomAffine(r, 2, 8, Scheme{4, 4, true}, formats.F16, false)
			m.GIdx = order
			return m
		}(), PackQuantized{Scheme{4, 4, true}, formats.F16, true}},
	} {
		list, err := c.f.Encode("m", c.m)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		view, err := Dense(source(t, list), Config([]GroupConfig{{Setting: c.f.(Setting)}}, nil))
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		got, err := view.Affine("m.weight")
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		a, b := make([]float32, len(c.m.Codes)), make([]float32, len(c.m.Codes))
		c.m.Dequantize(a, 0)
		got.Dequantize(b, 0)
		if !slices.Equal(a, b) {
			t.Errorf("%s: other values", c.name)
		}
	}
}

// What does not fit is refused, and counted.
func TestEncodeRefusesInexact(t *testing.T) {
	for _, c := range []struct {
		name  string
		spoil func(*formats.Affine)
		f     formats.AffineFormat
		count int
	}{
		{"scales of F16 in BF16", func(m *formats.Affine) { m.Scales[1], m.Scales[2] = 1.001953125, 1.0009765625 }, PackQuantized{Scheme{4, 4, false}, formats.BF16, false}, 2},
		{"scales past F16", func(m *formats.Affine) { m.Scales[3] = 1e6 }, PackQuantized{Scheme{4, 4, false}, formats.F16, false}, 1},
		{"scales below F16", func(m *formats.Affine) { m.Scales[3] = 1e-9 }, PackQuantized{Scheme{4, 4, false}, formats.F16, false}, 1},
		{"zero points in a symmetric format", func(m *formats.Affine) {}, PackQuantized{Scheme{4, 4, true}, formats.F16, false}, 3},
		{"8 bits in 4", func(m *formats.Affine) { m.Bits, m.Codes[0], m.Codes[5], m.Zeros[0] = 8, 8, -9, 100 }, PackQuantized{Scheme{4, 4, false}, formats.F16, false}, 3},
		{"groups in rows", func(m *formats.Affine) {}, IntQuantized{false, formats.F16}, 2},
		{"groups of 4 in groups of 8", func(m *formats.Affine) {}, PackQuantized{Scheme{4, 8, false}, formats.F16, false}, 2},
		{"an order in a format without", func(m *formats.Affine) { m.GIdx = []int32{0, 0, 0, 1, 0, 1, 1, 1} }, PackQuantized{Scheme{4, 4, false}, formats.F16, false}, 2},
		{"an order in smaller groups", func(m *formats.Affine) { m.GIdx = []int32{0, 0, 0, 1, 0, 1, 1, 1} }, PackQuantized{Scheme{4, 2, false}, formats.F16, true}, 2},
		{"groups of unequal size", func(m *formats.Affine) { m.GIdx = []int32{0, 0, 0, 0, 0, 1, 1, 1} }, PackQuantized{Scheme{4, 4, false}, formats.F16, true}, 1},
	} {
		m := &formats.Affine{Out: 2, In: 8, Bits: 4, Group: 4, Scale: formats.F16, Codes: make([]int8, 16), Scales: []float32{1, 2, 3, 4}, Zeros: []int8{0, 1, -1, 7}}
		c.spoil(m)
		_, err := c.f.Encode("m", m)
		var e *formats.Inexact
		if !errors.As(err, &e) || e.Count != c.count || e.Tensor != "m.weight" {
			t.Errorf("%s: %v, want a count of %d", c.name, err, c.count)
		}
	}
}

// A weight that is no weight is refused as such.
func TestEncodeRefusesBadWeights(t *testing.T) {
	good := func() *formats.Affine {
		return &formats.Affine{Out: 2, In: 8, Bits: 4, Group: 4, Scale: formats.F16, Codes: make([]int8, 16), Scales: []float32{1, 2, 3, 4}}
	}
	fine := PackQuantized{Scheme{4, 4, true}, formats.F16, false}
	for _, c := range []struct {
		name  string
		spoil func(*formats.Affine)
		f     formats.AffineFormat
	}{
		{"NaN scale", func(m *formats.Affine) { m.Scales[0] = float32(math.NaN()) }, fine},
		{"infinite scale", func(m *formats.Affine) { m.Scales[0] = float32(math.Inf(1)) }, fine},
		{"few codes", func(m *formats.Affine) { m.Codes = m.Codes[1:] }, fine},
		{"code out of range", func(m *formats.Affine) { m.Codes[3] = 9 }, fine},
		{"group out of range", func(m *formats.Affine) { m.GIdx = []int32{0, 0, 0, 0, 1, 1, 1, 2} }, fine},
		{"no columns", func(m *formats.Affine) { m.In = 0 }, fine},
		{"groups that do not divide", func(m *formats.Affine) {}, PackQuantized{Scheme{4, 3, true}, formats.F16, false}},
		{"scales of no type", func(m *formats.Affine) {}, PackQuantized{Scheme: Scheme{4, 4, true}}},
		{"scales of F64", func(m *formats.Affine) {}, IntQuantized{true, formats.F64}},
		{"an order of one group", func(m *formats.Affine) {}, PackQuantized{Scheme{4, -1, true}, formats.F16, true}},
	} {
		m := good()
		c.spoil(m)
		_, err := c.f.Encode("m", m)
		var e *formats.Error
		if !errors.As(err, &e) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	if _, err := fine.Encode("m", good()); err != nil {
		t.Error(err)
	}
}
