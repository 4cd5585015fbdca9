package kvmerge

import (
	"math"
	"math/rand/v2"
	"testing"
)

// rotateHead turns a head in place by the angles of a position.
func rotateHead(s Shape, x, freq []float64, position float64) {
	for j, f := range freq {
		re, im := plainPair(s, j)
		sin, cos := math.Sincos(position * f)
		x[re], x[im] = x[re]*cos-x[im]*sin, x[re]*sin+x[im]*cos
	}
}

// TestKeyMapsCommuteWithRotation: a map of keys before the rotary embedding is one after it, at every position.
func TestKeyMapsCommuteWithRotation(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 13))
	for _, s := range statsShapes {
		if s.Rotary == 0 {
			continue
		}
		st := drawSample(s, 3, 200).stats(nil, nil)
		freq := gaussian(rnd, s.Rotary/2)
		for _, method := range Methods() {
			m, _, err := st.Solve(Groups{{2, 0}, {1, 3}}, Ways{method, Mean}, nil)
			if err != nil {
				t.Fatal(err)
			}
			for g := range s.G {
				for _, a := range [][]float64{m.Key.Encode[g], m.Key.Decode[g]} {
					for _, position := range []float64{1, 17, 1000, -3} {
						x := gaussian(rnd, s.K)
						after := make([]float64, s.K)
						project(after, a, x, false)
						rotateHead(s, after, freq, position)
						rotateHead(s, x, freq, position)
						before := make([]float64, s.K)
						project(before, a, x, false)
						if d := apartBy(t, after, before); !(d <= 1e-12*max(1, largestOf(after))) {
							t.Fatalf("%+v, %s, head %d, position %g: differs by %g", s, method, g, position, d)
						}
					}
					for i := range s.K {
						for j := range s.K {
							if (i < s.Rotary) != (j < s.Rotary) && a[i*s.K+j] != 0 {
								t.Fatalf("%+v, %s: a map of (%d, %d) mixes what is rotated with what is not", s, method, i, j)
							}
						}
					}
				}
			}
		}
	}
}

// kin draws keys of heads that are one another's in other phases and sizes, but for some noise, and queries of different size. Keys
// of neighbouring positions do not resemble each other.
func kin(s Shape, noise float64, seed uint64, lengths ...int) *sample {
	rnd := rand.New(rand.NewPCG(seed, 14))
	x := &sample{s: s, d: s.H * s.K, t: lengths}
	x.wo = gaussian32(rnd, x.d*s.H*s.K)
	phase, size := make([]float64, s.G*s.Rotary/2), make([]float64, s.G*s.Rotary/2)
	for i := range phase {
		phase[i], size[i] = 2*math.Pi*rnd.Float64(), math.Exp(0.5*rnd.NormFloat64())
	}
	for _, t := range lengths {
		q, k := gaussian32(rnd, t*s.H*s.K), make([]float32, t*s.G*s.K)
		for i := range t {
			common := gaussian(rnd, s.K)
			for g := range s.G {
				for j := range s.Rotary / 2 {
					re, im := plainPair(s, j)
					f := size[g*s.Rotary/2+j]
					sin, cos := math.Sincos(phase[g*s.Rotary/2+j])
					a, b := common[re], common[im]
					k[(i*s.G+g)*s.K+re] = float32(f*(a*cos-b*sin) + noise*rnd.NormFloat64())
					k[(i*s.G+g)*s.K+im] = float32(f*(a*sin+b*cos) + noise*rnd.NormFloat64())
				}
			}
			for h := range s.H {
				for c := range s.K {
					q[(i*s.H+h)*s.K+c] *= float32(1 + 0.2*float64(h))
				}
			}
		}
		x.q, x.k, x.v = append(x.q, q), append(x.k, k), append(x.v, gaussian32(rnd, t*s.G*s.K))
	}
	return x
}

// fromMean is the sum of squared distances to the mean: what is the same for all keys of a query changes no softmax.
func fromMean(x []float64) float64 {
	mean, sum := total(x)/float64(len(x)), 0.0
	for _, v := range x {
		sum += (v - mean) * (v - mean)
	}
	return sum
}

// scoreError is the relative error of all scores after the rotary embedding where keys are merged.
func (x *sample) scoreError(m *Maps) float64 {
	lost, had := x.scoreErrors(m)
	return total(lost) / total(had)
}

// scoreErrors returns E[δ²] and E[s²] of the scores of each KV head, summed over its query heads: by brute force over queries and keys
// of all positions, later ones too, since the causal mask has nothing to do with what a key keeps.
func (x *sample) scoreErrors(m *Maps) (lost, had []float64) {
	s := x.s
	lost, had = make([]float64, s.G), make([]float64, s.G)
	for w := range x.t {
		for _, members := range m.Groups {
			shared := x.rotated(w, func(i int) []float64 {
				sum := make([]float64, s.K)
				for _, g := range members {
					project(sum, m.Key.Encode[g], x.head(x.k[w], s.G, i, g), false)
				}
				return sum
			})
			for _, g := range members {
				keys := x.rotated(w, func(i int) []float64 { return x.head(x.k[w], s.G, i, g) })
				for h := g * s.H / s.G; h < (g+1)*s.H/s.G; h++ {
					q := func(i int) []float64 { return x.head(x.q[w], s.H, i, h) }
					now := x.rotated(w, func(i int) []float64 {
						y := make([]float64, s.K)
						project(y, m.Key.Decode[g], q(i), true)
						return y
					})
					a, b := x.scoreMoments(x.rotated(w, q), keys, now, shared)
					lost[g], had[g] = lost[g]+a, had[g]+b
				}
			}
		}
	}
	return lost, had
}

// head returns head h of a position as float64.
func (x *sample) head(rows []float32, heads, i, h int) []float64 {
	return widened(rows[(i*heads+h)*x.s.K:][:x.s.K])
}

// rotated returns the vectors of all positions of a window after the rotary embedding.
func (x *sample) rotated(w int, at func(i int) []float64) [][]float64 {
	freq := widened(sampleFreq(x.s)(x.t[w]))
	out := make([][]float64, x.t[w])
	for i := range out {
		out[i] = at(i)
		rotateHead(x.s, out[i], freq, float64(i))
	}
	return out
}

// scoreMoments returns the share of a window in E[δ²] and E[s²].
func (x *sample) scoreMoments(q, k, q2, k2 [][]float64) (lost, had float64) {
	f := 1 / float64(len(q)) / x.tokens() / float64(x.s.K)
	scores, off := make([]float64, len(k)), make([]float64, len(k))
	for i := range q {
		for j := range k {
			scores[j] = agreement(q[i], k[j])
			off[j] = agreement(q2[i], k2[j]) - scores[j]
		}
		lost, had = lost+f*fromMean(off), had+f*fromMean(scores)
	}
	return lost, had
}

// TestScoreErrorOfMethods: what merging costs scores falls from the mean over Procrustes to PCA where heads resemble each other, and
// the moments foretell it.
func TestScoreErrorOfMethods(t *testing.T) {
	for _, s := range []Shape{{H: 4, G: 4, K: 16, Rotary: 16}, {H: 8, G: 4, K: 12, Rotary: 12, Pairs: Interleaved}} {
		x := kin(s, 0.3, 1, 150, 90)
		st := x.stats(nil, nil)
		before, foretold := math.Inf(1), math.Inf(1)
		for _, method := range []Method{Mean, Procrustes, PCA} {
			m, lost, err := st.Solve(Contiguous(4, 4), Ways{method, Mean}, nil)
			if err != nil {
				t.Fatal(err)
			}
			e := x.scoreError(m)
			t.Logf("%d query heads, head dim %d: %-10s scores lose %.4f of their energy, by moments %.4f", s.H, s.K, method, e, lost.Key)
			if !(e < 0.8*before) || !(lost.Key < 0.8*foretold) {
				t.Errorf("%s loses %g (by moments %g), the way before %g (%g)", method, e, lost.Key, before, foretold)
			}
			if math.Abs(e-lost.Key) > 0.1*e {
				t.Errorf("%s: moments foretell a loss of %g, it is %g", method, lost.Key, e)
			}
			before, foretold = e, lost.Key
		}
	}
}

// TestScoreErrorIsForetold: by the moments of every layout, of keys that have much in common at all positions.
func TestScoreErrorIsForetold(t *testing.T) {
	for _, s := range statsShapes {
		x := drawSample(s, 12, 160, 1, 90)
		st := x.stats(nil, nil)
		for _, method := range Methods() {
			m, lost, err := st.Solve(Groups{{3, 0}, {1, 2}}, Ways{method, Mean}, nil)
			if err != nil {
				t.Fatal(err)
			}
			if e := x.scoreError(m); math.Abs(e-lost.Key) > 0.1*e || e < 0.01 {
				t.Errorf("%+v, %s: moments foretell a loss of %g, it is %g", s, method, lost.Key, e)
			}
		}
	}
}

// TestOutputErrorOfMethods: two heads whose values span as many dimensions as one head has, counted as the output projection
// reads them, by brute force.
func TestOutputErrorOfMethods(t *testing.T) {
	s := Shape{H: 4, G: 2, K: 8}
	rnd := rand.New(rand.NewPCG(2, 14))
	x := drawSample(s, 8, 300)
	mix, small := gaussian(rnd, 2*s.K*s.K), 0.1
	for i := range x.t[0] {
		common := gaussian(rnd, s.K)
		for c := range 2 * s.K {
			x.v[0][i*2*s.K+c] = float32(agreement(mix[c*s.K:][:s.K], common) + small*rnd.NormFloat64())
		}
	}
	st := x.stats(nil, nil)
	before := math.Inf(1)
	for _, method := range []Method{Mean, Procrustes, PCA} {
		m, lost, err := st.Solve(Contiguous(2, 2), Ways{Mean, method}, nil)
		if err != nil {
			t.Fatal(err)
		}
		e := x.outputError(m)
		t.Logf("%-10s outputs lose %.4f of their energy, by moments %.4f", method, e, lost.Value)
		if !(e < 0.9*before) || math.Abs(e-lost.Value) > 1e-4*e+1e-6 {
			t.Errorf("%s loses %g, by moments %g; the way before %g", method, e, lost.Value, before)
		}
		before = e
	}
	if !(before < 0.02) {
		t.Errorf("what one head could hold loses %g", before)
	}
}

// outputError is the relative error of W_O[h]·v over heads and positions.
func (x *sample) outputError(m *Maps) float64 {
	lost, had := x.valueErrors(m)
	return total(lost) / total(had)
}

// valueErrors returns E‖W_O[h]·δ‖² and E‖W_O[h]·v‖² of the values of each KV head, summed over its query heads: by brute force.
func (x *sample) valueErrors(m *Maps) (lost, had []float64) {
	s := x.s
	lost, had = make([]float64, s.G), make([]float64, s.G)
	x.each(func(w, i int) {
		for _, members := range m.Groups {
			shared := make([]float64, s.K)
			for _, g := range members {
				project(shared, m.Value.Encode[g], x.head(x.v[w], s.G, i, g), false)
			}
			for _, g := range members {
				v, back := x.head(x.v[w], s.G, i, g), make([]float64, s.K)
				project(back, m.Value.Decode[g], shared, false)
				for h := g * s.H / s.G; h < (g+1)*s.H/s.G; h++ {
					for r := range x.d {
						row := widened(x.wo[(r*s.H+h)*s.K:][:s.K])
						a, b := agreement(row, v), agreement(row, back)
						lost[g], had[g] = lost[g]+(a-b)*(a-b)/x.tokens(), had[g]+a*a/x.tokens()
					}
				}
			}
		}
	})
	return lost, had
}
