package kvmerge

import (
	"encoding/binary"
	"errors"
	"math"
	"strings"
	"testing"

	"modelpress/formats"
	"modelpress/internal/arch"
	"modelpress/internal/testmodel"
)

// Results that overflow are refused, not shown as infinities.
func TestViewRefusesOverflow(t *testing.T) {
	src := testmodel.Named("llama-mha")
	m := viewModel(t, src)
	plan := randomPlan(m, 2, 1, 13)
	for i := range plan.maps[0].Key.Encode[0] {
		plan.maps[0].Key.Encode[0][i] = math.MaxFloat64
	}
	k := m.Layers[0].Linears[arch.K].Weight
	w, err := src.Values(k)
	if err != nil {
		t.Fatal(err)
	}
	for i := range w {
		w[i] = 2
	}
	src.Set(k, w)
	v, _, err := View(src, m, plan.layers, plan.load, nil)
	if err != nil {
		t.Fatal(err)
	}
	info, _ := v.Lookup(k)
	size, _ := info.Bytes()
	var e *formats.Error
	if err := v.ReadAt(k, make([]byte, size), 0); !errors.As(err, &e) || e.Tensor != k || !strings.Contains(err.Error(), "not finite") {
		t.Errorf("%v", err)
	}
}

// wide shows one tensor of a model as F64, with a value of the caller's own.
type wide struct {
	*testmodel.Model
	name  string
	index int64
	value float64
}

func (w *wide) Lookup(name string) (formats.TensorInfo, bool) {
	info, ok := w.Model.Lookup(name)
	if name == w.name {
		info.DType = formats.F64
	}
	return info, ok
}

func (w *wide) ReadAt(name string, p []byte, off int64) error {
	if name != w.name {
		return w.Model.ReadAt(name, p, off)
	}
	v, err := w.Values(name)
	if err != nil {
		return err
	}
	for i := range len(p) / 8 {
		x := float64(v[off/8+int64(i)])
		if off/8+int64(i) == w.index {
			x = w.value
		}
		binary.LittleEndian.PutUint64(p[8*i:], math.Float64bits(x))
	}
	return nil
}

// Values of the source that are not finite are refused where they are read, each time; those of F64 keep all their bits.
func TestViewOfValues(t *testing.T) {
	src := testmodel.Named("llama-mha")
	m := viewModel(t, src)
	name := m.Layers[0].Linears[arch.V].Weight
	groups := Groups{{1}, {0}, {2}, {3}, {4}, {5}, {6}, {7}}
	layers := []Layer{{Groups: groups}, {}}
	maps := func(int) (*Maps, error) { return identityMaps(&m.Layers[0], groups), nil }
	read := func(s formats.Source) (float64, error) {
		v, _, err := View(s, m, layers, maps, nil)
		if err != nil {
			t.Fatal(err)
		}
		p := make([]byte, 8)
		_ = v.ReadAt(name, p, 8*8*64) // the first error does not hide the second
		err = v.ReadAt(name, p, 8*8*64)
		return math.Float64frombits(binary.LittleEndian.Uint64(p)), err
	}
	fine := math.Nextafter(1, 2)
	if got, err := read(&wide{src, name, 0, fine}); err != nil || got != fine {
		t.Errorf("%v became %v (%v)", fine, got, err)
	}
	for _, bad := range []float64{math.NaN(), math.Inf(1)} {
		var e *formats.Error
		if _, err := read(&wide{src, name, 0, bad}); !errors.As(err, &e) || e.Tensor != name || !strings.Contains(err.Error(), "index 0") {
			t.Errorf("F64 %v: %v", bad, err)
		}
		w, err := src.Values(name)
		if err != nil {
			t.Fatal(err)
		}
		w[3] = float32(bad)
		src.Set(name, w)
		if _, err := read(src); !errors.As(err, &e) || e.Tensor != name || !strings.Contains(err.Error(), "index 3") {
			t.Errorf("F32 %v: %v", bad, err)
		}
		w[3] = 0
		src.Set(name, w)
	}
}
