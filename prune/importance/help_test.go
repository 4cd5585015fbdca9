package importance

import (
	"fmt"
	"math"
	"reflect"
	"testing"

	"modelpress/calib"
	"modelpress/internal/arch"
	"modelpress/internal/testmodel"
	"modelpress/prune"
)

// unit names a unit of a model: kind "hidden", "head", "ffn" or "layer". Channels of the stream have layer -1.
type unit struct {
	kind  string
	layer int
	index int
}

// flat returns scores by unit.
func flat(s *prune.Scores) map[unit]float64 {
	out := map[unit]float64{}
	for i, v := range s.Hidden {
		out[unit{"hidden", -1, i}] = v
	}
	for l, layer := range s.Layers {
		out[unit{"layer", l, 0}] = layer.Layer
		for i, v := range layer.Heads {
			out[unit{"head", l, i}] = v
		}
		for i, v := range layer.FFN {
			out[unit{"ffn", l, i}] = v
		}
	}
	return out
}

// same compares scores with those of a reference: to tol, as a part of the larger of the value and a tenth of the largest of the kind.
func same(t *testing.T, what string, got *prune.Scores, want map[unit]float64, tol float64) {
	t.Helper()
	most, g := map[string]float64{}, flat(got)
	for u, v := range want {
		most[u.kind] = max(most[u.kind], math.Abs(v))
	}
	if len(g) != len(want) {
		t.Errorf("%s: %d scores, want %d", what, len(g), len(want))
	}
	worst := 0.0
	for u, v := range want {
		d := math.Abs(g[u]-v) / max(math.Abs(v), most[u.kind]/10)
		if !(d <= tol) {
			t.Errorf("%s: %v is %.8g, want %.8g", what, u, g[u], v)
		}
		worst = max(worst, d)
	}
	t.Logf("%s: %d scores, worst relative error %.2g", what, len(g), worst)
}

// weight is one stored value of a model.
type weight struct {
	name  string
	index int
}

// unitsOf lists, for every stored value of a model, the units that it goes with: value by value, from what each projection means.
func unitsOf(m *arch.Model) map[weight][]unit {
	out := map[weight][]unit{}
	put := func(name string, i int, units ...unit) {
		if name != "" {
			w := weight{name, i}
			if _, seen := out[w]; seen && name != m.Embed {
				panic(fmt.Sprintf("%s %d stands twice", name, i))
			}
			out[w] = units
		}
	}
	hidden := func(c int) unit { return unit{"hidden", -1, c} }
	for c := range m.D {
		for i := range m.V {
			put(m.Embed, i*m.D+c, hidden(c))
			put(m.LMHead, i*m.D+c, hidden(c))
		}
		for i := 0; i < m.MaxPosition && m.PosEmbed != ""; i++ {
			put(m.PosEmbed, i*m.D+c, hidden(c))
		}
		put(m.FinalNorm.Weight, c, hidden(c))
		put(m.FinalNorm.Bias, c, hidden(c))
	}
	for l := range m.Layers {
		a, whole := &m.Layers[l], unit{"layer", l, 0}
		ffn := func(c int) unit { return unit{"ffn", l, c} }
		query := func(c int) unit { return unit{"head", l, c / a.K / (a.H / a.G)} }
		key := func(c int) unit { return unit{"head", l, c / a.K} }
		ends := [arch.NumRoles][2]func(int) unit{arch.Q: {query, hidden}, arch.K: {key, hidden}, arch.V: {key, hidden}, arch.O: {hidden, query},
			arch.Gate: {ffn, hidden}, arch.Up: {ffn, hidden}, arch.Down: {hidden, ffn}}
		for r, lin := range a.Linears {
			for o := 0; o < lin.Out && lin.Present(); o++ {
				for i := range lin.In {
					put(lin.Weight, at(lin, o, i), whole, ends[r][0](o), ends[r][1](i))
				}
				put(lin.Bias, lin.Row+o, whole, ends[r][0](o))
			}
		}
		for _, n := range []arch.Norm{a.AttnNorm, a.FFNNorm} {
			for c := range m.D {
				put(n.Weight, c, whole, hidden(c))
				put(n.Bias, c, whole, hidden(c))
			}
		}
		for _, n := range []arch.Norm{a.QNorm, a.KNorm} {
			for c := range a.K {
				put(n.Weight, c, whole)
			}
		}
	}
	return out
}

// units lists all units of a model, with zeros.
func units(m *arch.Model) map[unit]float64 {
	out := map[unit]float64{}
	for c := range m.D {
		out[unit{"hidden", -1, c}] = 0
	}
	for l := range m.Layers {
		a := &m.Layers[l]
		out[unit{"layer", l, 0}] = 0
		for g := 0; g < a.G && a.HasAttention(); g++ {
			out[unit{"head", l, g}] = 0
		}
		for f := range a.F {
			out[unit{"ffn", l, f}] = 0
		}
	}
	return out
}

// windows are three of different lengths, with tokens that occur more than once.
func windows(m *arch.Model) calib.Windows {
	ids := testmodel.Windows(3, 6, m.V, 5)
	ids[1], ids[2] = ids[1][:4], append(ids[2][:3], ids[2][0], ids[0][1])
	return calib.NewWindows(ids)
}

// equalBits reports whether scores are the same bit for bit.
func equalBits(a, b *prune.Scores) bool { return reflect.DeepEqual(a, b) }
