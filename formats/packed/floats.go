package packed

import (
	"slices"

	"modelpress/formats"
)

// floats is a weight whose codes are floats.
type floats struct {
	module
	scaleRows, scaleCols int64
	global               float32 // what scales are divided by; 1 where there is no scale of scales
}

// openFloats checks every tensor of a weight whose codes are floats.
func openFloats(src formats.Source, m module) (*floats, error) {
	w := &floats{module: m, global: 1}
	out, in, err := w.size(src)
	if err != nil {
		return nil, err
	}
	if err := w.float.check(out, in); err != nil {
		return nil, formats.Errorf(where, w.name+suffixWeight, "%w", err)
	}
	w.scaleRows, w.scaleCols = w.float.grid(out, in)
	show, err := w.checkScales(src, out, in)
	if err != nil {
		return nil, err
	}
	have := []string{w.float.codeSuffix(), w.float.scaleSuffix()}
	if w.float.global != "" {
		if err := w.readGlobal(src); err != nil {
			return nil, err
		}
		have = append(have, w.float.global)
	}
	w.storage = formats.Storage{Group: w.float.shared(), Symmetric: true}
	return w, w.finish(src, show, out, in, have...)
}

// size returns the logical size of the weight.
func (w *floats) size(src formats.Source) (out, in int64, err error) {
	name := w.name + w.float.codeSuffix()
	t, ok := src.Lookup(name)
	if !ok {
		// The codes that led here are those of another format.
		name = w.name + suffixWeight
		if w.float.codeSuffix() == suffixWeight {
			name = w.name + suffixPacked
		}
		t, ok = src.Lookup(name)
	}
	if !ok || t.DType != w.float.code || len(t.Shape) != 2 {
		return 0, 0, formats.Errorf(where, name, "%s needs %s of two dimensions as %s, found %s",
			w.format, w.float.code, w.float.codeSuffix()[1:], describe(t, ok))
	}
	if w.float.fp4() {
		if t.Shape[1] > maxGroup {
			return 0, 0, formats.Errorf(where, name, "shape %v has no usable size", t.Shape)
		}
		return t.Shape[0], 2 * t.Shape[1], nil
	}
	return t.Shape[0], t.Shape[1], nil
}

// checkScales checks type and shape of the scales, and returns the type that the weight is shown in.
func (w *floats) checkScales(src formats.Source, out, in int64) (formats.DType, error) {
	l, name := w.float, w.name+w.float.scaleSuffix()
	shape := l.scaleShape(out, in)
	if l.scale != formats.Invalid {
		return l.show, need(src, name, l.scale, shape...)
	}
	shapes := [][]int64{shape}
	if len(shape) == 1 {
		shapes = append(shapes, []int64{})
	}
	dt, err := scaleType(src, name, shapes...)
	if l.show != formats.Invalid {
		dt = l.show
	}
	return dt, err
}

// readGlobal reads the scale of scales. ModelOpt stores its reciprocal; the division is that of ModelOptNvfp4Converter of
// compressed-tensors.
func (w *floats) readGlobal(src formats.Source) error {
	name := w.name + w.float.global
	t, ok := src.Lookup(name)
	if !ok || t.DType != formats.F32 || !slices.Equal(t.Shape, []int64{1}) && len(t.Shape) != 0 {
		return formats.Errorf(where, name, "F32 [1] is needed, found %s", describe(t, ok))
	}
	var v [1]float32
	if err := formats.ReadF32(src, name, v[:], 0); err != nil {
		return err
	}
	if w.float.global == suffixScale2 {
		v[0] = 1 / v[0]
	}
	if err := formats.CheckFinite(where, name, v[:], 0); err != nil {
		return err
	}
	if v[0] <= 0 {
		return formats.Errorf(where, name, "a scale of %v", v[0])
	}
	w.global = v[0]
	return nil
}

// values implements weight: the product of code and scale, which is exact in float32 but for scales that are F32 or divided by a
// global one.
func (w *floats) values(src formats.Source, dst []float32, first int) error {
	n := len(dst) / w.in
	per := w.in
	if w.float.fp4() {
		per /= 2
	}
	codes := make([]byte, n*per)
	if err := src.ReadAt(w.name+w.float.codeSuffix(), codes, int64(first)*int64(per)); err != nil {
		return err
	}
	height, width := int(w.float.rows), int(w.float.columns)
	if height == 0 {
		height = int(w.info.Shape[0])
	}
	if width == 0 {
		width = w.in
	}
	from, to := first/height, (first+n-1)/height+1
	scales, err := w.scales(src, int64(from), int64(to))
	if err != nil {
		return err
	}
	for r := range n {
		row := dst[r*w.in : (r+1)*w.in]
		w.decode(row, codes[r*per:(r+1)*per])
		list := scales[((first+r)/height-from)*int(w.scaleCols):]
		for c := 0; c < w.in; c += width {
			part := row[c:min(c+width, w.in)]
			for i := range part {
				part[i] *= list[c/width]
			}
		}
	}
	return nil
}

// decode fills a row with the values of its codes.
func (w *floats) decode(row []float32, codes []byte) {
	if w.float.fp4() {
		for i, b := range codes {
			row[2*i], row[2*i+1] = formats.E2M1ToF32(b), formats.E2M1ToF32(b>>4)
		}
		return
	}
	for i, b := range codes {
		row[i] = formats.E4M3ToF32(b)
	}
}

// scales returns the rows [from, to) of scales.
func (w *floats) scales(src formats.Source, from, to int64) ([]float32, error) {
	name := w.name + w.float.scaleSuffix()
	v, at := make([]float32, (to-from)*w.scaleCols), from*w.scaleCols
	if w.float.scale == formats.U8 {
		b := make([]byte, len(v))
		if err := src.ReadAt(name, b, at); err != nil {
			return nil, err
		}
		for i, e := range b {
			v[i] = formats.E8M0ToF32(e)
		}
	} else if err := formats.ReadF32(src, name, v, at); err != nil {
		return nil, err
	}
	if err := formats.CheckFinite(where, name, v, at); err != nil {
		return nil, err
	}
	if w.float.global != "" {
		for i := range v {
			v[i] /= w.global
		}
	}
	return v, nil
}
