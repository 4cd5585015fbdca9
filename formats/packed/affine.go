package packed

import (
	"slices"

	"modelpress/formats"
)

// Affine implements [formats.Quantized]. The whole weight is read; memory: what [formats.Affine] states, and twice the packed
// codes. Zero points that are all 0 are left out.
func (d *dense) Affine(name string) (*formats.Affine, error) {
	w, ok := d.modules[name].(*ints)
	if !ok {
		return nil, formats.Errorf(where, name, "is not stored on integer grids")
	}
	m, err := w.read(d.src, 0, int(w.info.Shape[0]))
	if err != nil {
		return nil, err
	}
	m.GIdx = slices.Clone(m.GIdx)
	if !slices.ContainsFunc(m.Zeros, func(z int8) bool { return z != 0 }) {
		m.Zeros = nil
	}
	return m, nil
}
