package packed

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
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
		if name == "__metadata__" {
			continue
		}
		dt, err := formats.ParseDType(h.DType)
		if err != nil {
			t.Fatal(err)
		}
		m.put(name, dt, b[n:][h.Offsets[0]:h.Offsets[1]], h.Shape...)
	}
	return m
}

// readAll returns the whole data of a tensor.
func readAll(t *testing.T, src formats.Source, name string) []byte {
	t.Helper()
	info, ok := src.Lookup(name)
	if !ok {
		t.Fatalf("no tensor %s", name)
	}
	n, err := info.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, n)
	if err := src.ReadAt(name, b, 0); err != nil {
		t.Fatal(err)
	}
	return b
}
