package gptq

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"

	"modelpress/formats"
)

var _ formats.AffineFormat = Format{}

// settings are all kinds of formats.
func settings() []Format {
	var list []Format
	for _, bits := range []int{2, 3, 4, 8} {
		for _, group := range []int{-1, 16, 32, 96} {
			for k := range 8 {
				list = append(list, Format{Bits: bits, Group: group, V2: k&1 != 0, ActOrder: k&2 != 0, Symmetric: k&4 != 0})
			}
		}
	}
	return list
}

// What is encoded comes back: as the same grid, and as its values by the plain definition.
func TestEncodeThenRead(t *testing.T) {
	for i, f := range settings() {
		t.Run(fmt.Sprintf("%+v", f), func(t *testing.T) {
			r := rand.New(rand.NewPCG(7, uint64(i)))
			m := sample(r, f, 96, 192)
			src := store(t, f, m)
			v := open(t, src, f)
			got, err := v.Affine("m.weight")
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got, m) {
				t.Fatal("another weight comes back")
			}
			want := make([]float32, m.Out*m.In)
			g := m.Groups()
			for o := range m.Out {
				for i := range m.In {
					k := i / (m.In / g)
					if m.GIdx != nil {
						k = int(m.GIdx[i])
					}
					z := 0.0
					if m.Zeros != nil {
						z = float64(m.Zeros[o*g+k])
					}
					want[o*m.In+i] = float32((float64(m.Codes[o*m.In+i]) - z) * float64(m.Scales[o*g+k]))
				}
			}
			if !slices.Equal(read(t, v, "m.weight"), want) {
				t.Error("values differ")
			}
			st, ok := v.Storage("m.weight")
			if !ok || st.Format != f.name() || st.Group != f.Group || st.Symmetric != f.Symmetric || st.Ordered != (m.GIdx != nil) || !st.Grid {
				t.Errorf("storage %+v", st)
			}
			if notes := v.(interface{ Notes() []string }).Notes(); notes != nil {
				t.Errorf("notes %q", notes)
			}
		})
	}
}
