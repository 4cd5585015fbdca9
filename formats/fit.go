package formats

import (
	"fmt"
	"math"
)

// Fit says what a setting of a format has place for.
type Fit struct {
	Bits      int   // of codes and zero points
	Group     int   // columns that share a scale; -1 for one scale per output row
	Scale     DType // that scales are stored in
	Symmetric bool  // no zero points
	Ordered   bool  // columns may belong to groups in an order of their own
}

// Fit returns an [Inexact] about tensor where a format cannot hold the weight without a change of a value, and another error where the
// weight itself is at fault. Codes of fewer bits fit, and so do groups which those of the format divide: their scales are repeated.
func (m *Affine) Fit(tensor string, f Fit) error {
	if err := m.Check(); err != nil {
		return Errorf("", tensor, "%w", err)
	}
	if f.Group != -1 && (f.Group <= 0 || m.In%f.Group != 0) {
		return Errorf("", tensor, "%d columns do not divide into groups of %d", m.In, f.Group)
	}
	if err := CheckFinite("", tensor, m.Scales, 0); err != nil {
		return err
	}
	groups, moved := 1, m.moved()
	if f.Group != -1 {
		groups = m.In / f.Group
	}
	lo, hi := int8(-1<<(f.Bits-1)), int8(1<<(f.Bits-1)-1)
	for _, c := range []struct {
		count int
		cause string
	}{
		{countIf(m.Codes, func(q int8) bool { return q < lo || q > hi }), fmt.Sprintf("codes do not fit into %d bits", f.Bits)},
		{countIf(m.Zeros, func(z int8) bool { return f.Symmetric && z != 0 }), "zero points, where the format is symmetric"},
		{countIf(m.Zeros, func(z int8) bool { return z < lo || z > hi }), fmt.Sprintf("zero points do not fit into %d bits", f.Bits)},
		{countIf(m.Scales, func(s float32) bool { return !f.Scale.Holds(s) }), "scales are not values of " + f.Scale.String()},
		{moved * b2i(!f.Ordered), "columns belong to groups in an order of their own, which the format does not have"},
		{len(m.Scales) * b2i(groups%m.Groups() != 0 || moved > 0 && groups != m.Groups()),
			"scales are of groups that those of the format do not divide"},
	} {
		if c.count > 0 {
			return &Inexact{Tensor: tensor, Count: c.count, Cause: c.cause}
		}
	}
	return nil
}

// Holds reports whether a value of the type, one of those for which [DType.IsFloat] is true, is exactly f, the sign of 0 included.
func (d DType) Holds(f float32) bool {
	var b [8]byte
	var back [1]float32
	n := d.Size()
	if Encode(b[:n], []float32{f}, d) != nil || Decode(back[:], b[:n], d) != nil {
		return false
	}
	return math.Float32bits(back[0]) == math.Float32bits(f)
}

// moved counts the columns that do not belong to the group in whose place they lie.
func (m *Affine) moved() int {
	n, width := 0, m.In/m.Groups()
	for i, g := range m.GIdx {
		if int(g) != i/width {
			n++
		}
	}
	return n
}

func countIf[T any](list []T, f func(T) bool) int {
	n := 0
	for _, v := range list {
		if f(v) {
			n++
		}
	}
	return n
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}
