package ggml

import (
	"errors"
	"math/rand/v2"
	"testing"

	"modelpress/formats"
)

// randomAffine returns a weight whose scales are numbers of F16 with so few bits that products with zero points are, too.
func randomAffine(rng *rand.Rand, out, in, bits, group int, symmetric bool) *formats.Affine {
	m := &formats.Affine{Out: out, In: in, Bits: bits, Group: group, Scale: formats.F16, Codes: make([]int8, out*in)}
	m.Scales = make([]float32, out*m.Groups())
	code := func() int8 { return int8(rng.IntN(1<<bits) - 1<<(bits-1)) }
	for i := range m.Codes {
		m.Codes[i] = code()
	}
	for i := range m.Scales {
		m.Scales[i] = float32(rng.IntN(127)-63) / 2048
	}
	if !symmetric {
		m.Zeros = make([]int8, len(m.Scales))
		for i := range m.Zeros {
			m.Zeros[i] = code()
		}
	}
	return m
}

// What is encoded dequantizes to the same values, and decodes to a weight that does.
func TestAffineIsExact(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		bits, symmetric := 2+rng.IntN(7), rng.IntN(2) == 0
		group := []int{-1, 32, 64, 128}[rng.IntN(4)]
		in, out := 128*(1+rng.IntN(3)), 1+rng.IntN(5)
		typ, ok := Exact(bits, group, symmetric, in)
		if ok != (symmetric || bits <= 5) {
			t.Fatalf("%d bits, group %d, symmetric %v: %v", bits, group, symmetric, ok)
		}
		if !ok {
			continue
		}
		m := randomAffine(rng, out, in, bits, group, symmetric)
		b, err := EncodeAffine(typ, m)
		if err != nil {
			t.Fatal(typ, err)
		}
		want, got, again := make([]float32, out*in), make([]float32, out*in), make([]float32, out*in)
		m.Dequantize(want, 0)
		if err := Dequantize(typ, got, b); err != nil {
			t.Fatal(err)
		}
		back, err := DecodeAffine(typ, b, out, in)
		if err != nil {
			t.Fatal(typ, err)
		}
		if err := back.Check(); err != nil {
			t.Fatal(err)
		}
		back.Dequantize(again, 0)
		for i, v := range want {
			if got[i] != v || again[i] != v { // 0 and -0 are equal
				t.Fatalf("%s: value %d is %v, stored %v, decoded %v", typ, i, v, got[i], again[i])
			}
		}
	}
}

// Zero points fit into the wider types without offsets, too.
func TestAffineWiderTypes(t *testing.T) {
	m := randomAffine(rand.New(rand.NewPCG(3, 4)), 3, 64, 4, 32, false)
	want, got := make([]float32, 3*64), make([]float32, 3*64)
	m.Dequantize(want, 0)
	for _, typ := range []Type{Q4_1, Q5_0, Q5_1, Q8_0} {
		b, err := EncodeAffine(typ, m)
		if err != nil {
			t.Fatal(typ, err)
		}
		if err := Dequantize(typ, got, b); err != nil {
			t.Fatal(err)
		}
		for i, v := range want {
			if got[i] != v {
				t.Fatalf("%s: value %d is %v, stored %v", typ, i, v, got[i])
			}
		}
	}
}

// The smallest type that holds a weight is found.
func TestFit(t *testing.T) {
	rng := rand.New(rand.NewPCG(11, 12))
	narrow := randomAffine(rng, 2, 64, 4, 32, false)
	narrow.Scales = []float32{0.5, 0.25, -1, 2}
	full := randomAffine(rng, 2, 64, 4, 32, false)
	for i := range full.Scales {
		full.Scales[i], full.Zeros[i] = formats.F16ToF32(0x2c01+uint16(rng.IntN(512))*2), -3 // eleven bits times five
	}
	for name, c := range map[string]struct {
		m    *formats.Affine
		want Type
	}{
		"symmetric": {randomAffine(rng, 2, 64, 4, 32, true), Q4_0}, "three bits": {randomAffine(rng, 2, 64, 3, -1, true), Q4_0},
		"offset": {narrow, Q4_1}, "offset that is none of F16": {full, Q5_0},
		"five bits": {randomAffine(rng, 2, 64, 5, 64, true), Q5_0}, "five bits, zeros": {randomAffine(rng, 2, 64, 5, 64, false), Q5_1},
		"eight bits": {randomAffine(rng, 2, 64, 8, 32, true), Q8_0},
	} {
		typ, b, err := Fit(c.m)
		if err != nil || typ != c.want {
			t.Errorf("%s: %v, %v, want %v", name, typ, err, c.want)
			continue
		}
		want, got := make([]float32, 128), make([]float32, 128)
		c.m.Dequantize(want, 0)
		if err := Dequantize(typ, got, b); err != nil {
			t.Fatal(err)
		}
		for i, v := range want {
			if got[i] != v {
				t.Errorf("%s: value %d is %v, stored %v", name, i, v, got[i])
			}
		}
	}
	var inexact *formats.Inexact
	if _, _, err := Fit(randomAffine(rng, 2, 64, 8, 32, false)); !errors.As(err, &inexact) {
		t.Errorf("eight bits with zero points: %v", err)
	}
}

func TestAffineInexact(t *testing.T) {
	make4 := func(symmetric bool) *formats.Affine {
		return randomAffine(rand.New(rand.NewPCG(5, 6)), 2, 128, 4, 64, symmetric)
	}
	for name, c := range map[string]struct {
		typ    Type
		m      *formats.Affine
		change func(m *formats.Affine)
		count  int
	}{
		"scale of f32":         {Q4_0, make4(true), func(m *formats.Affine) { m.Scales[1] = 0.1 }, 1},
		"scale of bf16, large": {Q4_0, make4(true), func(m *formats.Affine) { m.Scales[1] = 1 << 17 }, 1},
		"scale of bf16, small": {Q4_0, make4(true), func(m *formats.Affine) { m.Scales[0], m.Scales[3] = 0x1p-25, 0x1.8p-24 }, 2},
		"offset":               {Q4_1, make4(false), func(m *formats.Affine) { m.Scales[2], m.Zeros[2] = 1+0x1p-10, -5 }, 1},
		"zero point":           {Q4_0, make4(true), func(m *formats.Affine) { m.Zeros = []int8{1, 0, 0, 0}; clear(m.Codes); m.Codes[7] = -8 }, 1},
		"order":                {Q4_0, make4(true), func(m *formats.Affine) { m.GIdx = make([]int32, 128); m.GIdx[0] = 1 }, 128},
		"group":                {Q4_0, randomAffine(rand.New(rand.NewPCG(7, 8)), 2, 128, 4, 16, true), func(*formats.Affine) {}, 16},
	} {
		c.change(c.m)
		_, err := EncodeAffine(c.typ, c.m)
		var inexact *formats.Inexact
		if !errors.As(err, &inexact) || inexact.Count != c.count {
			t.Errorf("%s: %v", name, err)
		}
	}
	identity := make4(true)
	identity.GIdx = make([]int32, 128)
	for i := range identity.GIdx {
		identity.GIdx[i] = int32(i / 64)
	}
	if _, err := EncodeAffine(Q4_0, identity); err != nil {
		t.Errorf("columns in their order: %v", err)
	}
	for name, f := range map[string]func() error{
		"type":      func() error { _, err := EncodeAffine(Q4_K, make4(true)); return err },
		"sizes":     func() error { m := make4(true); m.Codes = m.Codes[1:]; _, err := EncodeAffine(Q4_0, m); return err },
		"K":         func() error { _, err := DecodeAffine(Q6_K, make([]byte, 210), 1, 256); return err },
		"bytes":     func() error { _, err := DecodeAffine(Q4_0, make([]byte, 35), 2, 32); return err },
		"columns":   func() error { _, err := DecodeAffine(Q4_0, make([]byte, 18), 2, 16); return err },
		"overflow":  func() error { _, err := DecodeAffine(Q4_0, nil, 1<<40, 1<<40); return err },
		"unknown":   func() error { _, err := DecodeAffine(99, nil, 1, 32); return err },
		"no rows":   func() error { _, err := DecodeAffine(Q8_0, nil, 0, 32); return err },
		"negative":  func() error { _, err := DecodeAffine(Q8_0, nil, -1, -32); return err },
		"plain F16": func() error { _, err := DecodeAffine(F16, make([]byte, 64), 1, 32); return err },
	} {
		var inexact *formats.Inexact
		if err := f(); err == nil || errors.As(err, &inexact) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Offsets that are no multiple of the scale, and scales that are no numbers, lie on no grid.
func TestDecodeAffineOffGrid(t *testing.T) {
	block := func(d, m float32) []byte {
		b := make([]byte, 20)
		putF16(b, d)
		putF16(b[2:], m)
		for i := range b[4:] {
			b[4+i] = byte(17 * i)
		}
		return b
	}
	inf := float32(1e9) // as F16
	for _, c := range []struct {
		d, m float32
		ok   bool
	}{
		{0.5, -3, true}, {0.5, -7.5, true}, {0.5, 0, true}, {-0.5, 3, true}, {0, 0, true}, {0, 3, true}, {0, -0.125, true},
		{0.5, -8, false}, {0.5, 0.5, false}, {0.5, -0.25, false}, {inf, 0, false}, {1, inf, false}, {0, inf, false},
	} {
		b := block(c.d, c.m)
		m, err := DecodeAffine(Q4_1, b, 1, 32)
		if (err == nil) != c.ok {
			t.Errorf("scale %v, offset %v: %v", c.d, c.m, err)
		}
		if err != nil {
			continue
		}
		want, got := make([]float32, 32), make([]float32, 32)
		if err := Dequantize(Q4_1, want, b); err != nil {
			t.Fatal(err)
		}
		m.Dequantize(got, 0)
		for i, v := range want {
			if got[i] != v {
				t.Errorf("scale %v, offset %v: value %d is %v, decoded %v", c.d, c.m, i, v, got[i])
			}
		}
	}
}
