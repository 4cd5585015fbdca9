package packed

import (
	"encoding/binary"
	"slices"

	"modelpress/formats"
)

// ints is a weight whose codes are integers.
type ints struct {
	module
	groups int
	gIdx   []int32 // group of each column; nil where column i belongs to group i/GroupSize
}

// openInts checks every tensor of a weight with integer codes.
func openInts(src formats.Source, m module) (*ints, error) {
	w := &ints{module: m}
	out, in, err := w.shape(src)
	if err != nil {
		return nil, err
	}
	if err := w.Check(out, in); err != nil {
		return nil, formats.Errorf(where, w.name+suffixWeight, "%w", err)
	}
	w.groups = int(w.Groups(in))
	show, err := w.checkTensors(src, out, in)
	if err != nil {
		return nil, err
	}
	if err := w.readGIdx(src, in); err != nil {
		return nil, err
	}
	have := []string{suffixScale, suffixGIdx}
	if w.format == FormatInt {
		have = append(have, suffixWeight)
	} else {
		have = append(have, suffixPacked, suffixShape)
	}
	if !w.Symmetric {
		have = append(have, suffixZero)
	}
	w.storage = formats.Storage{Code: w.Bits, Group: w.GroupSize, Symmetric: w.Symmetric, Ordered: w.gIdx != nil, Grid: true}
	return w, w.finish(src, show, out, in, have...)
}

// shape returns the logical size of the weight: of the int8 tensor itself, or what weight_shape says of the packed one.
func (w *ints) shape(src formats.Source) (out, in int64, err error) {
	if w.format == FormatInt {
		name := w.name + suffixWeight
		t, ok := src.Lookup(name)
		if !ok || t.DType != formats.I8 || len(t.Shape) != 2 {
			return 0, 0, formats.Errorf(where, name, "%s needs an I8 tensor of two dimensions, found %s", FormatInt, describe(t, ok))
		}
		return t.Shape[0], t.Shape[1], nil
	}
	if t, ok := src.Lookup(w.name + suffixWeight); ok {
		if _, ok := src.Lookup(w.name + suffixPacked); !ok {
			return 0, 0, formats.Errorf(where, t.Name, "%s %v where quantization_config says %s", t.DType, t.Shape, w.format)
		}
	}
	name := w.name + suffixShape
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

// checkTensors compares what is stored with what the scheme needs for a weight [out, in]. It returns the type of the scales.
func (w *ints) checkTensors(src formats.Source, out, in int64) (formats.DType, error) {
	g := w.Groups(in)
	show, err := scaleType(src, w.name+suffixScale, []int64{out, g})
	if err != nil {
		return show, err
	}
	zero := formats.TensorInfo{Name: w.name + suffixZero, DType: formats.I32, Shape: []int64{words(out, w.Bits), g}}
	if w.format == FormatInt {
		zero.DType, zero.Shape = formats.I8, []int64{out, g}
	} else if err := need(src, w.name+suffixPacked, formats.I32, out, words(in, w.Bits)); err != nil {
		return show, err
	}
	if !w.Symmetric {
		return show, need(src, zero.Name, zero.DType, zero.Shape...)
	}
	return show, nil
}

// readGIdx reads the groups of the columns where the scheme has them in another order than they lie in.
func (w *ints) readGIdx(src formats.Source, in int64) error {
	name := w.name + suffixGIdx
	if _, ok := src.Lookup(name); !ok {
		if w.ordered {
			return formats.Errorf(where, name, "missing, although actorder is group")
		}
		return nil
	}
	if w.GroupSize == -1 {
		return formats.Errorf(where, name, "%w", errOrderOfOne)
	}
	if err := need(src, name, formats.I32, in); err != nil {
		return err
	}
	idx, err := readWords(src, name, 0, int(in))
	if err != nil {
		return err
	}
	// A list of -1 is what the original software writes before it has set an order: columns lie in order.
	if !slices.ContainsFunc(idx, func(g int32) bool { return g != -1 }) {
		return nil
	}
	for i, g := range idx {
		if g < 0 || int(g) >= w.groups {
			return formats.Errorf(where, name, "group %d at index %d of %d groups", g, i, w.groups)
		}
	}
	// The original sorts columns by group and cuts them into equal parts; others take the scale that is named. They agree where
	// all groups have the same size.
	if g := unequal(idx, w.groups); g != -1 {
		return formats.Errorf(where, name, "group %d has not %d columns like the others", g, w.GroupSize)
	}
	w.gIdx = idx
	return nil
}

// values implements weight: w[i] = (codes[i] - zeros[g]) * scales[g], g the group of column i. The difference is exact in every
// type of scale, so the rounding to that type which follows is the only one, as in the original arithmetic.
func (w *ints) values(src formats.Source, dst []float32, first int) error {
	m, err := w.read(src, first, len(dst)/w.in)
	if err != nil {
		return err
	}
	m.Dequantize(dst, 0)
	return nil
}

// read returns rows [first, first+n).
func (w *ints) read(src formats.Source, first, n int) (*formats.Affine, error) {
	m := &formats.Affine{Out: n, In: w.in, Bits: w.Bits, Group: w.GroupSize, Scale: w.info.DType, GIdx: w.gIdx}
	var err error
	if m.Codes, err = w.codes(src, first, n); err != nil {
		return nil, err
	}
	m.Scales = make([]float32, n*w.groups)
	at := int64(first) * int64(w.groups)
	if err := formats.ReadF32(src, w.name+suffixScale, m.Scales, at); err != nil {
		return nil, err
	}
	if err := formats.CheckFinite(where, w.name+suffixScale, m.Scales, at); err != nil {
		return nil, err
	}
	if !w.Symmetric {
		m.Zeros, err = w.zeros(src, first, n)
	}
	return m, err
}

// codes returns the signed codes of rows [first, first+n).
func (w *ints) codes(src formats.Source, first, n int) ([]int8, error) {
	if w.format == FormatInt {
		return readSigned(src, w.name+suffixWeight, int64(first)*int64(w.in), n*w.in)
	}
	per := int(words(int64(w.in), w.Bits))
	list, err := readWords(src, w.name+suffixPacked, int64(first)*int64(per), n*per)
	if err != nil {
		return nil, err
	}
	return Unpack(list, n, w.in, w.Bits), nil
}

// zeros returns the signed zero points [n, groups] of rows [first, first+n).
func (w *ints) zeros(src formats.Source, first, n int) ([]int8, error) {
	if w.format == FormatInt {
		return readSigned(src, w.name+suffixZero, int64(first)*int64(w.groups), n*w.groups)
	}
	per := 32 / w.Bits
	lo, hi := first/per, (first+n+per-1)/per
	list, err := readWords(src, w.name+suffixZero, int64(lo)*int64(w.groups), (hi-lo)*w.groups)
	if err != nil {
		return nil, err
	}
	skip := first - lo*per
	return UnpackZeros(list, skip+n, w.groups, w.Bits)[skip*w.groups:], nil
}

func readSigned(src formats.Source, name string, first int64, n int) ([]int8, error) {
	b := make([]byte, n)
	if err := src.ReadAt(name, b, first); err != nil {
		return nil, err
	}
	list := make([]int8, n)
	for i, v := range b {
		list[i] = int8(v)
	}
	return list, nil
}

func readWords(src formats.Source, name string, first int64, n int) ([]int32, error) {
	b := make([]byte, 4*n)
	if err := src.ReadAt(name, b, 4*first); err != nil {
		return nil, err
	}
	w := make([]int32, n)
	for i := range w {
		w[i] = int32(binary.LittleEndian.Uint32(b[4*i:]))
	}
	return w, nil
}
