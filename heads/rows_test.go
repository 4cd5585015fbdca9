package heads

import (
	"testing"

	"modelpress/calib"
	"modelpress/internal/device"
)

// TestRowsAgainstTheMatrix checks single weights, ranges and maxima of every head against the whole matrix, with and
// without a sliding window and with grouped queries.
func TestRowsAgainstTheMatrix(t *testing.T) {
	for _, window := range []int{0, 9} {
		r := randomState(40, 6, 2, 11, window, 3)
		for h := range r.Shape.H {
			a := matrix(r.AttnState, h, device.Mask{Recent: window})
			for i := range a {
				best := 0
				var lo, hi = i / 3, i/3 + 7
				var mass float64
				for j := range a[i] {
					if !near(r.attention(h, i, j), a[i][j], 1e-6) {
						t.Fatalf("window %d: A[%d,%d,%d] = %g, want %g", window, h, i, j, r.attention(h, i, j), a[i][j])
					}
					if a[i][j] > a[i][best] {
						best = j
					}
					if j >= lo && j < hi {
						mass += a[i][j]
					}
				}
				if got := r.argmax(h, i); got != best {
					t.Errorf("window %d: argmax [%d,%d] = %d, want %d", window, h, i, got, best)
				}
				if got := r.mass(h, i, lo, hi); !near(got, mass, 1e-6) {
					t.Errorf("window %d: mass [%d,%d] = %g, want %g", window, h, i, got, mass)
				}
			}
		}
	}
}

// TestPositionAndAnswerMass recomputes the four shares from whole rows.
func TestPositionAndAnswerMass(t *testing.T) {
	r := randomState(60, 4, 1, 8, 0, 4)
	p := calib.Prompt{IDs: make([]int32, 57), Answer: make([]int32, 4), NeedleLo: 10, NeedleHi: 13}
	for h := range r.Shape.H {
		a := matrix(r.AttnState, h, device.Mask{})
		var sink, local, source, needle float64
		for i := 8; i < 60; i++ {
			sink += a[i][0] / 52
			for j := max(0, i-31); j <= i; j++ {
				local += a[i][j] / 52
			}
		}
		for step := range 4 {
			row := a[56+step]
			if step < 3 {
				source += row[10+step] / 4
			}
			needle += (row[10] + row[11] + row[12]) / 4
		}
		gotSink, gotLocal := positionMass(r, h)
		gotSource, gotNeedle := answerMass(r, p, h)
		if !near(gotSink, sink, 1e-6) || !near(gotLocal, local, 1e-6) || !near(gotSource, source, 1e-6) ||
			!near(gotNeedle, needle, 1e-6) {
			t.Errorf("head %d: sink %g %g, local %g %g, copy %g %g, needle %g %g", h, gotSink, sink, gotLocal, local,
				gotSource, source, gotNeedle, needle)
		}
	}
}

// TestRepeatMass recomputes echo and induction from the whole matrix, with a token in front of the first period.
func TestRepeatMass(t *testing.T) {
	const start, period = 1, 9
	r := randomState(start+4*period, 4, 2, 8, 0, 5)
	for h := range r.Shape.H {
		a := matrix(r.AttnState, h, device.Mask{})
		var echo, induction float64
		for i := start + period; i < len(a); i++ {
			for k := 1; i-k*period >= start; k++ {
				echo += a[i][i-k*period] / (3 * period)
				induction += a[i][i-k*period+1] / (3 * period)
			}
		}
		e, n := repeatMass(r, h, start, period)
		if !near(e, echo, 1e-6) || !near(n, induction, 1e-6) {
			t.Errorf("head %d: echo %g want %g, induction %g want %g", h, e, echo, n, induction)
		}
	}
}

// TestCopies counts by hand.
func TestCopies(t *testing.T) {
	p := calib.Prompt{IDs: []int32{9, 5, 6, 7, 5, 1}, Answer: []int32{5, 6, 7}, NeedleLo: 1, NeedleHi: 4}
	for _, c := range []struct {
		top, tokens []int32
		want        float64
	}{
		{[]int32{1, 2, 3}, []int32{5, 6, 7}, 1},
		{[]int32{4, 2, 3}, []int32{5, 6, 7}, 2. / 3}, // the right token outside the needle
		{[]int32{1, 3, 3}, []int32{5, 6, 7}, 2. / 3}, // inside, but another token
		{[]int32{1, 2, 3}, []int32{5, 6, 8}, 2. / 3}, // what the model says counts, not what it should say
		{[]int32{0, 5, 0}, []int32{9, 1, 9}, 0},
	} {
		if got := copies(p, c.top, c.tokens); !near(got, c.want, 1e-12) {
			t.Errorf("%v %v: %g, want %g", c.top, c.tokens, got, c.want)
		}
	}
	if n := recalled([]int32{1, 1, 2, 3}, []int32{1, 2, 2, 4}); n != 2 {
		t.Errorf("recalled %d", n)
	}
}
