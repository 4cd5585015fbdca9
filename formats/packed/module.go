package packed

import (
	"fmt"
	"slices"

	"modelpress/formats"
)

// openModule checks every tensor of a quantized module.
func openModule(src formats.Source, r *rules, name string) (weight, error) {
	st, err := r.find(name)
	if err != nil {
		return nil, formats.Errorf(where, name, "%w", err)
	}
	m := module{stored: st, name: name}
	if st.float != nil {
		return openFloats(src, m)
	}
	return openInts(src, m)
}

// finish fills in what follows from size and type of a weight, and looks at what else has a name of the module: need lists the
// suffixes of the tensors that it is stored in.
func (m *module) finish(src formats.Source, show formats.DType, out, in int64, need ...string) error {
	m.in = int(in)
	m.info = formats.TensorInfo{Name: m.name + suffixWeight, DType: show, Shape: []int64{out, in}}
	m.storage.Format = m.format
	var bytes int64
	for _, s := range suffixes {
		t, ok := src.Lookup(m.name + s)
		if !ok {
			continue
		}
		if !slices.Contains(need, s) {
			if err := m.extra(t, s); err != nil {
				return err
			}
		} else if n, err := t.Bytes(); err == nil {
			bytes += n
		}
		m.storage.Tensors = append(m.storage.Tensors, t.Name)
	}
	slices.Sort(m.storage.Tensors)
	m.storage.Bits = 8 * float64(bytes) / (float64(out) * float64(in))
	return nil
}

// extra refuses a tensor that the setting has no place for. Scales of activations are hidden where the config says that there are any.
func (m *module) extra(t formats.TensorInfo, suffix string) error {
	input := suffix == suffixInput || suffix == suffixInputZero || suffix == suffixInputGlobal
	switch {
	case suffix == suffixWeight:
		return formats.Errorf(where, t.Name, "stands beside the packed form of the same weight")
	case suffix == suffixZero:
		return formats.Errorf(where, t.Name, "zero points beside a symmetric scheme")
	case !input || !m.static:
		return formats.Errorf(where, t.Name, "%s has no place for it under this config", m.format)
	}
	if n, err := t.Elements(); err != nil || n != 1 {
		return formats.Errorf(where, t.Name, "one value is needed, found %s", describe(t, true))
	}
	return nil
}

// scaleType checks the scales and returns their type.
func scaleType(src formats.Source, name string, shapes ...[]int64) (formats.DType, error) {
	t, ok := src.Lookup(name)
	fits := slices.ContainsFunc(shapes, func(s []int64) bool { return slices.Equal(s, t.Shape) })
	if !ok || !fits || checkScales(t.DType) != nil {
		return formats.Invalid, formats.Errorf(where, name, "BF16, F16 or F32 %v is needed, found %s", shapes[0], describe(t, ok))
	}
	return t.DType, nil
}

func need(src formats.Source, name string, dt formats.DType, shape ...int64) error {
	t, ok := src.Lookup(name)
	if !ok || t.DType != dt || !slices.Equal(t.Shape, shape) {
		return formats.Errorf(where, name, "%s %v is needed, found %s", dt, shape, describe(t, ok))
	}
	return nil
}

func describe(t formats.TensorInfo, ok bool) string {
	if !ok {
		return "no such tensor"
	}
	return fmt.Sprintf("%s %v", t.DType, t.Shape)
}
