package kvmerge

import (
	"math"
	"math/rand/v2"
	"reflect"
	"testing"
)

// unlike draws a sample whose heads differ in size: some dimensions of some heads are large.
func unlike(s Shape, seed uint64) *sample {
	rnd := rand.New(rand.NewPCG(seed, 21))
	x := drawSample(s, seed, 120)
	size := make([]float32, 3*s.H*s.K)
	for i := range size {
		size[i] = float32(math.Exp(rnd.NormFloat64()))
	}
	for i, rows := range [][]float32{x.q[0], x.k[0], x.v[0]} {
		n := len(rows) / x.t[0]
		for at := range rows {
			rows[at] *= size[i*s.H*s.K+at%n]
		}
	}
	return x
}

// TestSelectTakesTheBest: of the members, the one that costs least where it stands for all, of keys in all dimensions together.
func TestSelectTakesTheBest(t *testing.T) {
	taken := map[int]bool{}
	for _, s := range statsShapes {
		for seed := range uint64(12) {
			st := unlike(s, seed).stats(nil, nil)
			members := []int{2, 0, 3}
			got, err := st.merge(members, Ways{Select, Select}, nil)
			if err != nil {
				t.Fatal(err)
			}
			least := lossOf{key: math.Inf(1), value: math.Inf(1)}
			at := 0
			for keep := range members {
				order := append([]int{members[keep]}, append(append([]int(nil), members[:keep]...), members[keep+1:]...)...)
				l, err := st.merge(order, Ways{First, First}, nil)
				if err != nil {
					t.Fatal(err)
				}
				if l.key < least.key {
					at = keep
				}
				least.key, least.value = min(least.key, l.key), min(least.value, l.value)
			}
			if math.Abs(got.key-least.key) > 1e-9*least.key || math.Abs(got.value-least.value) > 1e-9*least.value {
				t.Errorf("%+v, seed %d: selects at a loss of %g and %g, the best lose %g and %g", s, seed, got.key, got.value, least.key, least.value)
			}
			taken[at] = true
		}
	}
	if len(taken) != 3 {
		t.Errorf("only members %v are ever best", taken)
	}
}

// TestLostInUnits: the energies of scores and outputs, head by head, and what they make of the sub-layer's output, against brute force.
func TestLostInUnits(t *testing.T) {
	for _, s := range statsShapes {
		x := unlike(s, 40)
		st := x.stats(nil, nil)
		groups := Groups{{3, 0}, {1, 2}}
		for _, w := range []Ways{{PCA, Mean}, {Mean, PCA}, {Select, Select}, {Mean, Mean}} {
			m, lost, err := st.Solve(groups, w, nil)
			if err != nil {
				t.Fatal(err)
			}
			scores, scoresHad := x.scoreErrors(m)
			values, valuesHad := x.valueErrors(m)
			want := Lost{Key: total(scores) / total(scoresHad), Value: total(values) / total(valuesHad), Had: total(valuesHad)}
			for g := range s.G {
				want.Output += values[g] + valuesHad[g]*min(1, scores[g]/scoresHad[g])
			}
			for _, c := range [][2]float64{{lost.Value, want.Value}, {lost.Had, want.Had}} {
				if math.Abs(c[0]-c[1]) > 1e-4*c[1] {
					t.Errorf("%+v, %v: %+v, by brute force %+v", s, w, lost, want)
				}
			}
			for _, c := range [][2]float64{{lost.Key, want.Key}, {lost.Output, want.Output}} { // of scores only the sum over phases is foretold
				if math.Abs(c[0]-c[1]) > 0.15*c[1] {
					t.Errorf("%+v, %v: %+v, by brute force %+v", s, w, lost, want)
				}
			}
			for _, members := range groups {
				a, b, err := st.mergeKeys(members, w.Key, nil)
				if err != nil {
					t.Fatal(err)
				}
				for i, g := range members {
					if math.Abs(a[i]-scores[g]) > 0.2*scores[g] || math.Abs(b[i]-scoresHad[g]) > 0.2*scoresHad[g] {
						t.Errorf("%+v, %v: scores of head %d lose %g of %g, by brute force %g of %g", s, w, g, a[i], b[i], scores[g], scoresHad[g])
					}
				}
			}
			cost := 0.0
			for _, members := range groups {
				c, err := st.Cost(members, w)
				if err != nil {
					t.Fatal(err)
				}
				cost += c
			}
			near(t, "costs of groups", cost, lost.Output, lost.Output)
		}
	}
}

// Heads by themselves lose nothing, and maps are those of the groups that were asked for.
func TestSolveOfSingles(t *testing.T) {
	for _, s := range statsShapes {
		st := drawSample(s, 41, 90).stats(nil, nil)
		for _, method := range Methods() {
			groups := Groups{{2}, {0}, {3}, {1}}
			m, lost, err := st.Solve(groups, Ways{method, method}, nil)
			if err != nil {
				t.Fatal(err)
			}
			if !(lost.Output <= 1e-12*lost.Had) || lost.Key > 1e-12 || lost.Value > 1e-12 {
				t.Errorf("%+v, %s: %+v", s, method, lost)
			}
			if m.Shape != s || !reflect.DeepEqual(m.Groups, groups) {
				t.Errorf("maps of %+v, %v", m.Shape, m.Groups)
			}
			for g := range s.G {
				for _, side := range []Side{m.Key, m.Value} {
					if d := apartBy(t, plainMul(side.Decode[g], side.Encode[g], s.K, s.K, s.K), scaledIdentity(s.K, 1)); !(d <= 1e-12) {
						t.Errorf("%+v, %s: head %d changes by %g", s, method, g, d)
					}
				}
			}
		}
	}
}
