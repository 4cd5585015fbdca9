package arch

import "fmt"

// LayerSize is what may differ in a layer of a resized model: query heads, KV heads, FFN width. H and G 0 leave attention out, F 0
// the FFN.
type LayerSize struct{ H, G, F int }

// Size returns the sizes of the layer.
func (l *Layer) Size() LayerSize { return LayerSize{l.H, l.G, l.F} }

// Resize returns the model with another width and other sizes of its layers, one for each. Head dims, tensor names and biases
// stay; a sub-layer that is left out has no tensors any more, and one that a layer lacks cannot come back. It panics on sizes that
// do not fit each other or the layer.
func (m *Model) Resize(d int, sizes []LayerSize) *Model {
	if len(sizes) != len(m.Layers) || d < 1 {
		panic(fmt.Sprintf("arch: Resize to width %d and %d layers of %d", d, len(sizes), len(m.Layers)))
	}
	n := m.Clone()
	n.D = d
	for l, s := range sizes {
		a := &n.Layers[l]
		if s.H < 0 || s.F < 0 || (s.H == 0) != (s.G == 0) || s.H > 0 && (s.G < 1 || s.H%s.G != 0 || a.H == 0) || s.F > 0 && a.F == 0 {
			panic(fmt.Sprintf("arch: Resize of layer %d of sizes %+v to %+v", l, a.Size(), s))
		}
		a.resize(d, s)
	}
	if n.Rope != nil {
		n.Rope.Dim = n.headDim()
	}
	return n
}

func (l *Layer) resize(d int, s LayerSize) {
	l.H, l.G, l.F = s.H, s.G, s.F
	if s.H == 0 {
		l.K, l.AttnNorm, l.QNorm, l.KNorm = 0, Norm{}, Norm{}, Norm{}
	}
	if s.F == 0 {
		l.FFNNorm = Norm{}
	}
	for r := range NumRoles {
		lin := &l.Linears[r]
		in, out := l.dims(r, d)
		switch {
		case !lin.Present():
			continue
		case in == 0 || out == 0:
			*lin = Linear{}
			continue
		case lin.StoredOut == lin.Out:
			lin.StoredOut = out
		default: // a third of one tensor
			lin.Row, lin.StoredOut = int(r)*out, 3*out
		}
		lin.In, lin.Out = in, out
	}
}
