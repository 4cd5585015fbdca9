package gptq

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"

	"modelpress/formats"
)

// module is one quantized weight.
type module struct {
	Format // as the weight is stored, which is not always what the config says
	src    formats.Source
	name   string
	out    int
	in     int
	groups int
	scale  formats.DType
	gIdx   []int32 // group of each column; nil where column i belongs to group i/Group
	stored []string
	bytes  int64
}

// openModule checks every tensor of a quantized module.
func openModule(src formats.Source, s *Settings, name string, f *findings) (*module, error) {
	format, err := s.Module(name)
	if err != nil {
		return nil, formats.Errorf(where, name, "%w", err)
	}
	m := &module{Format: format, src: src, name: name}
	if err := m.checkTensors(); err != nil {
		return nil, err
	}
	if err := m.readGIdx(s.assumed, f); err != nil {
		return nil, err
	}
	if err := m.readZeros(f); err != nil {
		return nil, err
	}
	if isLMHead(name) && !s.LMHead {
		f.head.add(name)
	}
	return m, nil
}

// checkTensors compares what is stored with what the format needs, and takes sizes from it.
func (m *module) checkTensors() error {
	codes, _ := m.src.Lookup(m.name + suffixCodes)
	bits := int64(m.Bits)
	if codes.DType != formats.I32 || len(codes.Shape) != 2 || codes.Shape[0] <= 0 || codes.Shape[1] <= 0 {
		return formats.Errorf(where, codes.Name, "I32 of two dimensions is needed, found %s", describe(codes, true))
	}
	if codes.Shape[0] > math.MaxInt32/16 || codes.Shape[1] > math.MaxInt32 || codes.Shape[0]*32%bits != 0 ||
		codes.Shape[1]*bits%32 != 0 || m.Bits == 3 && codes.Shape[1]%block != 0 {
		return formats.Errorf(where, codes.Name, "I32 %v does not hold whole rows and columns of %d bits in words", codes.Shape, m.Bits)
	}
	out, in := codes.Shape[1], codes.Shape[0]*32/bits
	groups := int64(1)
	if m.Group == -1 || int64(m.Group) > in {
		m.Group = -1 // of columns beyond the last there are none
	} else if groups = in / int64(m.Group); in%int64(m.Group) != 0 {
		return formats.Errorf(where, codes.Name, "%d columns do not divide into groups of %d", in, m.Group)
	}
	m.out, m.in, m.groups = int(out), int(in), int(groups)
	scales, ok := m.src.Lookup(m.name + suffixScales)
	if !ok || !slices.Equal(scales.Shape, []int64{groups, out}) ||
		scales.DType != formats.F16 && scales.DType != formats.BF16 && scales.DType != formats.F32 {
		return formats.Errorf(where, m.name+suffixScales, "F16, BF16 or F32 [%d, %d] is needed, found %s", groups, out, describe(scales, ok))
	}
	m.scale = scales.DType
	if err := m.need(suffixZeros, formats.I32, groups, out*bits/32); err != nil {
		return err
	}
	for _, s := range []string{suffixCodes, suffixScales, suffixZeros, suffixGIdx} {
		t, ok := m.src.Lookup(m.name + s)
		if !ok {
			continue
		}
		n, err := t.Bytes()
		if err != nil {
			return formats.Errorf(where, t.Name, "%w", err)
		}
		m.stored, m.bytes = append(m.stored, t.Name), m.bytes+n
	}
	return nil
}

func (m *module) need(suffix string, dt formats.DType, shape ...int64) error {
	t, ok := m.src.Lookup(m.name + suffix)
	if !ok || t.DType != dt || !slices.Equal(t.Shape, shape) {
		return formats.Errorf(where, m.name+suffix, "%s %v is needed, found %s", dt, shape, describe(t, ok))
	}
	return nil
}

func describe(t formats.TensorInfo, ok bool) string {
	if !ok {
		return "no such tensor"
	}
	return fmt.Sprintf("%s %v", t.DType, t.Shape)
}

// readGIdx reads the groups of the columns and keeps them where they are not in order.
func (m *module) readGIdx(assumed bool, f *findings) error {
	name := m.name + suffixGIdx
	if _, ok := m.src.Lookup(name); !ok {
		if m.ActOrder && !assumed {
			return formats.Errorf(where, name, "missing, although desc_act is true")
		}
		return nil
	}
	if err := m.need(suffixGIdx, formats.I32, int64(m.in)); err != nil {
		return err
	}
	b := make([]byte, 4*m.in)
	if err := m.src.ReadAt(name, b, 0); err != nil {
		return err
	}
	idx, ordered, width := make([]int32, m.in), false, m.in/m.groups
	for i := range idx {
		g := int32(binary.LittleEndian.Uint32(b[4*i:]))
		if g < 0 || int(g) >= m.groups {
			return formats.Errorf(where, name, "group %d at index %d of %d groups", g, i, m.groups)
		}
		idx[i], ordered = g, ordered || int(g) != i/width
	}
	if !ordered {
		return nil
	}
	if g := unbalanced(idx, m.groups); g >= 0 {
		return formats.Errorf(where, name, "group %d does not have the %d columns of a group", g, width)
	}
	if !m.ActOrder {
		f.order.add(m.name)
	}
	m.gIdx = idx
	return nil
}

// grid describes the module to the view.
func (m *module) grid(conv1D bool) formats.Grid {
	return formats.Grid{
		Name: m.name + suffixWeight, Out: m.out, In: m.in, Transposed: conv1D, Rows: m.rows,
		Storage: formats.Storage{
			Format: m.Format.name(), Bits: 8 * float64(m.bytes) / float64(m.out) / float64(m.in), Code: m.Bits, Group: m.Group,
			Symmetric: m.Symmetric, Ordered: m.gIdx != nil, Grid: true, Tensors: m.stored,
		},
	}
}
