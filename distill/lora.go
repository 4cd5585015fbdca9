package distill

import (
	"fmt"
	"math"
	"slices"

	"modelpress/formats"
	"modelpress/internal/arch"
	"modelpress/internal/num"
)

// LoRAOptions says which projections get adapters.
type LoRAOptions struct {
	Roles []arch.Role // in every layer that has them
	Rank  int         // r, at most the smaller side of every projection
	Alpha float64     // the product B·A is multiplied by Alpha/r
	Seed  uint64
}

// LoRA is a model with low-rank adapters (Hu et al., arXiv:2106.09685): a projection with an adapter acts with the weight
//
//	W' = W + (Alpha/r)*B·A,   A [r, In], B [Out, r]
//
// in f32, where A begins uniform in [-1/√In, 1/√In) (Kaiming's rule with the slope √5, as the published code has it) and B zero,
// so that the model begins as it was. W itself is not trained.
//
// It is a formats.Source with the names of Base, so that nn.New(dev, l, l.Base.Arch) runs it. Projections with an adapter are
// shown as F32 and computed from W, A and B whenever rows of them are read: nothing is kept that a step would make stale. Reads
// and changes must not overlap in time. Memory: 4*r*(In+Out) bytes an adapter, and for each read at a time 1 MiB or a row of W.
type LoRA struct {
	Base *Params

	scale    float32
	adapters map[string]*adapter // by the name of the projection
	order    []*adapter
	list     []*Param // A and B of each, in that order
	infos    []formats.TensorInfo
}

// adapter is the low-rank part of a projection.
type adapter struct{ w, a, b *Param }

// NewLoRA puts adapters on a model.
func NewLoRA(base *Params, o LoRAOptions) (*LoRA, error) {
	if o.Rank < 1 || !(o.Alpha > 0) || math.IsInf(o.Alpha, 0) {
		return nil, fmt.Errorf("distill: adapters: rank %d, alpha %g", o.Rank, o.Alpha)
	}
	l := &LoRA{Base: base, scale: float32(o.Alpha / float64(o.Rank)), adapters: map[string]*adapter{}}
	for _, w := range base.List() {
		if w.Part != Projection || w.Bias || !slices.Contains(o.Roles, w.Role) {
			continue
		}
		if o.Rank > min(w.Rows, w.Cols) {
			return nil, fmt.Errorf("distill: adapters: rank %d for %s, which is %dx%d", o.Rank, w.Name, w.Rows, w.Cols)
		}
		ad := &adapter{w: w, a: newFactor(w, ".lora_a", o.Rank, w.Cols), b: newFactor(w, ".lora_b", w.Rows, o.Rank)}
		fillUniform(ad.a.Values, 1/math.Sqrt(float64(w.Cols)), o.Seed, ad.a.Name)
		l.adapters[w.Name] = ad
		l.order, l.list = append(l.order, ad), append(l.list, ad.a, ad.b)
	}
	if len(l.list) == 0 {
		return nil, fmt.Errorf("distill: adapters: the model has none of the projections %v", o.Roles)
	}
	l.infos = slices.Clone(base.Tensors())
	for i, t := range l.infos {
		if l.adapters[t.Name] != nil {
			l.infos[i].DType = formats.F32
		}
	}
	return l, nil
}

func newFactor(w *Param, suffix string, rows, cols int) *Param {
	q := &Param{Name: w.Name + suffix, Part: Adapter, Role: w.Role, Layer: w.Layer, Rows: rows, Cols: cols, Matrix: true}
	q.alloc(false)
	return q
}

// List returns the parameters to train: A and B of each adapter, in the order of the projections. The slice is not to be changed.
func (l *LoRA) List() []*Param { return l.list }

// Factors returns A and B of the adapter of a projection, nil where it has none.
func (l *LoRA) Factors(layer int, r arch.Role) (a, b *Param) {
	if w := l.Base.Find(layer, Projection, r, false); w != nil && l.adapters[w.Name] != nil {
		return l.adapters[w.Name].a, l.adapters[w.Name].b
	}
	return nil, nil
}

// Project adds to da [r, In] and db [Out, r] the gradients by A and B of the adapter of a projection, from the gradient dw [Out, In]
// by its weight:
//
//	dA = (Alpha/r)*Bᵀ·dW,   dB = (Alpha/r)*dW·Aᵀ
//
// It panics where the projection has no adapter. Memory: db once more.
func (l *LoRA) Project(da, db, dw []float32, layer int, r arch.Role, par num.Par) {
	a, b := l.Factors(layer, r)
	if a == nil || len(da) < a.Len() || len(db) < b.Len() || len(dw) < b.Rows*a.Cols {
		panic(fmt.Sprintf("distill: gradients of %d and %d values from %d for the adapter of %s in layer %d", len(da), len(db), len(dw), r, layer))
	}
	rank, in, out := a.Rows, a.Cols, b.Rows
	num.GemmTN(da, in, b.Values, rank, dw, in, rank, in, out, l.scale, 1, par)
	part := make([]float32, out*rank)
	num.GemmNT(part, rank, dw, in, num.F32Weights(a.Values, in), out, rank, in, 0, par)
	num.Axpy(db, l.scale, part)
}

// Merge writes the weights that projections with an adapter act with into Base, rounded to nearest where its copy is in bfloat16,
// and makes B zero, so that the model stays what it was but for that.
func (l *LoRA) Merge() {
	for _, ad := range l.order {
		for lo := 0; lo < ad.w.Rows; lo += ad.group() {
			ad.w.Write(l.rows(ad, lo, min(ad.group(), ad.w.Rows-lo)), lo*ad.w.Cols)
		}
		clear(ad.b.Values)
	}
}

// loraValues is how many values of a weight are made at a time.
const loraValues = 1 << 18

// group is the number of rows that are made at a time.
func (ad *adapter) group() int { return max(1, loraValues/ad.w.Cols) }

// rows returns rows [lo, lo+n) of the weight that a projection acts with. Rows whose part of B is zero are those of W.
func (l *LoRA) rows(ad *adapter, lo, n int) []float32 {
	rank, in := ad.a.Rows, ad.a.Cols
	w := make([]float32, n*in)
	ad.w.Read(w, lo*in)
	for i := 0; i < n; i++ {
		first := i
		for i < n && slices.ContainsFunc(ad.b.Values[(lo+i)*rank:][:rank], func(v float32) bool { return v != 0 }) {
			i++
		}
		if i > first {
			num.GemmNN(w[first*in:], in, ad.b.Values[(lo+first)*rank:], rank, ad.a.Values, in, i-first, in, rank, l.scale, 1, nil)
		}
	}
	return w
}

// Tensors implements [formats.Source].
func (l *LoRA) Tensors() []formats.TensorInfo { return l.infos }

// Lookup implements [formats.Source].
func (l *LoRA) Lookup(name string) (formats.TensorInfo, bool) {
	t, ok := l.Base.Lookup(name)
	if l.adapters[name] != nil {
		t.DType = formats.F32
	}
	return t, ok
}

// ReadAt implements [formats.Source].
func (l *LoRA) ReadAt(name string, b []byte, off int64) error {
	ad := l.adapters[name]
	if ad == nil {
		return l.Base.ReadAt(name, b, off)
	}
	if err := checkRead(name, len(b), off, 4*int64(ad.w.Len())); err != nil {
		return err
	}
	in := int64(ad.w.Cols)
	for len(b) > 0 {
		lo := off / 4 / in
		last := (off + int64(len(b)) - 1) / 4 / in
		w := l.rows(ad, int(lo), int(min(int64(ad.group()), last-lo+1)))
		first := 4 * lo * in
		part := b[:min(int64(len(b)), first+4*int64(len(w))-off)]
		err := serve(part, off-first, formats.F32, func(dst []float32, from int) error {
			copy(dst, w[from:])
			return nil
		})
		if err != nil {
			return err
		}
		b, off = b[len(part):], off+int64(len(part))
	}
	return nil
}
