package gptq

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"modelpress/formats"
)

// stream writes fields of some bits one after the other into words, lowest bit first, a bit at a time.
func stream(fields []int, bits int) []uint32 {
	w := make([]uint32, len(fields)*bits/32)
	for i, v := range fields {
		for b := range bits {
			at := i*bits + b
			w[at/32] |= uint32(v>>b&1) << (at % 32)
		}
	}
	return w
}

func word(src memory, name string, i int) uint32 {
	return binary.LittleEndian.Uint32(src[name].Data[4*i:])
}

// The words are those of the definition, bit by bit, for weights of all kinds of sizes.
func TestWordsByDefinition(t *testing.T) {
	r := rand.New(rand.NewPCG(11, 12))
	for _, f := range settings() {
		out, in := 32*(1+r.IntN(4)), 96*(1+r.IntN(3))
		m := sample(r, f, out, in)
		src := store(t, f, m)
		middle, g := 1<<(f.Bits-1), m.Groups()
		for o := range out {
			fields := make([]int, in)
			for i := range fields {
				fields[i] = int(m.Codes[o*in+i]) + middle
			}
			for k, want := range stream(fields, f.Bits) {
				if got := word(src, "m.qweight", k*out+o); got != want {
					t.Fatalf("%+v [%d, %d]: qweight [%d, %d] is %#x, want %#x", f, out, in, k, o, got, want)
				}
			}
		}
		for k := range g {
			fields := make([]int, out)
			for o := range fields {
				fields[o] = middle
				if m.Zeros != nil {
					fields[o] += int(m.Zeros[o*g+k])
				}
				if !f.V2 {
					fields[o]--
				}
			}
			for i, want := range stream(fields, f.Bits) {
				if got := word(src, "m.qzeros", k*out*f.Bits/32+i); got != want {
					t.Fatalf("%+v [%d, %d]: qzeros [%d, %d] is %#x, want %#x", f, out, in, k, i, got, want)
				}
			}
			for o := range out {
				if h := binary.LittleEndian.Uint16(src["m.scales"].Data[2*(k*out+o):]); formats.F16ToF32(h) != m.Scales[o*g+k] {
					t.Fatalf("%+v [%d, %d]: scale [%d, %d] differs", f, out, in, k, o)
				}
			}
		}
		for i := range in {
			k := uint32(i / (in / g))
			if m.GIdx != nil {
				k = uint32(m.GIdx[i])
			}
			if word(src, "m.g_idx", i) != k {
				t.Fatalf("%+v [%d, %d]: g_idx [%d] differs", f, out, in, i)
			}
		}
		if v := open(t, src, f); !slices.Equal(mustAffine(t, v).Codes, m.Codes) {
			t.Fatalf("%+v [%d, %d]: other codes come back", f, out, in)
		}
	}
}

func mustAffine(t *testing.T, v formats.Quantized) *formats.Affine {
	t.Helper()
	m, err := v.Affine("m.weight")
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// The figures that readers tell the versions apart by.
func TestSymmetricZeros(t *testing.T) {
	for _, c := range []struct {
		bits   int
		v1, v2 uint32
	}{{2, 0x55555555, 0xAAAAAAAA}, {4, 0x77777777, 0x88888888}, {8, 0x7F7F7F7F, 0x80808080}} {
		for version, want := range map[bool]uint32{false: c.v1, true: c.v2} {
			f := Format{Bits: c.bits, Group: -1, V2: version, Symmetric: true}
			src := store(t, f, sample(rand.New(rand.NewPCG(1, 1)), f, 32, 32))
			if got := word(src, "m.qzeros", 0); got != want {
				t.Errorf("%+v: %#x, want %#x", f, got, want)
			}
		}
	}
}

// Narrower codes, and groups that are wider than those of the format, fit; the values stay the same.
func TestEncodeIntoWiderFormat(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 3))
	m := sample(r, Format{Bits: 2, Group: 96, V2: true}, 64, 192)
	want := make([]float32, 64*192)
	m.Dequantize(want, 0)
	for _, f := range []Format{{Bits: 3, Group: 96}, {Bits: 4, Group: 32}, {Bits: 8, Group: 16, V2: true}, {Bits: 2, Group: 48, V2: true, ActOrder: true}} {
		v := open(t, store(t, f, m), f)
		if !slices.Equal(read(t, v, "m.weight"), want) {
			t.Errorf("%+v: values differ", f)
		}
		if got := mustAffine(t, v); got.Bits != f.Bits || got.Group != f.Group {
			t.Errorf("%+v: %d bits in groups of %d come back", f, got.Bits, got.Group)
		}
	}
}

func TestEncodeRefuses(t *testing.T) {
	asymmetric := Format{Bits: 4, Group: 32, V2: true, ActOrder: true}
	for _, c := range []struct {
		name  string
		f     Format
		spoil func(*formats.Affine)
		cause string
		exact bool // the error is not that values would change
	}{
		{"zero point of 0 in version 1", Format{Bits: 4, Group: 32, ActOrder: true}, func(*formats.Affine) {}, "version 2 can", false},
		{"zero points", Format{Bits: 4, Group: 32, V2: true, ActOrder: true, Symmetric: true}, func(*formats.Affine) {}, "symmetric", false},
		{"order", Format{Bits: 4, Group: 32, V2: true}, func(*formats.Affine) {}, "order of their own", false},
		{"fewer bits", Format{Bits: 3, Group: 32, V2: true, ActOrder: true}, func(*formats.Affine) {}, "do not fit into 3 bits", false},
		{"wider groups", Format{Bits: 4, Group: 64, V2: true, ActOrder: true}, func(m *formats.Affine) { m.GIdx = nil }, "groups", false},
		{"scale of BF16", asymmetric, func(m *formats.Affine) { m.Scales[1] = 0x1p-30 }, "1 scales are not values of F16", false},
		{"NaN", asymmetric, func(m *formats.Affine) { m.Scales[1] -= m.Scales[1]; m.Scales[1] /= m.Scales[1] }, "not finite", true},
		{"uneven groups", asymmetric, func(m *formats.Affine) { m.GIdx[0] = (m.GIdx[0] + 1) % 2 }, "columns of a group", true},
		{"no codes", asymmetric, func(m *formats.Affine) { m.Codes = nil }, "0 codes", true},
		{"3 columns", asymmetric, func(m *formats.Affine) { m.In = 3 }, "multiple of 32", true},
		{"7 bits", Format{Bits: 7, Group: 32}, func(*formats.Affine) {}, "7 bits", true},
	} {
		m := sample(rand.New(rand.NewPCG(4, 4)), asymmetric, 32, 64)
		c.spoil(m)
		list, err := c.f.Encode("m", m)
		if err == nil || list != nil || !strings.Contains(err.Error(), c.cause) || !strings.Contains(err.Error(), `"m.weight"`) {
			t.Errorf("%s: error %v, want %q", c.name, err, c.cause)
		}
		var e *formats.Inexact
		if errors.As(err, &e) == c.exact {
			t.Errorf("%s: error of type %T", c.name, err)
		}
	}
}

func TestCheck(t *testing.T) {
	for _, c := range []struct {
		f       Format
		out, in int64
		cause   string // "" where the weight fits
	}{
		{Format{Bits: 4, Group: 128}, 64, 256, ""},
		{Format{Bits: 3, Group: -1}, 32, 96, ""},
		{Format{Bits: 4, Group: 128}, 64, 200, "200 input features"},
		{Format{Bits: 4, Group: 128}, 65, 256, "65 output features"},
		{Format{Bits: 4, Group: 128}, 64, 320, "groups of 128"},
		{Format{Bits: 5, Group: 128}, 64, 256, "5 bits"},
		{Format{Bits: 4, Group: 0}, 64, 256, "group size 0"},
		{Format{Bits: 4, Group: -2}, 64, 256, "group size -2"},
		{Format{Bits: 4, Group: 32}, 0, 256, "usable size"},
		{Format{Bits: 4, Group: 32}, 32, -32, "usable size"},
		{Format{Bits: 4, Group: 32}, 1 << 40, 32, "usable size"},
	} {
		err := c.f.Check(c.out, c.in)
		if (err == nil) != (c.cause == "") || err != nil && !strings.Contains(err.Error(), c.cause) {
			t.Errorf("%+v [%d, %d]: %v, want %q", c.f, c.out, c.in, err, c.cause)
		}
	}
}

func TestTensorsSortedAndSized(t *testing.T) {
	for _, f := range settings() {
		m := sample(rand.New(rand.NewPCG(5, 5)), f, 64, 96)
		list, err := f.Encode("a.b", m)
		if err != nil {
			t.Fatal(err)
		}
		infos := f.Tensors("a.b", 64, 96)
		var names []string
		for i, e := range list {
			if n, err := e.Bytes(); err != nil || n != int64(len(e.Data)) || fmt.Sprint(e.TensorInfo) != fmt.Sprint(infos[i]) {
				t.Errorf("%+v: %v with %d bytes, want %v", f, e.TensorInfo, len(e.Data), infos[i])
			}
			names = append(names, e.Name)
		}
		if !slices.IsSorted(names) {
			t.Errorf("names %v", names)
		}
	}
}
