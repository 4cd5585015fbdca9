package nn

import (
	"slices"
	"testing"

	"modelpress/formats"
	"modelpress/internal/arch"
	"modelpress/internal/device/cpu"
	"modelpress/internal/testmodel"
)

// resident is a source that holds some of its tensors.
type resident struct {
	formats.Source
	held map[string][]float32
}

func (r resident) Floats(name string) []float32 { return r.held[name] }

// TestResidentWeights: weights that are read where they lie give the bits of copies, follow the source, and are not written to.
func TestResidentWeights(t *testing.T) {
	for _, c := range gradModels() {
		src := testmodel.New(c.Options)
		m := describe(t, src, cpu.New(2))
		r := resident{src, map[string][]float32{}}
		for i, p := range m.Arch.Parameters() {
			if len(p.Shape) == 2 && i%5 != 0 { // some are copied
				v, err := src.Values(p.Name)
				if err != nil {
					t.Fatal(err)
				}
				r.held[p.Name] = v
			}
		}
		held := New(m.Dev, r, m.Arch)
		windows := testmodel.Windows(2, 6, m.Arch.V, 5)
		same(t, keptRun(t, m, windows, BackOptions{}, nil), keptRun(t, held, windows, BackOptions{}, nil))

		b, err := held.LoadBlock(0)
		if err != nil {
			t.Fatal(err)
		}
		name := m.Arch.Layers[0].Linears[arch.V].Weight
		v := slices.Clone(r.held[name])
		w := make([]float32, m.Arch.Layers[0].Linears[arch.V].Out*m.Arch.D)
		if err := b.SetWeight(arch.V, w, formats.F32); err != nil {
			t.Fatal(err)
		}
		if got, err := b.Weight(arch.V); err != nil || slices.ContainsFunc(got, func(x float32) bool { return x != 0 }) {
			t.Errorf("%s: the weight is not the one that was set (%v)", c.Name, err)
		}
		b.Free()
		if !slices.Equal(v, r.held[name]) {
			t.Errorf("%s: a weight of the source was written to", c.Name)
		}
	}
}
