package awq

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

func word(src memory, name string, i int) uint32 {
	return binary.LittleEndian.Uint32(src[name].Data[4*i:])
}

// The words are those of the definition, nibble by nibble, for weights of all kinds of sizes.
func TestWordsByDefinition(t *testing.T) {
	r := rand.New(rand.NewPCG(11, 12))
	for range 40 {
		out, in := 8*(1+r.IntN(12)), 1+r.IntN(200)
		f := Format{Group: -1, Symmetric: r.IntN(2) == 0}
		if in%3 == 0 {
			f.Group = in / 3
		}
		m := sample(r, f, out, in)
		src := store(t, f, m)
		g := m.Groups()
		for c := range out / 8 {
			for i := range in {
				var want uint32
				for k, row := range []int{0, 2, 4, 6, 1, 3, 5, 7} {
					want |= uint32(int(m.Codes[(8*c+row)*in+i])+8) << (4 * k)
				}
				if got := word(src, "m.qweight", i*out/8+c); got != want {
					t.Fatalf("[%d, %d]: qweight [%d, %d] is %#x, want %#x", out, in, i, c, got, want)
				}
			}
			for k := range g {
				want := uint32(0x88888888)
				if m.Zeros != nil {
					want = 0
					for n, row := range []int{0, 2, 4, 6, 1, 3, 5, 7} {
						want |= uint32(int(m.Zeros[(8*c+row)*g+k])+8) << (4 * n)
					}
				}
				if got := word(src, "m.qzeros", k*out/8+c); got != want {
					t.Fatalf("[%d, %d]: qzeros [%d, %d] is %#x, want %#x", out, in, k, c, got, want)
				}
			}
		}
		got, err := open(t, src, f).Affine("m.weight")
		if err != nil || !slices.Equal(got.Codes, m.Codes) || !slices.Equal(got.Zeros, m.Zeros) || !slices.Equal(got.Scales, m.Scales) {
			t.Fatalf("[%d, %d]: another weight comes back: %v", out, in, err)
		}
	}
}

// Narrower codes, and groups that are wider than those of the format, fit; the values stay the same.
func TestEncodeIntoWiderFormat(t *testing.T) {
	m := sample(rand.New(rand.NewPCG(3, 3)), Format{Group: 96}, 64, 192)
	m.Bits = 3
	for i := range m.Codes {
		m.Codes[i] /= 2
	}
	for i := range m.Zeros {
		m.Zeros[i] /= 2
	}
	want := make([]float32, 64*192)
	m.Dequantize(want, 0)
	for _, group := range []int{96, 48, 8} {
		f := Format{Group: group}
		if !slices.Equal(read(t, open(t, store(t, f, m), f), "m.weight"), want) {
			t.Errorf("groups of %d: values differ", group)
		}
	}
}

func TestEncodeRefuses(t *testing.T) {
	for _, c := range []struct {
		name  string
		f     Format
		spoil func(*formats.Affine)
		cause string
		exact bool // the error is not that values would change
	}{
		{"zero points", Format{Group: 32, Symmetric: true}, func(*formats.Affine) {}, "symmetric", false},
		{"order", Format{Group: 32}, func(m *formats.Affine) { m.GIdx = make([]int32, 64); m.GIdx[0] = 1 }, "order of their own", false},
		{"more bits", Format{Group: 32}, func(m *formats.Affine) { m.Bits, m.Codes[0] = 5, 8 }, "1 codes do not fit into 4 bits", false},
		{"wider groups", Format{Group: 64}, func(*formats.Affine) {}, "groups", false},
		{"scale of BF16", Format{Group: 32}, func(m *formats.Affine) { m.Scales[1] = 0x1p-30 }, "1 scales are not values of F16", false},
		{"no scales", Format{Group: 32}, func(m *formats.Affine) { m.Scales = nil }, "0 scales", true},
		{"9 rows", Format{Group: 32}, func(m *formats.Affine) { m.Out = 9 }, "multiple of 8", true},
	} {
		m := sample(rand.New(rand.NewPCG(4, 4)), Format{Group: 32}, 32, 64)
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
		{Format{Group: 128}, 64, 256, ""},
		{Format{Group: -1}, 8, 77, ""},
		{Format{Group: 128}, 65, 256, "65 output features"},
		{Format{Group: 128}, 64, 320, "groups of 128"},
		{Format{}, 64, 256, "group size 0"},
		{Format{Group: 32}, 0, 256, "usable size"},
		{Format{Group: 32}, 32, -32, "usable size"},
		{Format{Group: 32}, 1 << 40, 32, "usable size"},
	} {
		err := c.f.Check(c.out, c.in)
		if (err == nil) != (c.cause == "") || err != nil && !strings.Contains(err.Error(), c.cause) {
			t.Errorf("%+v [%d, %d]: %v, want %q", c.f, c.out, c.in, err, c.cause)
		}
	}
}

func TestTensorsSortedAndSized(t *testing.T) {
	for _, f := range settings() {
		list, err := f.Encode("a.b", sample(rand.New(rand.NewPCG(5, 5)), f, 64, 96))
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
