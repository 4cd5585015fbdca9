package kvmerge

import (
	"fmt"
	"slices"

	"modelpress/formats"
	"modelpress/internal/arch"
	"modelpress/internal/num"
)

// View returns a view of src in which the KV heads of m are merged, and the model as it then is: its layers have
// [Layer.Written] KV heads. With E_g and D_g the maps of KV head g ([Side]), new KV head i is group i, and query heads follow
// their KV heads in the order of the groups:
//
//	W_K'[i] = Σ_{g in group i} E_g·W_K[g]       b_K'[i] = Σ E_g·b_K[g]       (so also V, with the maps of values)
//	W_Q'[p] = D_gᵀ·W_Q[h]                       b_Q'[p] = D_gᵀ·b_Q[h]        (query head h of KV head g in place p)
//	W_O'[:, p] = W_O[:, h]·D_g                                               (maps of values)
//
// It is exact where D_g·Σ_j E_j·x_j = x_g and the maps of keys commute with norm and rotary embedding.
//
// maps is asked for the maps of a layer whose heads share or change places, once while the tensors of that layer are being
// read, from several goroutines for several layers. par runs parts of what a read computes; nil is a plain loop.
//
// Everything is computed in float64 from the stored values when a tensor is read, and shown as F64: rounding is left to whoever
// writes it. Tensors that do not change ([Changed]) are shown as they are.
//
// A model whose queries, keys and values are one tensor (GPT-2) has no number of KV heads, so that each of its merged heads must be
// repeated until there are as many as before. Errors are *formats.Error: layers that do not fit the model or the source now,
// and on reading values that are not finite, or maps that are not those of the layer.
//
// Memory: 64·G·K² + 8·(6 + 2R)·U bytes for R reads at a time: the maps of two layers, and units of at most
// U = max(K·D, 2¹⁸, W) values, W the width of the widest row of a changed tensor. Readers come for a unit piece by piece: six
// are kept, each until it has been read to its end, and a read holds the unit that it makes and what that is made from.
func View(src formats.Source, m *arch.Model, layers []Layer, maps func(layer int) (*Maps, error), par func(n int, body func(i int))) (formats.Source, *arch.Model, error) {
	b := viewBuilder{src: src, m: m, tensors: map[string]*mergedTensor{}}
	if err := b.build(layers); err != nil {
		return nil, nil, fmt.Errorf("kvmerge: view: %w", err)
	}
	if len(b.tensors) == 0 {
		return src, b.merged, nil
	}
	v := &view{src: src, tensors: b.tensors, par: par, maps: layerMaps{m: m, layers: layers, load: maps}}
	v.maps.limit, v.units.limit = 2, 6
	v.infos = slices.Clone(src.Tensors())
	for i, t := range v.infos {
		if n := b.tensors[t.Name]; n != nil {
			v.infos[i] = n.info
		}
	}
	return v, b.merged, nil
}

// Changed lists the tensors that merging changes or reshapes, sorted: weights of q, k, v and o, biases of q, k and v. Layers
// that are only repeated change k and v.
func Changed(m *arch.Model, layers []Layer) []string {
	var out []string
	for l, layer := range layers[:min(len(layers), len(m.Layers))] {
		for _, role := range layer.roles() {
			lin := &m.Layers[l].Linears[role]
			if !lin.Present() {
				continue
			}
			out = append(out, lin.Weight)
			if role != arch.O && lin.Bias != "" {
				out = append(out, lin.Bias)
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// view is a source in which some tensors are merged.
type view struct {
	src     formats.Source
	infos   []formats.TensorInfo
	tensors map[string]*mergedTensor
	maps    layerMaps
	units   recent[unitKey, []float64]
	par     num.Par
}

type unitKey struct {
	t    *mergedTensor
	unit int
}

// Tensors implements [formats.Source].
func (v *view) Tensors() []formats.TensorInfo { return v.infos }

// Lookup implements [formats.Source].
func (v *view) Lookup(name string) (formats.TensorInfo, bool) {
	if t := v.tensors[name]; t != nil {
		return t.info, true
	}
	return v.src.Lookup(name)
}

// ReadAt implements [formats.Source].
func (v *view) ReadAt(name string, p []byte, off int64) error {
	t := v.tensors[name]
	if t == nil {
		return v.src.ReadAt(name, p, off)
	}
	size, err := t.info.Bytes()
	if err != nil || off < 0 || int64(len(p)) > size-off {
		return formats.Errorf("", name, "read of bytes [%d, %d+%d) of %d", off, off, len(p), size)
	}
	for len(p) > 0 {
		unit, base, last := t.locate(off)
		key := unitKey{t, unit}
		w, err := v.units.get(key, func() ([]float64, error) { return v.compute(t, unit) })
		if err != nil {
			return err
		}
		n := copyValues(p, w, off-base)
		p, off = p[n:], off+int64(n)
		if last && off == base+8*int64(len(w)) {
			v.units.drop(key, nil)
		}
	}
	return nil
}

func (v *view) compute(t *mergedTensor, unit int) ([]float64, error) {
	var m *Maps
	if t.mapped() {
		var err error
		if m, err = v.maps.get(t.layer); err != nil {
			return nil, formats.Errorf("", t.info.Name, "kvmerge: maps of layer %d: %w", t.layer, err)
		}
	}
	return t.compute(v.src, m, unit, v.par)
}

// Prefetch asks for what the named tensors are made from, which has the same names.
func (v *view) Prefetch(names []string) { formats.Prefetch(v.src, names) }
