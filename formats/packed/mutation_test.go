package packed

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"modelpress/formats"
)

// refused reports whether a checkpoint is refused with an error about a tensor.
func refused(e example) (bool, error) {
	_, err := Dense(e.tensors, e.config)
	var f *formats.Error
	return errors.As(err, &f) && f.Tensor != "", err
}

// spoilt returns the example with one tensor changed.
func (e example) spoilt(name string, info formats.TensorInfo) example {
	e.tensors = maps.Clone(e.tensors)
	n, err := info.Bytes()
	if err != nil {
		n = 0
	}
	data := make([]byte, n)
	copy(data, e.tensors[name].Data)
	e.tensors.put(name, info.DType, data, info.Shape...)
	return e
}

// Every tensor of every format may be missing, of another type or of another shape, and others may stand beside them.
func TestHostileTensorsOfAllFormats(t *testing.T) {
	for _, e := range examples(t) {
		if ok, err := refused(e); ok || err != nil {
			t.Fatalf("%s itself: %v", e.name, err)
		}
		for _, info := range e.tensors.Tensors() {
			what, suffix := e.name+" "+info.Name, info.Name[strings.LastIndexByte(info.Name, '.'):]
			if suffix == suffixInput || suffix == suffixInputGlobal {
				continue // any single value
			}
			without := e
			without.tensors = maps.Clone(e.tensors)
			delete(without.tensors, info.Name)
			if ok, err := refused(without); !ok {
				t.Errorf("%s is missing: %v", what, err)
			}
			factor := suffix == suffixScale || suffix == suffixScaleInv
			for dt := formats.Bool; dt <= formats.U64; dt++ {
				// Scales are of any type that the model may have; some writers store the shape as I32.
				same := dt == info.DType || factor && checkScales(info.DType) == nil && checkScales(dt) == nil || suffix == suffixShape && dt == formats.I32
				if same {
					continue
				}
				if ok, err := refused(e.spoilt(info.Name, formats.TensorInfo{DType: dt, Shape: info.Shape})); !ok {
					t.Errorf("%s as %s: %v", what, dt, err)
				}
			}
			for _, shape := range shapesBeside(info.Shape) {
				if len(shape) == 0 && slices.Equal(info.Shape, []int64{1}) {
					continue // one value, with or without a dimension
				}
				if ok, err := refused(e.spoilt(info.Name, formats.TensorInfo{DType: info.DType, Shape: shape})); !ok && !onlyLessTensors(e, info.Name, shape) {
					t.Errorf("%s %v as %v: %v", what, info.Shape, shape, err)
				}
			}
		}
		first := e.tensors.Tensors()[0].Name
		module := first[:strings.LastIndexByte(first, '.')]
		for _, s := range suffixes {
			if _, ok := e.tensors[module+s]; ok {
				continue
			}
			if ok, err := refused(e.spoilt(module+s, formats.TensorInfo{DType: formats.F32, Shape: []int64{2}})); !ok {
				t.Errorf("%s with %s beside: %v", e.name, s, err)
			}
		}
	}
}

// shapesBeside returns shapes that are not the given one.
func shapesBeside(shape []int64) [][]int64 {
	list := [][]int64{{}, append([]int64{1}, shape...), append(slices.Clone(shape), 1)}
	for i := range shape {
		for _, d := range []int64{-1, 1} {
			s := slices.Clone(shape)
			s[i] += d
			list = append(list, s)
		}
		s := slices.Clone(shape)
		s[i] = -s[i]
		list = append(list, s)
	}
	if len(shape) == 2 && shape[0] != shape[1] {
		list = append(list, []int64{shape[1], shape[0]}, []int64{shape[0] * shape[1]})
	}
	return slices.DeleteFunc(list, func(s []int64) bool { return slices.Equal(s, shape) })
}

// onlyLessTensors reports whether a size of codes is one that the scales fit as well: the weight is a smaller one or a larger one then.
func onlyLessTensors(e example, name string, shape []int64) bool {
	suffix := name[strings.LastIndexByte(name, '.'):]
	scale, ok := e.tensors[strings.TrimSuffix(name, suffix)+suffixScale]
	if !ok {
		scale, ok = e.tensors[strings.TrimSuffix(name, suffix)+suffixScaleInv]
	}
	if suffix != suffixWeight || !ok || len(shape) != 2 || shape[0] <= 0 || shape[1] <= 0 {
		return false
	}
	switch {
	case len(scale.Shape) == 1: // one for all
		return true
	case scale.Shape[1] == 1 && scale.Shape[0] == shape[0]: // one for a row
		return true
	}
	old := e.tensors[name].Shape
	return scale.Shape[0] != old[0] && (shape[0]-1)/blockSide == (old[0]-1)/blockSide && (shape[1]-1)/64 == (old[1]-1)/64 // blocks
}

// Values that are no weights are refused when they are read, by name.
func TestHostileValues(t *testing.T) {
	all := map[string]example{}
	for _, e := range examples(t) {
		all[e.name] = e
	}
	nan := binary.LittleEndian.AppendUint32(nil, math.Float32bits(float32(math.NaN())))
	inf := f32Bytes(float32(math.Inf(1)))
	for _, c := range []struct {
		name, example, tensor string
		at                    int
		data                  []byte
		open                  bool // refused when the checkpoint is opened
	}{
		{"NaN scale", "pack4-g32-sym=true-F32", "m.0.weight_scale", 4, nan, false},
		{"infinite scale", "int8-sym=false-F32", "m.0.weight_scale", 4, inf, false},
		{"product past F16", "pack8-channel-sym=false-F16", "m.0.weight_scale", 0, []byte{0xff, 0x7b}, false},
		{"NaN scale of FP8", "float-quantized-tensor-F32", "m.0.weight_scale", 0, nan, false},
		{"NaN code of FP8", "float-quantized-block-BF16", "m.1.weight", 200, []byte{0xff}, false},
		{"product past BF16", "float-quantized-channel-BF16", "m.0.weight_scale", 2, []byte{0x7f, 0x7f}, false},
		{"NaN scale of a group", "nvfp4-pack-quantized", "m.0.weight_scale", 3, []byte{0x7f}, false},
		{"NaN exponent", "mxfp4-pack-quantized", "m.0.weight_scale", 5, []byte{0xff}, false},
		{"global scale 0", "nvfp4-pack-quantized", "m.0.weight_global_scale", 0, f32Bytes(0), true},
		{"negative global scale", "nvfp4-pack-quantized", "m.0.weight_global_scale", 0, f32Bytes(-1), true},
		{"NaN global scale", "nvfp4-pack-quantized", "m.0.weight_global_scale", 0, nan, true},
		{"infinite global scale", "nvfp4-pack-quantized", "m.0.weight_global_scale", 0, inf, true},
		{"product of a tiny global scale", "nvfp4-pack-quantized", "m.0.weight_global_scale", 0, f32Bytes(1e-42), false},
		{"reciprocal of 0", "modelopt-nvfp4", "m.weight_scale_2", 0, f32Bytes(0), true},
		{"reciprocal of infinity", "modelopt-nvfp4", "m.weight_scale_2", 0, inf, true},
		{"column in no group", "pack4-order-sym=true-F32", "m.0.weight_g_idx", 4, []byte{5, 0, 0, 0}, true},
		{"column in a negative group", "pack4-order-sym=true-F32", "m.0.weight_g_idx", 4, []byte{0xff, 0xff, 0xff, 0xff}, true},
		{"groups of unequal size", "pack4-order-sym=true-F32", "m.0.weight_g_idx", 0, bytes.Repeat([]byte{1, 0, 0, 0}, 33), true},
	} {
		e := all[c.example]
		e = e.spoilt(c.tensor, e.tensors[c.tensor].TensorInfo)
		copy(e.tensors[c.tensor].Data[c.at:], c.data)
		view, err := Dense(e.tensors, e.config)
		if c.open != (err != nil) {
			t.Errorf("%s: %v on opening", c.name, err)
			continue
		}
		module, _, _ := strings.Cut(c.tensor, ".weight")
		if !c.open {
			info, _ := view.Lookup(module + ".weight")
			n, _ := info.Bytes()
			err = view.ReadAt(info.Name, make([]byte, n), 0)
		}
		want := c.tensor
		if strings.HasPrefix(c.name, "product") {
			want = module + ".weight"
		}
		var f *formats.Error
		if !errors.As(err, &f) || f.Tensor != want {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// Reads from anywhere to anywhere are parts of one whole read.
func TestDenseReadsOfParts(t *testing.T) {
	r := rand.New(rand.NewPCG(2, 2))
	list := examples(t)
	large := example{name: "large", tensors: memory{}, config: Config([]GroupConfig{{Setting: Float{FormatFloat, StrategyBlock, formats.F16}}}, nil)}
	large.tensors.put("m.weight", formats.F8E4M3, codes8(r, 1030*301), 1030, 301) // more than is dequantized at once
	large.tensors.put("m.weight_scale", formats.F16, scalesOf(t, r, 27, formats.F16), 9, 3)
	for _, e := range append(list, large) {
		view, err := Dense(e.tensors, e.config)
		if err != nil {
			t.Fatal(err)
		}
		readParts(t, r, e.name, view)
		readParts(t, r, e.name+" unrounded", view.(formats.Unrounder).Unrounded())
	}
}

func readParts(t *testing.T, r *rand.Rand, what string, view formats.Quantized) {
	t.Helper()
	for _, info := range view.Tensors() {
		whole := readAll(t, view, info.Name)
		for range 6 {
			a := r.IntN(len(whole) + 1)
			b := a + r.IntN(len(whole)-a+1)
			p := make([]byte, b-a)
			if err := view.ReadAt(info.Name, p, int64(a)); err != nil || !bytes.Equal(p, whole[a:b]) {
				t.Errorf("%s: bytes [%d, %d) of %s differ (%v)", what, a, b, info.Name, err)
			}
		}
		for _, span := range [][2]int64{{-1, 1}, {int64(len(whole)), 1}, {0, int64(len(whole)) + 1}, {math.MaxInt64, 1}} {
			if err := view.ReadAt(info.Name, make([]byte, span[1]), span[0]); err == nil {
				t.Errorf("%s: read of %v succeeds", what, span)
			}
		}
	}
	if err := view.ReadAt("n.weight", make([]byte, 1), 0); err == nil {
		t.Errorf("%s: a tensor that is not there is read", what)
	}
	if _, err := view.Affine("n.weight"); err == nil {
		t.Errorf("%s: a weight that is not there is read", what)
	}
}

var seeds = sync.OnceValue(func() []example { return examples(&testing.T{}) })

// FuzzTensors changes a tensor of a checkpoint: an error or a readable view, never a panic.
func FuzzTensors(f *testing.F) {
	for i := range seeds() {
		f.Add(uint8(i), uint8(i), uint8(i%18), int64(3), int64(5), []byte("abc"))
	}
	f.Fuzz(func(t *testing.T, which, tensor, dtype uint8, rows, columns int64, data []byte) {
		e := seeds()[int(which)%len(seeds())]
		list := e.tensors.Tensors()
		info := list[int(tensor)%len(list)]
		name := info.Name
		if dt := formats.DType(dtype); dt.Size() > 0 {
			info.DType = dt
		}
		if rows != 0 || columns != 0 {
			info.Shape = []int64{rows, columns}
		}
		n, err := info.Bytes()
		if err != nil || n > 1<<16 {
			return // the reader of files refuses it
		}
		e = e.spoilt(name, info)
		copy(e.tensors[name].Data, data)
		readable(t, e.tensors, e.config)
	})
}

// FuzzDense feeds arbitrary configs to checkpoints of every format.
func FuzzDense(f *testing.F) {
	for i, e := range seeds() {
		f.Add(uint8(i), []byte(e.config))
	}
	f.Add(uint8(0), []byte(`{"producer":{"name":"modelopt"},"quantization":{"quant_algo":"NVFP4","kv_cache_quant_algo":null}}`))
	f.Fuzz(func(t *testing.T, which uint8, config []byte) {
		readable(t, seeds()[int(which)%len(seeds())].tensors, config)
	})
}

// readable reads all that a view shows, if there is one.
func readable(t *testing.T, src memory, config json.RawMessage) {
	view, err := Dense(src, config)
	if err != nil {
		return
	}
	for _, info := range view.Tensors() {
		n, err := info.Bytes()
		if err != nil {
			t.Fatalf("shown %v: %v", info, err)
		}
		dense := view.ReadAt(info.Name, make([]byte, n), 0)
		if st, ok := view.Storage(info.Name); ok && st.Grid {
			if m, err := view.Affine(info.Name); err == nil {
				if err := m.Check(); err != nil {
					t.Fatal(err)
				}
			} else if dense == nil {
				t.Fatalf("dense, but not as codes: %v", err)
			}
		}
	}
}
