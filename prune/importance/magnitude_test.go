package importance

import (
	"math"
	"testing"

	"modelpress/internal/testmodel"
)

func TestMagnitude(t *testing.T) {
	cases := models()
	for _, name := range []string{"llama-pruned", "qwen3-tied", "gpt2"} { // wide enough for several pieces of a matrix
		cases = append(cases, testmodel.Case{Name: name, Options: testmodel.Named(name).Options})
	}
	for _, c := range cases {
		src := testmodel.New(c.Options)
		m := describe(t, src, 2)
		o, want := newOracle(t, src, m.Arch), units(m.Arch)
		for k, list := range unitsOf(m.Arch) {
			for _, u := range list {
				want[u] += o.values[k.name][k.index] * o.values[k.name][k.index]
			}
		}
		for u, v := range want {
			want[u] = math.Sqrt(v)
		}
		got, err := Magnitude(t.Context(), m, nil)
		if err != nil {
			t.Fatal(err)
		}
		same(t, c.Name, got, want, 1e-12)
	}
}

// TestTables reads more rows of an embedding than are taken at a time, and only some.
func TestTables(t *testing.T) {
	src := testmodel.New(testmodel.Options{D: 8, H: 4, F: 8, V: 2*tableRows + 77, Layers: 1, Seed: 9})
	m := describe(t, src, 2)
	values, err := src.Values(m.Arch.Embed)
	if err != nil {
		t.Fatal(err)
	}
	var some []int32
	for i := range m.Arch.V/2 + 9 {
		some = append(some, int32(2*i%m.Arch.V))
	}
	for name, rows := range map[string][]int32{"all": nil, "some": some} {
		n := m.Arch.V
		if rows != nil {
			n = len(rows)
		}
		c, want := newCoupled(m), make([]float64, m.Arch.D)
		err := c.table(m.Arch.Embed, rows, n, func(w []float32, row int) counts {
			return func(dst []float64, at int) {
				for i := range dst {
					dst[i] = float64(w[at+i]) * float64(row+at/m.Arch.D+1) // the number of the row counts too
				}
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		for i := range n {
			id := i
			if rows != nil {
				id = int(rows[i])
			}
			for j := range want {
				want[j] += float64(values[id*m.Arch.D+j]) * float64(i+1)
			}
		}
		for j, v := range want {
			if !near(c.Hidden[j], v, 1e-12) {
				t.Errorf("%s: channel %d is %g, want %g", name, j, c.Hidden[j], v)
			}
		}
	}
}
