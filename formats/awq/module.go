package awq

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"

	"modelpress/formats"
)

// module is one quantized weight.
type module struct {
	Format // as the weight is stored
	src    formats.Source
	name   string
	out    int
	in     int
	groups int
	scale  formats.DType
	stored []string
	bytes  int64
}

// openModule checks every tensor of a quantized module.
func openModule(src formats.Source, s *Settings, name string) (*module, error) {
	m := &module{Format: Format{Group: s.Group}, src: src, name: name}
	if err := m.checkTensors(); err != nil {
		return nil, err
	}
	m.Symmetric = true
	const word = 0x11111111 * middle
	return m, formats.ReadColumns(src, name+suffixZeros, 0, m.out/fields, func(_ int, b []byte) {
		for i := 0; i < len(b); i += 4 {
			m.Symmetric = m.Symmetric && binary.LittleEndian.Uint32(b[i:]) == word
		}
	})
}

// checkTensors compares what is stored with what the format needs, and takes sizes from it.
func (m *module) checkTensors() error {
	codes, _ := m.src.Lookup(m.name + suffixCodes)
	if codes.DType != formats.I32 || len(codes.Shape) != 2 || codes.Shape[0] <= 0 || codes.Shape[1] <= 0 {
		return formats.Errorf(where, codes.Name, "I32 of two dimensions is needed, found %s", describe(codes, true))
	}
	if codes.Shape[0] > math.MaxInt32 || codes.Shape[1] > math.MaxInt32/fields {
		return formats.Errorf(where, codes.Name, "I32 %v is no weight of a usable size", codes.Shape)
	}
	in, out := codes.Shape[0], codes.Shape[1]*fields
	if m.Group > 0 && int64(m.Group) > in {
		return formats.Errorf(where, codes.Name, "%d columns, where a group has %d", in, m.Group)
	}
	if err := m.Check(out, in); err != nil {
		return formats.Errorf(where, codes.Name, "%w", err)
	}
	groups := m.Format.groups(in)
	m.out, m.in, m.groups = int(out), int(in), int(groups)
	scales, ok := m.src.Lookup(m.name + suffixScales)
	if !ok || !slices.Equal(scales.Shape, []int64{groups, out}) ||
		scales.DType != formats.F16 && scales.DType != formats.BF16 && scales.DType != formats.F32 {
		return formats.Errorf(where, m.name+suffixScales, "F16, BF16 or F32 [%d, %d] is needed, found %s", groups, out, describe(scales, ok))
	}
	m.scale = scales.DType
	zeros, ok := m.src.Lookup(m.name + suffixZeros)
	if want := []int64{groups, out / fields}; !ok || zeros.DType != formats.I32 || !slices.Equal(zeros.Shape, want) {
		return formats.Errorf(where, m.name+suffixZeros, "I32 %v is needed, found %s", want, describe(zeros, ok))
	}
	for _, t := range []formats.TensorInfo{codes, scales, zeros} {
		n, err := t.Bytes()
		if err != nil {
			return formats.Errorf(where, t.Name, "%w", err)
		}
		m.stored, m.bytes = append(m.stored, t.Name), m.bytes+n
	}
	return nil
}

func describe(t formats.TensorInfo, ok bool) string {
	if !ok {
		return "no such tensor"
	}
	return fmt.Sprintf("%s %v", t.DType, t.Shape)
}

// grid describes the module to the view.
func (m *module) grid() formats.Grid {
	return formats.Grid{
		Name: m.name + suffixWeight, Out: m.out, In: m.in, Rows: m.rows,
		Storage: formats.Storage{
			Format: "awq", Bits: 8 * float64(m.bytes) / float64(m.out) / float64(m.in), Code: 4, Group: m.Group,
			Symmetric: m.Symmetric, Grid: true, Tensors: m.stored,
		},
	}
}
