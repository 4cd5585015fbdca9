package llamacpp

import (
	"errors"
	"slices"
	"strings"

	"modelpress/formats"
	"modelpress/formats/ggml"
	"modelpress/formats/gguf"
)

// view shows the tensors of a GGUF file as those of a checkpoint.
type view struct {
	file  File
	infos []formats.TensorInfo
	index map[string]*shown
}

// shown is one tensor of the checkpoint and the one of the file that it is made from.
type shown struct {
	info formats.TensorInfo
	how  Tensor
	typ  ggml.Type
	size int64 // bytes as shown
}

// plain are the types that are shown as they are stored.
var plain = map[ggml.Type]formats.DType{ggml.F32: formats.F32, ggml.F16: formats.F16, ggml.BF16: formats.BF16, ggml.F64: formats.F64}

// newView matches the tensors that a model has with those of the file: all must be there, with their shapes, and no others.
func newView(f File, have map[string]gguf.Tensor, want []Tensor) (*view, error) {
	v := &view{file: f, index: map[string]*shown{}}
	var faults []error
	named := map[string]bool{}
	for _, t := range want {
		named[t.Name] = true
		if _, twice := v.index[t.From]; t.From == "" || twice { // gpt2's output, which is the embedding
			continue
		}
		s, err := show(f, have, t)
		if err != nil {
			faults = append(faults, err)
			continue
		}
		v.index[t.From] = s
		v.infos = append(v.infos, s.info)
	}
	for _, t := range f.Tensors() {
		if !named[t.Name] && t.Name != nameRopeFreqs {
			faults = append(faults, formats.Errorf(f.Name(), t.Name, "is not one that the architecture has"))
		}
	}
	if len(faults) > 0 {
		const most = 20
		return nil, errors.Join(faults[:min(most, len(faults))]...)
	}
	slices.SortFunc(v.infos, func(a, b formats.TensorInfo) int { return strings.Compare(a.Name, b.Name) })
	return v, nil
}

func show(f File, have map[string]gguf.Tensor, t Tensor) (*shown, error) {
	g, ok := have[t.Name]
	if !ok {
		return nil, formats.Errorf(f.Name(), t.Name, "is missing")
	}
	if !slices.Equal(g.Shape, t.Shape) {
		return nil, formats.Errorf(f.Name(), t.Name, "shape %v where the metadata ask for %v", g.Shape, t.Shape)
	}
	if _, columns := t.Size(); columns%int64(max(1, g.Type.Block())) != 0 || !hasValues(g.Type) {
		return nil, formats.Errorf(f.Name(), t.Name, "rows of %d values of type %s", columns, g.Type)
	}
	s := &shown{how: t, typ: g.Type, info: formats.TensorInfo{Name: t.From, DType: formats.F32, Shape: slices.Clone(t.Shape)}}
	if dt, ok := plain[g.Type]; ok {
		s.info.DType = dt
	}
	if t.Transposed {
		slices.Reverse(s.info.Shape)
	}
	var err error
	if s.size, err = s.info.Bytes(); err != nil {
		return nil, formats.Errorf(f.Name(), t.Name, "%w", err)
	}
	return s, nil
}

// hasValues reports whether a type dequantizes.
func hasValues(t ggml.Type) bool {
	if !t.Known() {
		return false
	}
	return ggml.Dequantize(t, make([]float32, t.Block()), make([]byte, t.Size())) == nil
}

// Tensors returns every tensor of the checkpoint, sorted by name.
func (v *view) Tensors() []formats.TensorInfo { return v.infos }

// Lookup returns the description of one tensor.
func (v *view) Lookup(name string) (formats.TensorInfo, bool) {
	s, ok := v.index[name]
	if !ok {
		return formats.TensorInfo{}, false
	}
	return s.info, true
}

// groups are the weights that share a scale in the types of blocks, and whether they have no offset.
var groups = map[ggml.Type]struct {
	size      int
	symmetric bool
}{
	ggml.Q4_0: {32, true}, ggml.Q4_1: {32, false}, ggml.Q5_0: {32, true}, ggml.Q5_1: {32, false}, ggml.Q8_0: {32, true},
	ggml.Q2_K: {16, false}, ggml.Q3_K: {16, true}, ggml.Q4_K: {32, false}, ggml.Q5_K: {32, false}, ggml.Q6_K: {16, true},
	ggml.MXFP4: {32, true}, ggml.NVFP4: {16, true},
}

// Storage says in which blocks a weight is stored.
func (v *view) Storage(name string) (formats.Storage, bool) {
	s, ok := v.index[name]
	if !ok {
		return formats.Storage{}, false
	}
	if _, ok := plain[s.typ]; ok {
		return formats.Storage{}, false
	}
	g := groups[s.typ]
	return formats.Storage{
		Format: s.typ.String(), Bits: 8 * float64(s.typ.Size()) / float64(s.typ.Block()), Code: ggml.CodeBits(s.typ), Group: g.size, Symmetric: g.symmetric,
		Grid: s.grid(), Tensors: []string{s.how.Name},
	}, true
}

func (s *shown) grid() bool { return ggml.Grid(s.typ) && len(s.how.Shape) == 2 && !s.how.Transposed }

// Affine reads a weight whose blocks lie on grids, with its rows in the order of the checkpoint.
//
// Peak memory: the stored bytes besides what is returned.
func (v *view) Affine(name string) (*formats.Affine, error) {
	s, ok := v.index[name]
	if !ok || !s.grid() {
		return nil, formats.Errorf(v.file.Name(), name, "is no weight on an integer grid")
	}
	rows, columns := s.how.Size()
	row, err := s.typ.RowBytes(columns)
	if err != nil {
		return nil, formats.Errorf(v.file.Name(), name, "%w", err)
	}
	raw := make([]byte, rows*row)
	step := rows
	if s.how.Heads > 0 {
		step = 1
	}
	for r := int64(0); r < rows; r += step {
		if err := v.file.ReadAt(s.how.Name, raw[r*row:(r+step)*row], s.how.fileRow(r)*row); err != nil {
			return nil, err
		}
	}
	m, err := ggml.DecodeAffine(s.typ, raw, int(rows), int(columns))
	var inexact *formats.Inexact
	switch {
	case errors.As(err, &inexact):
		return nil, &formats.Inexact{Tensor: name, Count: inexact.Count, Cause: inexact.Cause}
	case err != nil:
		return nil, formats.Errorf(v.file.Name(), name, "%w", err)
	}
	return m, nil
}

// fileRow returns the row of the GGUF tensor that holds row r of the checkpoint.
func (t *Tensor) fileRow(r int64) int64 {
	if t.Heads == 0 {
		return r
	}
	head := t.Shape[0] / int64(t.Heads)
	h, i := r/head, r%head
	half := head / 2
	return h*head + 2*(i%half) + i/half
}
