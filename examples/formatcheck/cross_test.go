// Package formatcheck compares the formats of quantized weights with each other and, by its scripts, with the software that they come from.
package formatcheck

import (
	"fmt"
	"io"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	"modelpress/formats"
	"modelpress/formats/awq"
	"modelpress/formats/gptq"
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
	if !ok || off < 0 || off+int64(len(p)) > int64(len(t.Data)) {
		return io.ErrUnexpectedEOF
	}
	copy(p, t.Data[off:])
	return nil
}

// way is a format and its reader.
type way struct {
	name   string
	format formats.AffineFormat
	open   func(formats.Source) (formats.Quantized, error)
}

// ways are the formats that hold 4 bits in some groups.
func ways(group int) []way {
	var list []way
	for _, f := range []gptq.Format{{Bits: 4, Group: group}, {Bits: 4, Group: group, V2: true}, {Bits: 4, Group: group, V2: true, ActOrder: true}} {
		list = append(list, way{fmt.Sprintf("gptq %+v", f), f, func(s formats.Source) (formats.Quantized, error) {
			return gptq.Dense(s, f.Config([]string{"m"}, nil))
		}})
	}
	f := awq.Format{Group: group}
	return append(list, way{fmt.Sprintf("awq %+v", f), f, func(s formats.Source) (formats.Quantized, error) {
		config, err := f.Config([]string{"m"}, nil)
		if err != nil {
			return nil, err
		}
		return awq.Dense(s, config)
	}})
}

// through writes a weight in a format and reads it back: as the grid, and as its values.
func through(t *testing.T, w way, m *formats.Affine) (*formats.Affine, []float32) {
	t.Helper()
	list, err := w.format.Encode("m", m)
	if err != nil {
		t.Fatal(err)
	}
	src := memory{}
	for _, e := range list {
		src[e.Name] = e
	}
	v, err := w.open(src)
	if err != nil {
		t.Fatal(err)
	}
	got, err := v.Affine("m.weight")
	if err != nil {
		t.Fatal(err)
	}
	values := make([]float32, m.Out*m.In)
	if err := formats.ReadF32(v, "m.weight", values, 0); err != nil {
		t.Fatal(err)
	}
	return got, values
}

// A weight goes from each format into each other, and comes out as it went in.
func TestLosslessConversion(t *testing.T) {
	r := rand.New(rand.NewPCG(21, 22))
	for _, group := range []int{-1, 32, 64} {
		for _, symmetric := range []bool{false, true} {
			m := &formats.Affine{Out: 96, In: 192, Bits: 4, Group: group, Scale: formats.F16, Codes: make([]int8, 96*192)}
			for i := range m.Codes {
				m.Codes[i] = int8(r.IntN(16) - 8)
			}
			for range m.Out * m.Groups() {
				m.Scales = append(m.Scales, formats.F16ToF32(uint16(r.IntN(0x7c00))))
				if !symmetric {
					m.Zeros = append(m.Zeros, int8(r.IntN(15)-7))
				}
			}
			want := make([]float32, m.Out*m.In)
			m.Dequantize(want, 0)
			for _, from := range ways(group) {
				for _, to := range ways(group) {
					first, _ := through(t, from, m)
					second, values := through(t, to, first)
					if !reflect.DeepEqual(second, m) || !slices.Equal(values, want) {
						t.Errorf("%s to %s: another weight", from.name, to.name)
					}
				}
			}
		}
	}
}
