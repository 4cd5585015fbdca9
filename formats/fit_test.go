package formats

import (
	"errors"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
)

func TestFit(t *testing.T) {
	fit := Fit{Bits: 4, Group: 16, Scale: F16, Ordered: true}
	for _, c := range []struct {
		name  string
		spoil func(m *Affine, f *Fit)
		count int // of the Inexact, 0 for none, -1 for another error
		cause string
	}{
		{"as it is", func(*Affine, *Fit) {}, 0, ""},
		{"more bits", func(_ *Affine, f *Fit) { f.Bits = 8 }, 0, ""},
		{"scales in F32", func(_ *Affine, f *Fit) { f.Scale = F32 }, 0, ""},
		{"narrower groups", func(_ *Affine, f *Fit) { f.Group = 8 }, 0, ""},
		{"narrower groups in order", func(m *Affine, f *Fit) { f.Group, m.GIdx = 8, []int32{} }, -1, "columns in order"},
		{"fewer bits", func(m *Affine, f *Fit) { f.Bits, m.Codes[3], m.Codes[5] = 3, 4, -5 }, 2, "codes do not fit into 3 bits"},
		{"fewer bits of zero points", func(m *Affine, f *Fit) { f.Bits, m.Zeros[0] = 3, 7 }, 1, "zero points do not fit"},
		{"symmetric", func(_ *Affine, f *Fit) { f.Symmetric = true }, 7, "zero points, where the format is symmetric"},
		{"a scale between two values", func(m *Affine, _ *Fit) { m.Scales[2] = 1 + 1.0/4096 }, 1, "not values of F16"},
		{"a scale past the range", func(m *Affine, _ *Fit) { m.Scales[2], m.Scales[0] = 1e6, -1e-9 }, 2, "not values of F16"},
		{"an infinite scale", func(m *Affine, _ *Fit) { m.Scales[2] = float32(math.Inf(-1)) }, -1, "not finite"},
		{"an order", func(m *Affine, f *Fit) {
			m.GIdx, f.Ordered = make([]int32, 32), false
			for i := range m.GIdx {
				m.GIdx[i] = int32(i / 16)
			}
			m.GIdx[0], m.GIdx[31] = 1, 0
		}, 2, "order of their own"},
		{"an order that is none", func(m *Affine, f *Fit) {
			m.GIdx, f.Ordered = make([]int32, 32), false
			for i := range m.GIdx {
				m.GIdx[i] = int32(i / 16)
			}
		}, 0, ""},
		{"an order and narrower groups", func(m *Affine, f *Fit) {
			m.GIdx, f.Group = make([]int32, 32), 8
			m.GIdx[0] = 1
		}, 8, "scales are of groups"},
		{"wider groups", func(_ *Affine, f *Fit) { f.Group = 32 }, 8, "scales are of groups"},
		{"one group", func(_ *Affine, f *Fit) { f.Group = -1 }, 8, "scales are of groups"},
		{"groups that do not divide", func(_ *Affine, f *Fit) { f.Group = 12 }, -1, "do not divide"},
		{"a weight that is none", func(m *Affine, _ *Fit) { m.Codes = m.Codes[1:] }, -1, "codes"},
	} {
		m, f := affine(rand.New(rand.NewPCG(1, 2)), 4, 32, 16, true, false), fit
		for i := range m.Codes {
			m.Codes[i] %= 4
		}
		for i := range m.Zeros {
			m.Zeros[i] = 1
		}
		m.Zeros[1] = 0
		c.spoil(m, &f)
		err := m.Fit("w", f)
		var e *Inexact
		switch inexact := errors.As(err, &e); {
		case c.count == 0 && err != nil, c.count != 0 && err == nil, c.count > 0 && (!inexact || e.Count != c.count || e.Tensor != "w"), c.count < 0 && inexact:
			t.Errorf("%s: error %v", c.name, err)
		case err != nil && !strings.Contains(err.Error(), c.cause):
			t.Errorf("%s: error %v, want %q", c.name, err, c.cause)
		}
	}
}

func TestHolds(t *testing.T) {
	negativeZero := float32(math.Copysign(0, -1))
	for _, c := range []struct {
		d    DType
		f    float32
		want bool
	}{
		{F16, 1.0 / 1024, true}, {F16, negativeZero, true}, {F16, 65504, true}, {F16, 65520, false}, {F16, 1e-8, false}, {F16, 0x1p-24, true},
		{BF16, 1e-8, false}, {BF16, 0x1p-100, true}, {BF16, 1 + 1.0/256, false}, {F32, 1e-40, true}, {F64, 0.1, true}, {I32, 1, false},
	} {
		if got := c.d.Holds(c.f); got != c.want {
			t.Errorf("%s holds %v: %v", c.d, c.f, got)
		}
	}
}

func TestReadJSONFields(t *testing.T) {
	var a int
	var b *bool
	err := ReadJSONFields([]byte(`{"A":5,"x":{"a":7},"a":3,"b":null}`), 4, map[string]any{"a": &a, "b": &b})
	if err != nil || a != 3 || b != nil {
		t.Errorf("a %d, b %v, error %v", a, b, err)
	}
	for text, want := range map[string]string{
		`[]`: "an object", `null`: "an object", ``: "an object", `{"a":1,"a":2}`: "duplicate", `{"a":"1"}`: `key "a"`, `{"a":1.5}`: `key "a"`,
		`{"a":1} 2`: "data after", `{"x":[[[[[1]]]]]}`: "too deep", `{"a":1e400}`: `key "a"`,
	} {
		if err := ReadJSONFields([]byte(text), 4, map[string]any{"a": &a}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want %q", text, err, want)
		}
	}
}
