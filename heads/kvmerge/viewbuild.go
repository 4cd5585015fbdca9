package kvmerge

import (
	"slices"

	"modelpress/formats"
	"modelpress/internal/arch"
)

// viewBuilder collects how each changed tensor is made.
type viewBuilder struct {
	src     formats.Source
	m       *arch.Model
	merged  *arch.Model
	tensors map[string]*mergedTensor
}

func (b *viewBuilder) build(layers []Layer) error {
	if len(layers) != len(b.m.Layers) {
		return formats.Errorf("", "", "%d layers are to be merged, the model has %d", len(layers), len(b.m.Layers))
	}
	b.merged = b.m.Clone()
	for l, layer := range layers {
		a := &b.m.Layers[l]
		if err := layer.check(a); err != nil {
			return formats.Errorf("", a.Linears[arch.K].Weight, "layer %d: %w", l, err)
		}
		if err := b.layer(l, layer); err != nil {
			return err
		}
	}
	for _, name := range Changed(b.m, layers) {
		if err := b.tensors[name].finish(); err != nil {
			return err
		}
	}
	return nil
}

// layer adds the tensors of one layer and changes its description.
func (b *viewBuilder) layer(l int, layer Layer) error {
	a, n := &b.m.Layers[l], &b.merged.Layers[l]
	for _, role := range layer.roles() {
		lin := &a.Linears[role]
		m := newBlockMap(layer, a, role)
		shape := []int64{int64(lin.StoredOut), int64(lin.In)}
		if lin.Transposed {
			slices.Reverse(shape)
		}
		if err := b.add(l, lin.Weight, shape, lin.Transposed == (role == arch.O), lin.Row, m); err != nil {
			return err
		}
		if role == arch.O {
			b.tensors[lin.Weight].out = true
			continue
		}
		if lin.Bias == "" {
			continue
		}
		if err := b.add(l, lin.Bias, []int64{int64(lin.StoredOut)}, false, lin.Row, m); err != nil {
			return err
		}
	}
	if !a.HasAttention() {
		return nil
	}
	n.G = layer.Written(a.G)
	for _, role := range []arch.Role{arch.K, arch.V} {
		lin := &n.Linears[role]
		if lin.StoredOut == lin.Out {
			lin.StoredOut = n.G * n.K
		}
		lin.Out = n.G * n.K
	}
	return nil
}

// add has a tensor, or the part of it from output first on, be made by m. Projections that share a tensor follow one another in it.
func (b *viewBuilder) add(l int, name string, shape []int64, rows bool, first int, m blockMap) error {
	t := b.tensors[name]
	if t == nil {
		info, ok := b.src.Lookup(name)
		if !ok {
			return formats.Errorf("", name, "no such tensor")
		}
		if !info.DType.IsFloat() || !slices.Equal(info.Shape, shape) {
			return formats.Errorf("", name, "%s %v where floats %v are needed", info.DType, info.Shape, shape)
		}
		t = &mergedTensor{from: info, layer: l, k: b.m.Layers[l].K, rows: rows}
		b.tensors[name] = t
	}
	if t.layer != l || t.old*t.k != first {
		return formats.Errorf("", name, "layers %d and %d, or two projections, want rows %d of it", t.layer, l, first)
	}
	t.join(m)
	return nil
}

// finish checks that every block is accounted for, and describes the tensor.
func (t *mergedTensor) finish() error {
	axis := len(t.from.Shape) - 1
	if t.rows {
		axis = 0
	}
	if int64(t.old)*int64(t.k) != t.from.Shape[axis] {
		return formats.Errorf("", t.from.Name, "%d blocks of %d do not make up shape %v", t.old, t.k, t.from.Shape)
	}
	t.info = formats.TensorInfo{Name: t.from.Name, DType: formats.F64, Shape: slices.Clone(t.from.Shape)}
	t.info.Shape[axis] = int64(len(t.at)) * int64(t.k)
	if _, err := t.info.Bytes(); err != nil {
		return formats.Errorf("", t.from.Name, "%w", err)
	}
	return nil
}
