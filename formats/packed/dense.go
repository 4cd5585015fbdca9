package packed

import (
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
	modules map[string]weight // by the name of the dense weight
}

// weight is one quantized weight.
type weight interface {
	about() *module
	// values fills dst with the values of the rows from first on, before they are rounded to the type in which they are shown.
	values(src formats.Source, dst []float32, first int) error
}

// module is what all quantized weights have.
type module struct {
	stored
	name    string
	info    formats.TensorInfo // dense: the type that it is shown in, [out, in]
	in      int
	storage formats.Storage
}

func (m *module) about() *module { return m }

// Dense returns a view of a quantized checkpoint in which each quantized module M has one tensor M.weight in place of the tensors
// that it is stored in, dequantized as compressed-tensors itself does it: in the type of the scales, FP4 and FP8 with scales of
// powers of two in BF16. quantizationConfig is the value of quantization_config in config.json: of compressed-tensors in the
// formats of this package, of quant_method "fp8" and of ModelOpt (NVFP4 and FP8; there the content of hf_quant_config.json does as
// well). Other tensors are those of src, unchanged. Weights whose activations the config quantizes are shown as they are; the
// effect on activations is not, and scales of activations are hidden. All modules are checked now: names, types, shapes and column
// orders against each other and the config. A value that is not finite is an error when it is read.
//
// Memory: the names, 4 bytes for each column of a weight with an order of columns, and for each read 13·max(In, 2^18) bytes at
// most with the scales of the rows that these are.
func Dense(src formats.Source, quantizationConfig json.RawMessage) (formats.Quantized, error) {
	r, err := parseRules(quantizationConfig)
	if err != nil {
		return nil, formats.Errorf("config.json", "", "quantization_config: %w", err)
	}
	d := &dense{src: src, modules: map[string]weight{}}
	hidden := map[string]bool{}
	for _, t := range src.Tensors() {
		name, ok := r.quantizedModule(t)
		if !ok {
			continue
		}
		w, err := openModule(src, r, name)
		if err != nil {
			return nil, err
		}
		m := w.about()
		d.modules[m.info.Name] = w
		for _, s := range m.storage.Tensors {
			hidden[s] = true
		}
	}
	for _, t := range src.Tensors() {
		if !hidden[t.Name] {
			if err := stray(t); err != nil {
				return nil, err
			}
			d.infos = append(d.infos, t)
		}
	}
	for _, w := range d.modules {
		d.infos = append(d.infos, w.about().info)
	}
	slices.SortFunc(d.infos, func(a, b formats.TensorInfo) int { return strings.Compare(a.Name, b.Name) })
	return d, nil
}

// quantizedModule returns the module whose codes a tensor holds.
func (r *rules) quantizedModule(t formats.TensorInfo) (string, bool) {
	if name, ok := strings.CutSuffix(t.Name, suffixPacked); ok {
		return name, true
	}
	if t.DType == formats.I8 || t.DType == formats.F8E4M3 || t.DType == formats.U8 && r.halves {
		return strings.CutSuffix(t.Name, suffixWeight)
	}
	return "", false
}

// stray refuses leftovers of the quantized form whose codes are missing.
func stray(t formats.TensorInfo) error {
	for _, s := range suffixes {
		if s != suffixWeight && strings.HasSuffix(t.Name, s) {
			return formats.Errorf(where, t.Name, "belongs to no quantized weight")
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

// Storage implements [formats.Quantized].
func (d *dense) Storage(name string) (formats.Storage, bool) {
	w, ok := d.modules[name]
	if !ok {
		return formats.Storage{}, false
	}
	return w.about().storage, true
}

// chunkValues bounds how many weights are dequantized at once.
const chunkValues = 1 << 18

// ReadAt implements [formats.Source]. Whole rows are dequantized; a read that ends inside one uses a part of it.
func (d *dense) ReadAt(name string, p []byte, off int64) error {
	w, ok := d.modules[name]
	if !ok {
		if _, ok := d.Lookup(name); !ok {
			return formats.Errorf(where, name, "no such tensor")
		}
		return d.src.ReadAt(name, p, off)
	}
	return d.read(w, w.about().info.DType, p, off)
}

// read fills p with the bytes of a weight that is shown in a given type, from off on.
func (d *dense) read(w weight, show formats.DType, p []byte, off int64) error {
	m := w.about()
	info := m.info
	info.DType = show
	size, err := info.Bytes()
	if err != nil || off < 0 || int64(len(p)) > size-off {
		return formats.Errorf(where, info.Name, "read of bytes [%d, %d+%d) of %d", off, off, len(p), size)
	}
	row := int64(m.in * show.Size())
	step := max(1, int64(chunkValues/m.in))
	for len(p) > 0 {
		first := off / row
		last := min((off+int64(len(p))+row-1)/row, first+step)
		b, err := denseRows(d.src, w, show, int(first), int(last-first))
		if err != nil {
			return err
		}
		n := copy(p, b[off-first*row:])
		p, off = p[n:], off+int64(n)
	}
	return nil
}

// denseRows returns the dense rows [first, first+n) as bytes of a type.
func denseRows(src formats.Source, w weight, show formats.DType, first, n int) ([]byte, error) {
	m := w.about()
	v := make([]float32, n*m.in)
	if err := w.values(src, v, first); err != nil {
		return nil, err
	}
	at := int64(first) * int64(m.in)
	if err := formats.CheckFinite(where, m.info.Name, v, at); err != nil {
		return nil, err
	}
	if err := formats.CheckRange(where, m.info.Name, v, show, at); err != nil {
		return nil, err
	}
	b := make([]byte, len(v)*show.Size())
	return b, formats.Encode(b, v, show)
}

// Prefetch asks for the tensors that the named ones are stored in.
func (d *dense) Prefetch(names []string) {
	var stored []string
	for _, name := range names {
		if w := d.modules[name]; w != nil {
			stored = append(stored, w.about().storage.Tensors...)
		} else {
			stored = append(stored, name)
		}
	}
	formats.Prefetch(d.src, stored)
}
