package awq

import (
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"modelpress/formats"
)

// memory is a Source of tensors held in memory.
type memory map[string]formats.Tensor

func (m memory) Tensors() []formats.TensorInfo {
	var list []formats.TensorInfo
	for _, t := range m {
		list = append(list, t.TensorInfo)
	}
	slices.SortFunc(list, func(a, b formats.TensorInfo) int { return strings.Compare(a.Name, b.Name) })
	return list
}

func (m memory) Lookup(name string) (formats.TensorInfo, bool) {
	t, ok := m[name]
	return t.TensorInfo, ok
}

func (m memory) ReadAt(name string, p []byte, off int64) error {
	t, ok := m[name]
	if !ok {
		return fmt.Errorf("no tensor %q", name)
	}
	if off < 0 || off+int64(len(p)) > int64(len(t.Data)) {
		return io.ErrUnexpectedEOF
	}
	copy(p, t.Data[off:])
	return nil
}

func (m memory) put(name string, dt formats.DType, data []byte, shape ...int64) {
	m[name] = formats.Tensor{TensorInfo: formats.TensorInfo{Name: name, DType: dt, Shape: shape}, Data: data}
}

func (m memory) add(list []formats.Tensor) {
	for _, t := range list {
		m[t.Name] = t
	}
}

// sample draws a weight [out, in] that the format holds.
func sample(r *rand.Rand, f Format, out, in int) *formats.Affine {
	m := &formats.Affine{Out: out, In: in, Bits: bits, Group: f.Group, Scale: formats.F16}
	code := func() int8 { return int8(r.IntN(16) - middle) }
	g := m.Groups()
	m.Codes, m.Scales = make([]int8, out*in), make([]float32, out*g)
	for i := range m.Codes {
		m.Codes[i] = code()
	}
	for i := range m.Scales {
		m.Scales[i] = formats.F16ToF32(formats.F16FromF32(float32(r.NormFloat64()) / 64))
	}
	if !f.Symmetric {
		m.Zeros = make([]int8, out*g)
		for i := range m.Zeros {
			m.Zeros[i] = code()
		}
		m.Zeros[0] = -8
	}
	return m
}

// store returns a checkpoint with one module "m".
func store(t testing.TB, f Format, m *formats.Affine) memory {
	t.Helper()
	list, err := f.Encode("m", m)
	if err != nil {
		t.Fatal(err)
	}
	src := memory{}
	src.add(list)
	return src
}

// open returns the view of a checkpoint.
func open(t testing.TB, src formats.Source, f Format) formats.Quantized {
	t.Helper()
	config, err := f.Config([]string{"m"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	v, err := Dense(src, config)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// read returns the values of a shown tensor.
func read(t testing.TB, src formats.Source, name string) []float32 {
	t.Helper()
	info, ok := src.Lookup(name)
	if !ok {
		t.Fatalf("no tensor %s", name)
	}
	n, err := info.Elements()
	if err != nil {
		t.Fatal(err)
	}
	v := make([]float32, n)
	if err := formats.ReadF32(src, name, v, 0); err != nil {
		t.Fatal(err)
	}
	return v
}
