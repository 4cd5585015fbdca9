package formats

import (
	"math"
	"slices"
	"strings"
)

// Grid is one weight of [Grids]: where it is stored, and how its rows are read.
type Grid struct {
	Name       string // of the weight as it is shown
	Out, In    int
	Transposed bool // shown [In, Out], as modules of the class Conv1D have it, and not [Out, In]
	Storage    Storage
	// Rows reads the rows [first, first+n) as a weight of its own. first is a multiple of 32; n is one too, or ends at Out.
	Rows func(first, n int) (*Affine, error)
}

// shape returns the dimensions of the weight as it is shown.
func (g *Grid) shape() []int64 {
	if g.Transposed {
		return []int64{int64(g.In), int64(g.Out)}
	}
	return []int64{int64(g.Out), int64(g.In)}
}

// Grids is a [Quantized] over a source whose quantized weights all lie on integer grids. It shows each in F32: (code - zero) * scale,
// rounded once where the product is not exact.
//
// Formats that store a weight transposed make few rows of it as dear to read as many. So weights are read in bands of rows, of 4 Mi codes
// at most or 32 rows where those are more, and bands read last are kept: reading a weight row after row reads what is stored once.
// A weight that is shown transposed is one band. Peak memory: 32 MiB, or one band where that is more, and one band for each goroutine that
// reads, where a band of r rows is r·(In + 5·Groups) bytes.
type Grids struct {
	src   Source
	where string
	infos []TensorInfo
	grids map[string]*Grid
	cache bandCache
}

// NewGrids returns the view in which the weights of list take the place of the tensors that they are stored in. where stands for the file
// in errors. Names must differ from each other and from what stays, and In·Out must be below 2^40.
func NewGrids(src Source, where string, list []Grid) (*Grids, error) {
	v := &Grids{src: src, where: where, grids: make(map[string]*Grid, len(list))}
	hidden := map[string]bool{}
	for i := range list {
		g := &list[i]
		if g.Out <= 0 || g.In <= 0 || int64(g.Out) > (1<<40)/int64(g.In) {
			return nil, Errorf(where, g.Name, "weight [%d, %d] has no usable size", g.Out, g.In)
		}
		if v.grids[g.Name] != nil {
			return nil, Errorf(where, g.Name, "is stored twice")
		}
		v.grids[g.Name] = g
		v.infos = append(v.infos, TensorInfo{Name: g.Name, DType: F32, Shape: g.shape()})
		for _, name := range g.Storage.Tensors {
			hidden[name] = true
		}
	}
	for _, t := range src.Tensors() {
		if hidden[t.Name] {
			continue
		}
		if v.grids[t.Name] != nil {
			return nil, Errorf(where, t.Name, "stands beside the quantized form of the same weight")
		}
		v.infos = append(v.infos, t)
	}
	slices.SortFunc(v.infos, func(a, b TensorInfo) int { return strings.Compare(a.Name, b.Name) })
	return v, nil
}

// Tensors implements [Source].
func (v *Grids) Tensors() []TensorInfo { return v.infos }

// Lookup implements [Source].
func (v *Grids) Lookup(name string) (TensorInfo, bool) {
	i, ok := slices.BinarySearchFunc(v.infos, name, func(t TensorInfo, n string) int { return strings.Compare(t.Name, n) })
	if !ok {
		return TensorInfo{}, false
	}
	return v.infos[i], true
}

// Storage implements [Quantized].
func (v *Grids) Storage(name string) (Storage, bool) {
	g, ok := v.grids[name]
	if !ok {
		return Storage{}, false
	}
	return g.Storage, true
}

// Affine implements [Quantized]. The weight of a module that is shown [In, Out] is returned as the linear map that it is, [Out, In].
// Peak memory: that of the result.
func (v *Grids) Affine(name string) (*Affine, error) {
	g, ok := v.grids[name]
	if !ok {
		return nil, Errorf(v.where, name, "is not stored on an integer grid")
	}
	return g.Rows(0, g.Out)
}

// Prefetch implements [Prefetcher]: it asks for the tensors that the named ones are stored in.
func (v *Grids) Prefetch(names []string) {
	var stored []string
	for _, name := range names {
		if g, ok := v.grids[name]; ok {
			stored = append(stored, g.Storage.Tensors...)
		} else {
			stored = append(stored, name)
		}
	}
	Prefetch(v.src, stored)
}

// ReadAt implements [Source].
func (v *Grids) ReadAt(name string, p []byte, off int64) error {
	g, ok := v.grids[name]
	if !ok {
		if _, ok := v.Lookup(name); !ok {
			return Errorf(v.where, name, "no such tensor")
		}
		return v.src.ReadAt(name, p, off)
	}
	size := 4 * int64(g.Out) * int64(g.In)
	if off < 0 || off > size || int64(len(p)) > size-off {
		return Errorf(v.where, name, "read of bytes [%d, %d+%d) of %d", off, off, len(p), size)
	}
	if g.Transposed {
		return v.readTransposed(g, p, off)
	}
	row, height := 4*int64(g.In), g.bandRows()
	scratch := make([]float32, min(int64(g.In), math.MaxInt32))
	for len(p) > 0 {
		r := int(off / row)
		m, err := v.band(g, r/height)
		if err != nil {
			return err
		}
		m.Dequantize(scratch, r%height)
		n, err := putF32(p, scratch, off-int64(r)*row)
		if err != nil {
			return err
		}
		p, off = p[n:], off+int64(n)
	}
	return nil
}

// readTransposed reads from the columns of the one band of a weight.
func (v *Grids) readTransposed(g *Grid, p []byte, off int64) error {
	m, err := v.band(g, 0)
	if err != nil {
		return err
	}
	row := 4 * int64(g.Out)
	scratch := make([]float32, g.Out)
	for len(p) > 0 {
		i := int(off / row)
		k := i / (g.In / m.Groups())
		if m.GIdx != nil {
			k = int(m.GIdx[i])
		}
		for o := range scratch {
			scratch[o] = m.value(o, i, k)
		}
		n, err := putF32(p, scratch, off-int64(i)*row)
		if err != nil {
			return err
		}
		p, off = p[n:], off+int64(n)
	}
	return nil
}

// value returns the weight of row o and column i, which belongs to group k.
func (m *Affine) value(o, i, k int) float32 {
	k += o * m.Groups()
	z := 0
	if m.Zeros != nil {
		z = int(m.Zeros[k])
	}
	return float32(int(m.Codes[o*m.In+i])-z) * m.Scales[k]
}

// putF32 fills p with the bytes of v from byte skip on, as far as both go, and returns how many those are.
func putF32(p []byte, v []float32, skip int64) (int, error) {
	n := min(int64(len(p)), 4*int64(len(v))-skip)
	if skip%4 == 0 && n%4 == 0 {
		return int(n), Encode(p[:n], v[skip/4:][:n/4], F32)
	}
	b := make([]byte, 4*len(v))
	if err := Encode(b, v, F32); err != nil {
		return 0, err
	}
	return copy(p[:n], b[skip:]), nil
}
