package prune

import (
	"bytes"
	"math"
	"reflect"
	"strings"
	"testing"

	"modelpress/internal/testmodel"
)

// TestComposeIsAViewOfAView compares the view of a composed cut with that of one cut on that of the other: byte for byte without
// scales, and else to what rounding their products costs.
func TestComposeIsAViewOfAView(t *testing.T) {
	for name, o := range models() {
		if o.Layers == 0 {
			o.Layers = 4
		}
		for _, scale := range []bool{false, true} {
			src := spiced(o)
			m := describe(t, src.Config, src)
			a := randomCut(m, 1, scale)
			first, half, err := View(src, m, a)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			b := randomCut(half, 3, scale)
			want, small, err := View(first, half, b)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			c, err := Compose(a, b)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			got, same, err := View(src, m, c)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if !reflect.DeepEqual(same, small) {
				t.Errorf("%s: the models differ:\n%+v\n%+v", name, same, small)
			}
			if !reflect.DeepEqual(got.Tensors(), want.Tensors()) {
				t.Fatalf("%s: the tensors differ", name)
			}
			for _, info := range want.Tensors() {
				x, y := bytesOf(t, got, info.Name), bytesOf(t, want, info.Name)
				if !scale && !bytes.Equal(x, y) {
					t.Errorf("%s: %s has other bytes", name, info.Name)
				}
				v, w := values64(t, got, info), values64(t, want, info)
				for i := range v {
					if !(math.Abs(v[i]-w[i]) <= 5e-7*math.Abs(w[i])) {
						t.Fatalf("%s: %s[%d] is %g, want %g", name, info.Name, i, v[i], w[i])
					}
				}
			}
		}
	}
}

func TestComposeWithNothing(t *testing.T) {
	src := testmodel.New(testmodel.Options{Layers: 3, Seed: 5})
	m := describe(t, src.Config, src)
	c := randomCut(m, 2, true)
	n, err := c.Arch(m)
	if err != nil {
		t.Fatal(err)
	}
	before, err := Compose(&Cut{Layers: make([]CutLayer, len(m.Layers))}, c)
	if err != nil {
		t.Fatal(err)
	}
	after, err := Compose(c, &Cut{Layers: make([]CutLayer, len(n.Layers))})
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(before, c) || !reflect.DeepEqual(after, c) {
		t.Errorf("nothing before or after\n%+v\nis\n%+v\nand\n%+v", c, before, after)
	}
}

func TestComposeRefuses(t *testing.T) {
	one := []CutLayer{{}}
	for want, c := range map[string][2]Cut{
		"2 layers after one that leaves 1": {{Layers: []CutLayer{{}, {Drop: true}}}, {Layers: make([]CutLayer, 2)}},
		"channels: unit 2 of 2":            {{Hidden: Units{Keep: []int{1, 4}}, Layers: one}, {Hidden: Units{Keep: []int{2}}, Layers: one}},
		"channels: unit -1":                {{Layers: one}, {Hidden: Units{Keep: []int{-1}}, Layers: one}},
		"channels: unit 3 of 1":            {{Hidden: Units{Scale: []float32{1}}, Layers: one}, {Hidden: Units{Keep: []int{3}}, Layers: one}},
		"layer 0: FFN: 1 scales for 2":     {{Layers: []CutLayer{{FFN: Units{Keep: []int{1, 2}}}}}, {Layers: []CutLayer{{FFN: Units{Scale: []float32{1}}}}}},
		"layer 0: KV heads: scale 0":       {{Layers: []CutLayer{{Heads: Units{Scale: []float32{3e38}}}}}, {Layers: []CutLayer{{Heads: Units{Scale: []float32{2}}}}}},
		"have no product":                  {{Layers: []CutLayer{{Scale: 1e-30}}}, {Layers: []CutLayer{{Scale: 1e-30}}}},
	} {
		if _, err := Compose(&c[0], &c[1]); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", want, err)
		}
	}
}
