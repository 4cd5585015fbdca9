package distill

import (
	"fmt"
	"slices"
	"strings"

	"modelpress/formats"
	"modelpress/internal/arch"
)

// Params is the master copy of a model's weights: resident, trainable, and under names of its own. Every projection is a
// logical [Out, In] matrix with a bias of its own, whatever tensor it shared and however that was stored; a tied head is the
// embedding.
//
// It is a formats.Source, and Arch describes it, so that nn.New(dev, p, p.Arch) runs what is trained. Tensors are read straight
// from the master copy, in F32 or BF16: reads and changes must not overlap in time.
//
// Memory: 4 bytes a parameter, 2 with a master copy in bfloat16.
type Params struct {
	// Arch is the model under the names of the parameters.
	Arch *arch.Model

	list   []*Param // in the order of training
	byName map[string]*Param
	infos  []formats.TensorInfo // sorted by name
}

// NewParams reads a model into memory as f32. Every tensor of m must be in src with its shape and a float type and hold finite
// values; those in F64 are rounded. Errors are *formats.Error.
func NewParams(src formats.Source, m *arch.Model) (*Params, error) { return newParams(src, m, false) }

// NewHalfParams is NewParams with a master copy in bfloat16, to which values are rounded, nearest with ties to even. It is exact
// for checkpoints in bfloat16.
func NewHalfParams(src formats.Source, m *arch.Model) (*Params, error) {
	return newParams(src, m, true)
}

func newParams(src formats.Source, m *arch.Model, half bool) (*Params, error) {
	l := newLayout(m)
	if err := l.check(src, m); err != nil {
		return nil, fmt.Errorf("distill: read model: %w", err)
	}
	p := &Params{Arch: l.renamed(m), list: l.params, byName: make(map[string]*Param, len(l.params))}
	for i, q := range p.list {
		q.alloc(half)
		if err := q.load(src, l.places[i]); err != nil {
			return nil, fmt.Errorf("distill: read model: %w", err)
		}
		p.byName[q.Name] = q
		p.infos = append(p.infos, q.Info())
	}
	slices.SortFunc(p.infos, func(a, b formats.TensorInfo) int { return strings.Compare(a.Name, b.Name) })
	return p, nil
}

// List returns the parameters in the order of training: embedding, positions, each layer in the order of the forward pass, final
// norm, head. The slice is not to be changed.
func (p *Params) List() []*Param { return p.list }

// Find returns a parameter of a part, nil where the model has none; role counts for projections alone.
func (p *Params) Find(layer int, part Part, role arch.Role, bias bool) *Param {
	for _, q := range p.list {
		if q.Layer == layer && q.Part == part && q.Bias == bias && (part != Projection || q.Role == role) {
			return q
		}
	}
	return nil
}

// Layer returns the parameters of a block, of [EmbedLayer] or of [HeadLayer], in their order.
func (p *Params) Layer(layer int) []*Param {
	var out []*Param
	for _, q := range p.list {
		if q.Layer == layer {
			out = append(out, q)
		}
	}
	return out
}

// NumValues returns the number of trainable values.
func (p *Params) NumValues() int64 {
	n := int64(0)
	for _, q := range p.list {
		n += int64(q.Len())
	}
	return n
}

// Bytes returns the memory of the master copy.
func (p *Params) Bytes() int64 {
	n := int64(0)
	for _, q := range p.list {
		n += int64(q.Len()) * int64(q.DType().Size())
	}
	return n
}

// Tensors implements [formats.Source].
func (p *Params) Tensors() []formats.TensorInfo { return p.infos }

// Lookup implements [formats.Source].
func (p *Params) Lookup(name string) (formats.TensorInfo, bool) {
	if q := p.byName[name]; q != nil {
		return q.Info(), true
	}
	return formats.TensorInfo{}, false
}

// ReadAt implements [formats.Source].
func (p *Params) ReadAt(name string, b []byte, off int64) error {
	q := p.byName[name]
	if q == nil {
		return formats.Errorf("", name, "no such tensor")
	}
	size := int64(q.DType().Size())
	if err := checkRead(name, len(b), off, size*int64(q.Len())); err != nil {
		return err
	}
	if q.Half == nil && off%4 == 0 && len(b)%4 == 0 {
		q.pull(false)
		return formats.Encode(b, q.Values[off/4:][:len(b)/4], formats.F32)
	}
	return serve(b, off, q.DType(), func(dst []float32, from int) error {
		q.Read(dst, from)
		return nil
	})
}
