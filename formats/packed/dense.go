package packed

import (
	"encoding/binary"
	"encoding/json"
	"slices"
	"strings"

	"modelpress/formats"
)

// where stands for the file in errors about tensors: a view does not know which shard of its source holds one.
const where = "quantized checkpoint"

// dense shows a quantized checkpoint with its weights dequantized.
type dense struct {
	src     formats.Source
	infos   []formats.TensorInfo
	modules map[string]*module // by the name of the dense weight
}

// module is one quantized weight.
type module struct {
	stored
	name   string
	info   formats.TensorInfo // dense: the type of the scales, [out, in]
	in     int
	groups int
	gIdx   []int32 // group of each column; nil where column i belongs to group i/GroupSize
}

// Dense returns a view of a compressed-tensors checkpoint in which each quantized module M has one tensor M.weight in the
// type of its scales, dequantized as compressed-tensors itself does it, in place of the tensors that it is stored in.
// quantizationConfig is the value of quantization_config in config.json. Other tensors are those of src, unchanged. Weights
// whose activations the config quantizes at run time (dynamic) are shown as they are; the effect on activations is not.
// All modules are checked now: names, types, shapes and column orders against each other and the config.
func Dense(src formats.Source, quantizationConfig json.RawMessage) (formats.Source, error) {
	r, err := parseRules(quantizationConfig)
	if err != nil {
		return nil, formats.Errorf("config.json", "", "quantization_config: %w", err)
	}
	d := &dense{src: src, modules: map[string]*module{}}
	hidden := map[string]bool{}
	for _, t := range src.Tensors() {
		name, ok := quantizedModule(t)
		if !ok {
			continue
		}
		m, err := openModule(src, r, name, hidden)
		if err != nil {
			return nil, err
		}
		d.modules[m.info.Name] = m
	}
	for _, t := range src.Tensors() {
		if !hidden[t.Name] {
			if err := stray(t); err != nil {
				return nil, err
			}
			d.infos = append(d.infos, t)
		}
	}
	for _, m := range d.modules {
		d.infos = append(d.infos, m.info)
	}
	slices.SortFunc(d.infos, func(a, b formats.TensorInfo) int { return strings.Compare(a.Name, b.Name) })
	return d, nil
}

// quantizedModule returns the module whose codes a tensor holds.
func quantizedModule(t formats.TensorInfo) (string, bool) {
	if name, ok := strings.CutSuffix(t.Name, suffixPacked); ok {
		return name, true
	}
	if t.DType == formats.I8 {
		return strings.CutSuffix(t.Name, suffixWeight)
	}
	return "", false
}

// stray refuses leftovers of the quantized form whose codes are missing.
func stray(t formats.TensorInfo) error {
	for _, s := range []string{suffixScale, suffixShape, suffixZero, suffixGIdx} {
		if strings.HasSuffix(t.Name, s) {
			return formats.Errorf(where, t.Name, "belongs to no packed or int8 weight")
		}
	}
	return nil
}

// Tensors implements [formats.Source].
func (d *dense) Tensors() []formats.TensorInfo { return d.infos }

// Lookup implements [formats.Source].
func (d *dense) Lookup(name string) (formats.TensorInfo, bool) {
	i, ok := slices.BinarySearchFunc(d.infos, name, func(t formats.TensorInfo, n string) int { return strings.Compare(t.Name, n) })
	if !ok {
		return formats.TensorInfo{}, false
	}
	return d.infos[i], true
}

// chunkValues bounds how many weights are dequantized at once.
const chunkValues = 1 << 18

// ReadAt implements [formats.Source]. Whole rows are dequantized; a read that ends inside one uses a part of it.
func (d *dense) ReadAt(name string, p []byte, off int64) error {
	m, ok := d.modules[name]
	if !ok {
		if _, ok := d.Lookup(name); !ok {
			return formats.Errorf(where, name, "no such tensor")
		}
		return d.src.ReadAt(name, p, off)
	}
	size, err := m.info.Bytes()
	if err != nil || off < 0 || int64(len(p)) > size-off {
		return formats.Errorf(where, name, "read of bytes [%d, %d+%d) of %d", off, off, len(p), size)
	}
	row := int64(m.in * m.info.DType.Size())
	step := max(1, int64(chunkValues/m.in))
	for len(p) > 0 {
		first := off / row
		last := min((off+int64(len(p))+row-1)/row, first+step)
		b, err := m.rows(d.src, int(first), int(last-first))
		if err != nil {
			return err
		}
		n := copy(p, b[off-first*row:])
		p, off = p[n:], off+int64(n)
	}
	return nil
}

// rows returns the dense rows [first, first+n) as bytes.
func (m *module) rows(src formats.Source, first, n int) ([]byte, error) {
	codes, err := m.codes(src, first, n)
	if err != nil {
		return nil, err
	}
	scales := make([]float32, n*m.groups)
	if err := formats.ReadF32(src, m.name+suffixScale, scales, int64(first*m.groups)); err != nil {
		return nil, err
	}
	if err := formats.CheckFinite(where, m.name+suffixScale, scales, int64(first*m.groups)); err != nil {
		return nil, err
	}
	zeros, err := m.zeros(src, first, n)
	if err != nil {
		return nil, err
	}
	w := make([]float32, n*m.in)
	for r := range n {
		m.dequantize(w[r*m.in:(r+1)*m.in], codes[r*m.in:], scales[r*m.groups:], zeros[r*m.groups:])
	}
	b := make([]byte, len(w)*m.info.DType.Size())
	return b, formats.Encode(b, w, m.info.DType)
}

// dequantize computes one row: w[i] = (codes[i] - zeros[g]) * scales[g], g the group of column i. The difference is exact
// in every type of scale, so the rounding to that type which follows is the only one, as in the original arithmetic.
func (m *module) dequantize(w []float32, codes []int8, scales []float32, zeros []int8) {
	if m.gIdx != nil {
		for i := range w {
			g := m.gIdx[i]
			w[i] = float32(int(codes[i])-int(zeros[g])) * scales[g]
		}
		return
	}
	size := len(w) / m.groups
	for g := range m.groups {
		z, s := int(zeros[g]), scales[g]
		part, q := w[g*size:(g+1)*size], codes[g*size:(g+1)*size]
		for i := range part {
			part[i] = float32(int(q[i])-z) * s
		}
	}
}

// codes returns the signed codes of rows [first, first+n).
func (m *module) codes(src formats.Source, first, n int) ([]int8, error) {
	if m.format == intQuantized {
		b := make([]byte, n*m.in)
		if err := src.ReadAt(m.name+suffixWeight, b, int64(first*m.in)); err != nil {
			return nil, err
		}
		codes := make([]int8, len(b))
		for i, v := range b {
			codes[i] = int8(v)
		}
		return codes, nil
	}
	per := int(words(int64(m.in), m.Bits))
	w, err := readWords(src, m.name+suffixPacked, first*per, n*per)
	if err != nil {
		return nil, err
	}
	return Unpack(w, n, m.in, m.Bits), nil
}

// zeros returns the signed zero points [n, groups] of rows [first, first+n): all 0 where the scheme is symmetric.
func (m *module) zeros(src formats.Source, first, n int) ([]int8, error) {
	if m.Symmetric {
		return make([]int8, n*m.groups), nil
	}
	if m.format == intQuantized {
		b := make([]byte, n*m.groups)
		if err := src.ReadAt(m.name+suffixZero, b, int64(first*m.groups)); err != nil {
			return nil, err
		}
		z := make([]int8, len(b))
		for i, v := range b {
			z[i] = int8(v)
		}
		return z, nil
	}
	per := 32 / m.Bits
	lo, hi := first/per, (first+n+per-1)/per
	w, err := readWords(src, m.name+suffixZero, lo*m.groups, (hi-lo)*m.groups)
	if err != nil {
		return nil, err
	}
	skip := first - lo*per
	return UnpackZeros(w, skip+n, m.groups, m.Bits)[skip*m.groups:], nil
}

func readWords(src formats.Source, name string, first, n int) ([]int32, error) {
	b := make([]byte, 4*n)
	if err := src.ReadAt(name, b, 4*int64(first)); err != nil {
		return nil, err
	}
	w := make([]int32, n)
	for i := range w {
		w[i] = int32(binary.LittleEndian.Uint32(b[4*i:]))
	}
	return w, nil
}

// Prefetch asks for the tensors that the named ones are stored in.
func (d *dense) Prefetch(names []string) {
	var stored []string
	for _, name := range names {
		base, ok := strings.CutSuffix(name, suffixWeight)
		if d.modules[name] == nil || !ok {
			stored = append(stored, name)
			continue
		}
		stored = append(stored, base+suffixPacked, base+suffixScale, base+suffixZero, name)
	}
	formats.Prefetch(d.src, stored)
}
