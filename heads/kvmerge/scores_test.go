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

// scoreError is the relative error of all scores after the rotary embedding, E[δ²]/E[s²], where keys are merged: by brute force
// over queries and keys of all positions.
func (x *sample) scoreError(m *Maps) float64 {
	s, per := x.s, x.s.H/x.s.G
	var lost, had float64
	head := func(rows []float32, at int) []float64 {
		out := make([]float64, s.K)
		for c := range out {
			out[c] = float64(rows[at*s.K+c])
		}
		return out
	}
	for w, t := range x.t {
		freq := widened(sampleFreq(s)(t))
		for _, members := range m.Groups {
			shared := make([][]float64, t)
			for i := range t {
				shared[i] = make([]float64, s.K)
				for _, g := range members {
					project(shared[i], m.Key.Encode[g], head(x.k[w], i*s.G+g), false)
				}
				rotateHead(s, shared[i], freq, float64(i))
			}
			for _, g := range members {
				keys := make([][]float64, t)
				for i := range t {
					keys[i] = head(x.k[w], i*s.G+g)
					rotateHead(s, keys[i], freq, float64(i))
				}
				for h := g * per; h < (g+1)*per; h++ {
					for i := range t {
						q := head(x.q[w], i*s.H+h)
						now := make([]float64, s.K)
						project(now, m.Key.Decode[g], q, true)
						rotateHead(s, q, freq, float64(i))
						rotateHead(s, now, freq, float64(i))
						scores, off := make([]float64, t), make([]float64, t)
						for j := range t { // also later keys: the causal mask has nothing to do with what a key keeps
							scores[j] = agreement(q, keys[j])
							off[j] = agreement(now, shared[j]) - scores[j]
						}
						lost, had = lost+fromMean(off), had+fromMean(scores)
					}
				}
			}
		}
	}
	return lost / had
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
	s, per := x.s, x.s.H/x.s.G
	var lost, had float64
	x.each(func(w, i int) {
		for _, members := range m.Groups {
			values, shared := map[int][]float64{}, make([]float64, s.K)
			for _, g := range members {
				values[g] = widened(x.v[w][(i*s.G+g)*s.K:][:s.K])
				project(shared, m.Value.Encode[g], values[g], false)
			}
			for _, g := range members {
				back := make([]float64, s.K)
				project(back, m.Value.Decode[g], shared, false)
				for h := g * per; h < (g+1)*per; h++ {
					for r := range x.d {
						row := widened(x.wo[(r*s.H+h)*s.K:][:s.K])
						a, b := agreement(row, values[g]), agreement(row, back)
						lost, had = lost+(a-b)*(a-b), had+a*a
					}
				}
			}
		}
	})
	return lost / had
}
