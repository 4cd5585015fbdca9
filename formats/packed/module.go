package packed

import (
	"encoding/binary"
	"fmt"
	"slices"

	"modelpress/formats"
)

// openModule checks every tensor of a quantized module and marks them in hidden.
func openModule(src formats.Source, r *rules, name string, hidden map[string]bool) (*module, error) {
	st, err := r.find(name)
	if err != nil {
		return nil, formats.Errorf(where, name, "%w", err)
	}
	m := &module{stored: st, name: name}
	out, in, err := m.shape(src)
	if err != nil {
		return nil, err
	}
	if err := m.Check(out, in); err != nil {
		return nil, formats.Errorf(where, name+suffixWeight, "%w", err)
	}
	m.in, m.groups = int(in), int(m.Groups(in))
	if err := m.checkTensors(src, out, in); err != nil {
		return nil, err
	}
	if err := m.readGIdx(src); err != nil {
		return nil, err
	}
	scale, _ := src.Lookup(name + suffixScale)
	m.info = formats.TensorInfo{Name: name + suffixWeight, DType: scale.DType, Shape: []int64{out, in}}
	for _, s := range []string{suffixPacked, suffixScale, suffixShape, suffixZero, suffixGIdx, suffixWeight} {
		hidden[name+s] = true
	}
	return m, nil
}

// shape returns the logical size of the weight: of the int8 tensor itself, or what weight_shape says of the packed one.
func (m *module) shape(src formats.Source) (out, in int64, err error) {
	if m.format == intQuantized {
		name := m.name + suffixWeight
		t, ok := src.Lookup(name)
		if !ok || t.DType != formats.I8 || len(t.Shape) != 2 {
			return 0, 0, formats.Errorf(where, name, "%s needs an I8 tensor of two dimensions, found %s", intQuantized, describe(t, ok))
		}
		return t.Shape[0], t.Shape[1], nil
	}
	if t, ok := src.Lookup(m.name + suffixWeight); ok {
		if _, ok := src.Lookup(m.name + suffixPacked); !ok {
			return 0, 0, formats.Errorf(where, t.Name, "%s %v where quantization_config says %s", t.DType, t.Shape, m.format)
		}
		return 0, 0, formats.Errorf(where, t.Name, "stands beside the packed form of the same weight")
	}
	name := m.name + suffixShape
	t, ok := src.Lookup(name)
	// Some writers store the two numbers as I32.
	if !ok || t.DType != formats.I64 && t.DType != formats.I32 || !slices.Equal(t.Shape, []int64{2}) {
		return 0, 0, formats.Errorf(where, name, "I64 [2] is needed, found %s", describe(t, ok))
	}
	b := make([]byte, 2*t.DType.Size())
	if err := src.ReadAt(name, b, 0); err != nil {
		return 0, 0, err
	}
	if t.DType == formats.I32 {
		return int64(int32(binary.LittleEndian.Uint32(b))), int64(int32(binary.LittleEndian.Uint32(b[4:]))), nil
	}
	return int64(binary.LittleEndian.Uint64(b)), int64(binary.LittleEndian.Uint64(b[8:])), nil
}

// checkTensors compares what is stored with what the scheme needs for a weight [out, in].
func (m *module) checkTensors(src formats.Source, out, in int64) error {
	g := m.Groups(in)
	scale, ok := src.Lookup(m.name + suffixScale)
	if !ok || !slices.Equal(scale.Shape, []int64{out, g}) ||
		scale.DType != formats.BF16 && scale.DType != formats.F16 && scale.DType != formats.F32 {
		return formats.Errorf(where, m.name+suffixScale, "BF16, F16 or F32 [%d, %d] is needed, found %s", out, g, describe(scale, ok))
	}
	zero := formats.TensorInfo{Name: m.name + suffixZero, DType: formats.I32, Shape: []int64{words(out, m.Bits), g}}
	if m.format == intQuantized {
		zero.DType, zero.Shape = formats.I8, []int64{out, g}
	} else if err := need(src, m.name+suffixPacked, formats.I32, out, words(in, m.Bits)); err != nil {
		return err
	}
	if !m.Symmetric {
		return need(src, zero.Name, zero.DType, zero.Shape...)
	}
	if _, ok := src.Lookup(zero.Name); ok {
		return formats.Errorf(where, zero.Name, "zero points beside a symmetric scheme")
	}
	return nil
}

// readGIdx reads the groups of the columns where the scheme has them in another order than they lie in.
func (m *module) readGIdx(src formats.Source) error {
	name := m.name + suffixGIdx
	if _, ok := src.Lookup(name); !ok {
		if m.ordered {
			return formats.Errorf(where, name, "missing, although actorder is group")
		}
		return nil
	}
	if m.GroupSize == -1 {
		return formats.Errorf(where, name, "column groups beside a scheme with one scale per row")
	}
	if err := need(src, name, formats.I32, int64(m.in)); err != nil {
		return err
	}
	idx, err := readWords(src, name, 0, m.in)
	if err != nil {
		return err
	}
	// A list of -1 is what the original software writes before it has set an order: columns lie in order.
	if !slices.ContainsFunc(idx, func(g int32) bool { return g != -1 }) {
		return nil
	}
	for i, g := range idx {
		if g < 0 || int(g) >= m.groups {
			return formats.Errorf(where, name, "group %d at index %d of %d groups", g, i, m.groups)
		}
	}
	m.gIdx = idx
	return nil
}

func need(src formats.Source, name string, dt formats.DType, shape ...int64) error {
	t, ok := src.Lookup(name)
	if !ok || t.DType != dt || !slices.Equal(t.Shape, shape) {
		return formats.Errorf(where, name, "%s %v is needed, found %s", dt, shape, describe(t, ok))
	}
	return nil
}

func describe(t formats.TensorInfo, ok bool) string {
	if !ok {
		return "no such tensor"
	}
	return fmt.Sprintf("%s %v", t.DType, t.Shape)
}
