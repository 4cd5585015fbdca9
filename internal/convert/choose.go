package convert

import (
	"errors"
	"fmt"
	"slices"

	"modelpress/formats"
	"modelpress/internal/arch"
	"modelpress/internal/pipeline"
)

// setting chooses how a module is stored, and whether its codes are carried over; why says what speaks against that.
func (d *directory) setting(t formats.TensorInfo, lin arch.Linear) (set *setting, carry bool, why string, err error) {
	scales := d.scaleType(t)
	st, stored := d.storedAs(t.Name)
	if d.o.Format == Packed && d.o.Scheme != "" {
		if set, err = scheme(d.o.Scheme, scales); err != nil {
			return nil, false, "", err
		}
		carry = stored && st.Grid && set.grid != nil && st.Code == set.bits && st.Group == set.size && st.Symmetric == set.symmetric && !st.Ordered
		return set, carry, notAsked(stored && st.Grid && !carry), set.fits(lin)
	}
	asked := d.o.Bits != 0 || d.o.Group != 0 || d.o.Asymmetric
	if stored && st.Grid && !asked {
		set, err = grids(d.o.Format, wide(d.o.Format, st.Code), st.Group, st.Symmetric, st.Ordered, scales)
		if err == nil {
			err = set.fits(lin)
		}
		if err == nil {
			return set, true, "", nil
		}
		why = err.Error()
	}
	bits, group := d.o.Bits, d.o.Group
	if bits == 0 {
		bits = 4
	}
	if group == 0 && stored && st.Grid && slices.Contains([]int{32, 64, 128}, st.Group) {
		group = st.Group
	}
	if group == 0 {
		group = 128
	}
	symmetric := !d.o.Asymmetric
	if stored && st.Grid && !asked {
		symmetric = st.Symmetric
	}
	if set, err = grids(d.o.Format, bits, group, symmetric, false, scales); err != nil {
		return nil, false, "", usage("", "module %q: %v", lin.Module(), err)
	}
	carry = stored && st.Grid && st.Code == bits && st.Group == group && st.Symmetric == symmetric && !st.Ordered
	if why == "" {
		why = notAsked(stored && st.Grid && !carry)
	}
	return set, carry, why, set.fits(lin)
}

// notAsked says why codes that a weight has are not carried over: another grid is asked for.
func notAsked(yes bool) string {
	if yes {
		return "another grid is asked for"
	}
	return ""
}

// wide is the least number of bits that a format has for codes of so many; the same where it has none.
func wide(format string, bits int) int {
	have := map[string][]int{Packed: {4, 8}, GPTQ: {2, 3, 4, 8}, GPTQv2: {2, 3, 4, 8}, AWQ: {4}}[format]
	for _, b := range have {
		if b >= bits {
			return b
		}
	}
	return bits
}

// scaleType is the type of a module's scales: that of the values beside it where it can be, F16 or BF16 or F32.
func (d *directory) scaleType(t formats.TensorInfo) formats.DType {
	if want, ok := dtypes[d.o.DType]; ok {
		return want
	}
	if st, ok := d.storedAs(t.Name); ok && st.Grid && t.DType == formats.F32 { // scales in F16, which views of GPTQ, AWQ and GGUF do not show
		return formats.F16
	}
	if t.DType == formats.F64 {
		return formats.F32
	}
	return t.DType
}

// fits says why a setting cannot store a module.
func (s *setting) fits(lin arch.Linear) error {
	var err error
	if s.float != nil {
		err = s.float.Check(int64(lin.Out), int64(lin.In))
	} else {
		err = s.grid.Check(int64(lin.Out), int64(lin.In))
	}
	if err != nil {
		return formats.Errorf("", lin.Weight, "%s: %w", s.name, err)
	}
	return nil
}

// refused is the error for all modules that cannot be stored, nil where there are none.
func (d *directory) refused() error {
	const most = 10
	n := len(d.faults)
	if n == 0 {
		return nil
	}
	list := d.faults[:min(n, most)]
	if n > most {
		list = append(slices.Clip(list), fmt.Errorf("and %d more", n-most))
	}
	return &pipeline.Error{Kind: pipeline.KindUsage, Err: fmt.Errorf("convert: %d modules cannot be stored as asked:\n%w", n, errors.Join(list...)),
		Hint: "leave modules out with --ignore, or choose another group size or scheme"}
}
