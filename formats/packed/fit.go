package packed

import (
	"errors"
	"fmt"

	"modelpress/formats"
)

var errOrderOfOne = errors.New("an order of columns where all of them share a scale")

// fitted is what a format stores of a weight on grids, besides its codes.
type fitted struct {
	groups int
	scales []byte  // [out, groups] in the type of the format
	zeros  []int8  // [out, groups], nil for a symmetric scheme
	gIdx   []int32 // [in], where the format has it
}

// fit brings scales, zero points and the order of columns into the layout of a format. It changes no value: what would change one is a
// [formats.Inexact].
func fit(module string, m *formats.Affine, s Scheme, scales formats.DType, ordered bool) (*fitted, error) {
	weight := module + suffixWeight
	if err := m.Check(); err != nil {
		return nil, formats.Errorf("", weight, "%w", err)
	}
	if n := wider(m, s.Bits); n > 0 {
		return nil, &formats.Inexact{Tensor: weight, Count: n, Cause: fmt.Sprintf("codes and zero points of more than %d bits", s.Bits)}
	}
	have, groups := m.Groups(), int(s.Groups(int64(m.In)))
	if groups%have != 0 {
		return nil, &formats.Inexact{Tensor: weight, Count: have, Cause: fmt.Sprintf("groups in a row that has %d", groups)}
	}
	f := &fitted{groups: groups}
	var n int
	if f.gIdx, n = order(m, groups, ordered); n > 0 {
		return nil, &formats.Inexact{Tensor: weight, Count: n, Cause: "columns that lie in no group of the format"}
	}
	if n := f.fitZeros(m, s.Symmetric, groups/have); n > 0 {
		return nil, &formats.Inexact{Tensor: weight, Count: n, Cause: "zero points in a symmetric format"}
	}
	return f, f.fitScales(weight, m.Scales, scales, groups/have)
}

// wider counts codes and zero points that have no place in b bits.
func wider(m *formats.Affine, b int) (n int) {
	if m.Bits <= b {
		return 0
	}
	lo, hi := int8(-1<<(b-1)), int8(1<<(b-1)-1)
	for _, list := range [][]int8{m.Codes, m.Zeros} {
		for _, q := range list {
			if q < lo || q > hi {
				n++
			}
		}
	}
	return n
}

// order returns the groups of columns as a format with an order stores them, and how many columns have no place: those out of line
// in a format without an order; those of groups of unequal size, which readers take apart in different ways.
func order(m *formats.Affine, groups int, ordered bool) (idx []int32, misfits int) {
	width := m.In / groups
	if !ordered && m.GIdx == nil {
		return nil, 0
	}
	idx = make([]int32, m.In)
	for i := range idx {
		idx[i] = int32(i / width)
	}
	if m.GIdx == nil {
		return idx, 0
	}
	for i, g := range m.GIdx {
		if int(g) != i/(m.In/m.Groups()) {
			misfits++
		}
	}
	switch {
	case misfits == 0 && ordered:
		return idx, 0
	case misfits == 0:
		return nil, 0
	case ordered && groups == m.Groups() && unequal(m.GIdx, groups) == -1:
		return m.GIdx, 0
	}
	return nil, misfits
}

// unequal returns the first group that has another number of columns than the rest, -1 for none.
func unequal(gIdx []int32, groups int) int {
	n := make([]int, groups)
	for _, g := range gIdx {
		n[g]++
	}
	for g, k := range n {
		if k*groups != len(gIdx) {
			return g
		}
	}
	return -1
}

// fitZeros repeats each zero point for the groups that its group becomes. It returns how many a symmetric format would lose.
func (f *fitted) fitZeros(m *formats.Affine, symmetric bool, repeat int) (lost int) {
	if symmetric {
		for _, z := range m.Zeros {
			if z != 0 {
				lost++
			}
		}
		return lost
	}
	f.zeros = make([]int8, m.Out*f.groups)
	if m.Zeros != nil {
		for i := range f.zeros {
			f.zeros[i] = m.Zeros[i/repeat]
		}
	}
	return 0
}

// fitScales repeats each scale likewise and stores it as dt.
func (f *fitted) fitScales(weight string, from []float32, dt formats.DType, repeat int) error {
	if err := formats.CheckFinite("", weight, from, 0); err != nil {
		return err
	}
	scales := make([]float32, len(from)*repeat)
	for i := range scales {
		scales[i] = from[i/repeat]
	}
	f.scales = make([]byte, len(scales)*dt.Size())
	back := make([]float32, len(scales))
	if err := errors.Join(formats.Encode(f.scales, scales, dt), formats.Decode(back, f.scales, dt)); err != nil {
		return formats.Errorf("", weight, "%w", err)
	}
	n := 0
	for i, v := range back {
		if v != scales[i] {
			n++
		}
	}
	if n > 0 {
		return &formats.Inexact{Tensor: weight, Count: n, Cause: fmt.Sprintf("scales that are no values of %s", dt)}
	}
	return nil
}
