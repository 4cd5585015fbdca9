package kvmerge

import (
	"fmt"
	"math"
	"math/cmplx"
	"testing"

	"modelpress/internal/device/cpu"
)

// near compares with a value of a magnitude.
func near(t *testing.T, what string, got, want, size float64) {
	t.Helper()
	if !(math.Abs(got-want) <= 3e-6*size) {
		t.Fatalf("%s: %g, want %g", what, got, want)
	}
}

var statsShapes = []Shape{
	{H: 8, G: 4, K: 8, Rotary: 8, Pairs: HalfSplit},
	{H: 4, G: 4, K: 6, Rotary: 6, Pairs: Interleaved},
	{H: 12, G: 4, K: 10, Rotary: 4, Pairs: HalfSplit},
	{H: 4, G: 4, K: 10, Rotary: 6, Pairs: Interleaved},
	{H: 8, G: 4, K: 5},
}

// TestStatsAgainstPlainLoops compares all moments, of open groups and of given ones, in the order of members that is asked for.
func TestStatsAgainstPlainLoops(t *testing.T) {
	for _, s := range statsShapes {
		x := drawSample(s, 5, 37, 1, 1500, 20)
		for _, groups := range []Groups{nil, {{0, 3}, {2, 1}}, {{2, 0, 1, 3}}} {
			st := x.stats(groups, cpu.New(2).For)
			if float64(st.Tokens) != x.tokens() {
				t.Fatalf("%d tokens", st.Tokens)
			}
			ask := Groups{{0, 3}, {1, 2}, {3, 0}, {2}}
			if groups == nil || len(groups) == 1 {
				ask = append(ask, []int{3, 1, 0, 2}, []int{1, 0})
			}
			for _, members := range ask {
				what := fmt.Sprintf("%+v, groups %v, heads %v", s, groups, members)
				x.checkValue(t, what, st, members)
				x.checkPairs(t, what, st, members)
				x.checkRest(t, what, st, members)
			}
		}
	}
}

func (x *sample) checkValue(t *testing.T, what string, st *Stats, members []int) {
	t.Helper()
	k, n := x.s.K, len(members)*x.s.K
	d := st.value(members)
	if d.t != len(members) || d.r != k || d.damped {
		t.Fatalf("%s: %+v", what, d)
	}
	at := func(i int) int { return members[i/k]*k + i%k }
	for i := range n {
		for j := range n {
			near(t, what+", values", d.c[i*n+j], x.secondOf(x.v, x.s.G*k, at(i), at(j), false), 10)
		}
	}
	per := x.s.H / x.s.G
	for m, g := range members {
		for i := range k {
			for j := range k {
				sum := 0.0
				for h := g * per; h < (g+1)*per; h++ {
					for r := range x.d {
						row := x.wo[r*x.s.H*k+h*k:]
						sum += float64(row[i]) * float64(row[j])
					}
				}
				near(t, what+", output projection", d.m[m][i*k+j], sum, 100)
			}
		}
	}
}

func (x *sample) checkPairs(t *testing.T, what string, st *Stats, members []int) {
	t.Helper()
	per := x.s.H / x.s.G
	for j := range x.s.Rotary / 2 {
		p := st.pair(members, j)
		if p.t != len(members) {
			t.Fatalf("%s: %+v", what, p)
		}
		for a, ga := range members {
			for b, gb := range members {
				got, want := p.c[a*p.t+b], x.pairMoment(ga, gb, j)
				near(t, what+", real part", real(got), real(want), 20)
				near(t, what+", imaginary part", imag(got), imag(want), 20)
			}
			re, im := plainPair(x.s, j)
			sum := 0.0
			x.each(func(w, i int) {
				for h := ga * per; h < (ga+1)*per; h++ {
					row := x.q[w][(i*x.s.H+h)*x.s.K:]
					sum += float64(row[re])*float64(row[re]) + float64(row[im])*float64(row[im])
				}
			})
			near(t, what+", queries", p.q[a], sum/x.tokens(), 5)
		}
	}
}

func (x *sample) checkRest(t *testing.T, what string, st *Stats, members []int) {
	t.Helper()
	from := x.s.Rotary
	r := x.s.K - from
	d := st.rest(members)
	if r == 0 {
		if d != nil {
			t.Fatalf("%s: a rest of %d", what, d.r)
		}
		return
	}
	if d.t != len(members) || d.r != r || !d.damped {
		t.Fatalf("%s: %+v", what, d)
	}
	n, per := r*len(members), x.s.H/x.s.G
	at := func(i int) int { return members[i/r]*x.s.K + from + i%r }
	for i := range n {
		for j := range n {
			near(t, what+", rest", d.c[i*n+j], x.secondOf(x.k, x.s.G*x.s.K, at(i), at(j), true), 10)
		}
	}
	for m, g := range members {
		for i := range r {
			for j := range r {
				sum := 0.0
				for h := g * per; h < (g+1)*per; h++ {
					sum += x.secondOf(x.q, x.s.H*x.s.K, h*x.s.K+from+i, h*x.s.K+from+j, false)
				}
				near(t, what+", queries of the rest", d.m[m][i*r+j], sum, 5)
			}
		}
	}
}

// What is the same at all positions after the rotation is no part of what keys have to share.
func TestStatsCentreRotatedKeys(t *testing.T) {
	s := Shape{H: 2, G: 2, K: 6, Rotary: 4}
	x := drawSample(s, 9, 50, 21)
	for w, n := range x.t {
		freq := sampleFreq(s)(n)
		for i := range n {
			for g := range s.G {
				row := x.k[w][(i*s.G+g)*s.K:][:s.K]
				for j := range s.Frequencies() {
					z := cmplx.Rect(3+float64(g), float64(w+g)-float64(i)*float64(freq[j]))
					re, im := plainPair(s, j)
					row[re], row[im] = float32(real(z)), float32(imag(z))
				}
				row[4], row[5] = 2, -float32(g)
			}
		}
	}
	st := x.stats(nil, nil)
	for j := range s.Frequencies() {
		for _, c := range st.pair([]int{0, 1}, j).c {
			if cmplx.Abs(c) > 1e-5 {
				t.Errorf("frequency %d: covariance %v of keys that are constant", j, c)
			}
		}
	}
	for _, c := range st.rest([]int{0, 1}).c {
		if math.Abs(c) > 1e-5 {
			t.Errorf("rest: covariance %v of keys that are constant", c)
		}
	}
}

// Heads of which nothing finite is known are refused, whichever method.
func TestSolveRefusesWhatIsNotFinite(t *testing.T) {
	s := statsShapes[2]
	for name, spoil := range map[string]func(x *sample){
		"no windows": func(x *sample) { x.t = nil },
		"keys":       func(x *sample) { x.k[0][0] = float32(math.Inf(1)) },
		"other keys": func(x *sample) { x.k[0][s.K-1] = float32(math.NaN()) },
		"values":     func(x *sample) { x.v[0][3] = math.MaxFloat32 },
		"queries":    func(x *sample) { x.q[0][1] = float32(math.NaN()) },
		"output":     func(x *sample) { x.wo[1] = float32(math.NaN()) },
	} {
		x := drawSample(s, 5, 20)
		spoil(x)
		st := x.stats(nil, nil)
		for _, method := range Methods() {
			if _, lost, err := st.Solve(Contiguous(4, 4), Ways{method, method}, nil); err == nil {
				t.Errorf("%s, %s: %+v", name, method, lost)
			}
			if cost, err := st.Cost([]int{0, 1, 2}, Ways{method, method}); err == nil {
				t.Errorf("%s, %s: costs %g", name, method, cost)
			}
		}
	}
	if _, _, err := drawSample(s, 5, 20).stats(nil, nil).Solve(Groups{{0, 1}, {2}}, Ways{PCA, PCA}, nil); err == nil {
		t.Error("groups that lack a head")
	}
}
