package kvmerge

import (
	"errors"
	"math"
	"strings"
	"testing"

	"modelpress/formats"
	"modelpress/internal/arch"
	"modelpress/internal/testmodel"
)

func TestViewRefusesLayers(t *testing.T) {
	two := Contiguous(8, 2)
	for _, c := range []struct {
		name   string
		layers []Layer
		want   string
	}{
		{"llama-mha", nil, "0 layers are to be merged, the model has 2"},
		{"llama-mha", make([]Layer, 3), "3 layers"},
		{"llama-mha", []Layer{{}, {Groups: Groups{{0, 1}}}}, "2 of 8 heads"},
		{"llama-mha", []Layer{{}, {Groups: Groups{{0}, {1}}}}, "2 of 8 heads"},
		{"llama-mha", []Layer{{Groups: Groups{{0, 1, 2, 3}, {4, 5, 6, 6}}}, {}}, "stands twice"},
		{"llama-mha", []Layer{{Groups: Groups{{0, 1, 2, 3, 4}, {5, 6, 7}}}, {}}, "group 1 has 3"},
		{"llama-mha", []Layer{{Groups: Groups{{0, 1, 2, 3}, {4, 5, 6, -1}}}, {}}, "-1"},
		{"llama-mha", []Layer{{Groups: two, Repeat: -1}, {}}, "-1 times"},
		{"llama-mha", []Layer{{Groups: two, Repeat: 3}, {}}, "3 copies"},
		{"llama-mha", []Layer{{Groups: two, Repeat: 4}, {}}, "4 copies"},
		{"llama-mha", []Layer{{Repeat: 2}, {}}, "2 copies"},
		{"llama-pruned", []Layer{{}, {Groups: Groups{{0}}}, {}, {}}, "no attention"},
		{"llama-pruned", []Layer{{}, {Repeat: 2}, {}, {}}, "no attention"},
		{"gpt2", []Layer{{Groups: two}, {}}, "cannot be written with 4 KV heads"},
		{"gpt2", []Layer{{Groups: Contiguous(8, 4), Repeat: 2}, {}}, "cannot be written with 4 KV heads"},
	} {
		src := testmodel.Named(c.name)
		m := viewModel(t, src)
		_, _, err := View(src, m, c.layers, nil, nil)
		var e *formats.Error
		if !errors.As(err, &e) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %+v: %v, want %q", c.name, c.layers, err, c.want)
			continue
		}
		if len(c.layers) == len(m.Layers) && c.name != "llama-pruned" && e.Tensor == "" {
			t.Errorf("%s: %v names no tensor", c.name, err)
		}
	}
}

func TestViewRefusesSources(t *testing.T) {
	src := testmodel.Named("llama-bias")
	m := viewModel(t, src)
	plan := randomPlan(m, 2, 1, 11)
	q, k := m.Layers[1].Linears[arch.Q], m.Layers[1].Linears[arch.K]
	for name, change := range map[string]func() (formats.Source, *arch.Model){
		q.Bias: func() (formats.Source, *arch.Model) { return src.Without(q.Bias), m },
		q.Weight: func() (formats.Source, *arch.Model) {
			n := m.Clone()
			n.Layers[1].Linears[arch.Q].In++
			return src, n
		},
		k.Weight: func() (formats.Source, *arch.Model) {
			n := m.Clone()
			n.Layers[1].K--
			return src, n
		},
		m.Layers[0].Linears[arch.Q].Weight: func() (formats.Source, *arch.Model) {
			n := m.Clone()
			n.Layers[1].Linears[arch.Q].Weight = m.Layers[0].Linears[arch.Q].Weight
			return src, n
		},
	} {
		s, n := change()
		_, _, err := View(s, n, plan.layers, plan.load, nil)
		var e *formats.Error
		if !errors.As(err, &e) || e.Tensor != name {
			t.Errorf("%v, want %s to blame", err, name)
		}
	}
}

// Maps are checked when they come, and a failure does not stay.
func TestViewRefusesMaps(t *testing.T) {
	src := testmodel.Named("llama-mha")
	m := viewModel(t, src)
	name := m.Layers[0].Linears[arch.K].Weight
	broken := errors.New("the file is gone")
	for _, c := range []struct {
		change func(m *Maps) (*Maps, error)
		want   string
	}{
		{func(*Maps) (*Maps, error) { return nil, broken }, "the file is gone"},
		{func(*Maps) (*Maps, error) { return nil, nil }, "there are none"},
		{func(m *Maps) (*Maps, error) { m.Shape.G = 4; return m, nil }, "4 KV heads"},
		{func(m *Maps) (*Maps, error) { m.Groups = Contiguous(8, 4); return m, nil }, "for groups"},
		{func(m *Maps) (*Maps, error) { m.Value.Decode = m.Value.Decode[1:]; return m, nil }, "7 value decoders of 8"},
		{func(m *Maps) (*Maps, error) { m.Key.Encode[3] = m.Key.Encode[3][1:]; return m, nil }, "head 3 has 63 values"},
		{func(m *Maps) (*Maps, error) { m.Key.Decode[2][5] = math.NaN(); return m, nil }, "head 2 has a value that is not finite"},
		{func(m *Maps) (*Maps, error) { m.Value.Encode[7][0] = math.Inf(-1); return m, nil }, "not finite"},
	} {
		bad := true
		v, _, err := View(src, m, randomPlan(m, 2, 1, 12).layers, func(l int) (*Maps, error) {
			maps := randomPlan(m, 2, 1, 12).maps[l]
			if bad {
				return c.change(maps)
			}
			return maps, nil
		}, nil)
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			var e *formats.Error
			err := v.ReadAt(name, make([]byte, 8), 0)
			if !errors.As(err, &e) || e.Tensor != name || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
			if c.want == broken.Error() && !errors.Is(err, broken) {
				t.Errorf("%v hides its cause", err)
			}
		}
		bad = false
		viewBytes(t, v, name)
	}
}
