package arch

import (
	"fmt"
	"strconv"
	"strings"
)

// Select returns the model made of some layers of m, in the order given; its layer i is layer layers[i] of m under the tensor
// names of a layer i. Their windows and sizes stay. It panics on a layer that m does not have.
func (m *Model) Select(layers []int) *Model {
	n := m.Clone()
	n.Layers = make([]Layer, len(layers))
	for i, l := range layers {
		if l < 0 || l >= len(m.Layers) {
			panic(fmt.Sprintf("arch: Select of layer %d of %d", l, len(m.Layers)))
		}
		a := m.Layers[l]
		rename := func(names ...*string) {
			for _, s := range names {
				*s = m.Renumbered(*s, i)
			}
		}
		for _, norm := range []*Norm{&a.AttnNorm, &a.FFNNorm, &a.QNorm, &a.KNorm} {
			rename(&norm.Weight, &norm.Bias)
		}
		for r := range a.Linears {
			rename(&a.Linears[r].Weight, &a.Linears[r].Bias)
		}
		n.Layers[i] = a
	}
	if n.Rope != nil {
		n.Rope.Dim = n.headDim()
	}
	return n
}

// LayerOf returns the number of the layer to which a tensor belongs by its name, -1 where it is none of the model's. Tensors that the
// model does not name count too, such as the masks of old checkpoints.
func (m *Model) LayerOf(name string) int {
	l, _, ok := m.splitName(name)
	if !ok {
		return -1
	}
	return l
}

// Renumbered returns the name in layer l of what has this name in its own layer. A name that belongs to no layer stays.
func (m *Model) Renumbered(name string, l int) string {
	_, rest, ok := m.splitName(name)
	if !ok {
		return name
	}
	return fmt.Sprintf("%s%d%s", m.LayerPrefix, l, rest)
}

// splitName returns the layer of a name and what follows its number.
func (m *Model) splitName(name string) (layer int, rest string, ok bool) {
	tail, ok := strings.CutPrefix(name, m.LayerPrefix)
	dot := strings.IndexByte(tail, '.')
	if !ok || m.LayerPrefix == "" || dot < 0 {
		return 0, "", false
	}
	l, err := strconv.Atoi(tail[:dot])
	if err != nil || l < 0 || l >= len(m.Layers) || strconv.Itoa(l) != tail[:dot] {
		return 0, "", false
	}
	return l, tail[dot:], true
}

// headDim returns the head dim of the first layer that attends, 0 where none does.
func (m *Model) headDim() int {
	for l := range m.Layers {
		if m.Layers[l].HasAttention() {
			return m.Layers[l].K
		}
	}
	return 0
}
