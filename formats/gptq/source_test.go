package gptq

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
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
	m := &formats.Affine{Out: out, In: in, Bits: f.Bits, Group: f.Group, Scale: formats.F16}
	code := func(lowest int) int8 { return int8(lowest + r.IntN(1<<f.Bits-(lowest+1<<(f.Bits-1)))) }
	g := m.Groups()
	m.Codes, m.Scales = make([]int8, out*in), make([]float32, out*g)
	for i := range m.Codes {
		m.Codes[i] = code(-1 << (f.Bits - 1))
	}
	for i := range m.Scales {
		m.Scales[i] = formats.F16ToF32(formats.F16FromF32(float32(r.NormFloat64()) / 64))
	}
	if !f.Symmetric {
		lowest := -1 << (f.Bits - 1)
		if !f.V2 {
			lowest++
		}
		m.Zeros = make([]int8, out*g)
		for i := range m.Zeros {
			m.Zeros[i] = code(lowest)
		}
		m.Zeros[0], m.Zeros[len(m.Zeros)-1] = int8(lowest), 1 // not those of a symmetric weight
	}
	if f.ActOrder && g > 1 {
		m.GIdx = make([]int32, in)
		for i := range m.GIdx {
			m.GIdx[i] = int32(i % g)
		}
		r.Shuffle(in, func(i, j int) { m.GIdx[i], m.GIdx[j] = m.GIdx[j], m.GIdx[i] })
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
	v, err := Dense(src, f.Config([]string{"m"}, nil))
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

// loadFile reads a trusted file of testdata; the strict reader lives in a package that this one may not import.
func loadFile(t *testing.T, path string) memory {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	n := 8 + binary.LittleEndian.Uint64(b)
	var header map[string]struct {
		DType   string   `json:"dtype"`
		Shape   []int64  `json:"shape"`
		Offsets [2]int64 `json:"data_offsets"`
	}
	if err := json.Unmarshal(b[8:n], &header); err != nil {
		t.Fatal(err)
	}
	m := memory{}
	for name, h := range header {
		dt, err := formats.ParseDType(h.DType)
		if err != nil {
			t.Fatal(err)
		}
		m.put(name, dt, b[n:][h.Offsets[0]:h.Offsets[1]], h.Shape...)
	}
	return m
}
