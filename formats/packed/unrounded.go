package packed

import (
	"slices"

	"modelpress/formats"
)

// unrounded shows the weights that lie on integer grids in F32.
type unrounded struct {
	*dense
	infos []formats.TensorInfo
}

// Unrounded implements [formats.Unrounder]: weights on integer grids are shown as (code - zero) * scale in F32, before that is rounded to
// the type of the scales.
func (d *dense) Unrounded() formats.Quantized {
	u := &unrounded{dense: d, infos: slices.Clone(d.infos)}
	for i := range u.infos {
		if u.onGrid(u.infos[i].Name) {
			u.infos[i].DType = formats.F32
		}
	}
	return u
}

func (u *unrounded) onGrid(name string) bool {
	w, ok := u.modules[name]
	return ok && w.about().storage.Grid
}

// Tensors implements [formats.Source].
func (u *unrounded) Tensors() []formats.TensorInfo { return u.infos }

// Lookup implements [formats.Source].
func (u *unrounded) Lookup(name string) (formats.TensorInfo, bool) {
	t, ok := u.dense.Lookup(name)
	if ok && u.onGrid(name) {
		t.DType = formats.F32
	}
	return t, ok
}

// ReadAt implements [formats.Source].
func (u *unrounded) ReadAt(name string, p []byte, off int64) error {
	if u.onGrid(name) {
		return u.read(u.modules[name], formats.F32, p, off)
	}
	return u.dense.ReadAt(name, p, off)
}
