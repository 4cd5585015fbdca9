package calib

import (
	"math"
	"slices"
	"strings"
	"testing"
)

// moment is the second moment of rows random inputs of width n, of which some columns are always 0.
func moment(seed uint64, n, rows int, dead ...int) []float64 {
	x, g := normal(seed, n*rows), NewGram(n)
	for i := range x {
		if slices.Contains(dead, i%n) {
			x[i] = 0
		}
	}
	g.Add(x, rows, nil, nil)
	return g.Hessian()
}

// TestFactor: R·Rᵀ is the damped Hessian in the order of the columns, a panel is R over its diagonal, and what was overwritten of
// the half that is read comes back.
func TestFactor(t *testing.T) {
	const n = 150
	for _, descending := range []bool{false, true} {
		h := moment(3, n, 400, 7, 90)
		before := slices.Clone(h)
		f := FactorHessian(h, n, 0.01, descending, twoThreads)
		if f.Reason != "" || f.DeadColumns != 2 || !f.Dead[7] || !f.Dead[90] || f.Retries != 0 || (f.Perm != nil) != descending {
			t.Fatalf("%q, %d dead, %d retries", f.Reason, f.DeadColumns, f.Retries)
		}
		var sum float64
		for i := range n {
			sum += before[i*n+i]
			if i > 0 && descending && f.Diag[f.Column(i)] > f.Diag[f.Column(i-1)] {
				t.Fatalf("column %d is out of order", i)
			}
		}
		mean := sum / (n - 2)
		if math.Abs(f.Damp-0.01*mean) > 1e-12 {
			t.Errorf("damping %v, want %v", f.Damp, 0.01*mean)
		}
		for i := range n {
			for j := i; j < n; j++ {
				a, b := f.Column(i), f.Column(j)
				want := before[max(a, b)*n+min(a, b)]
				if i == j {
					want += f.Damp
					if f.Dead[a] {
						want += mean
					}
				}
				var got float64
				for k := j; k < n; k++ {
					got += f.H[i*n+k] * f.H[j*n+k]
				}
				if math.Abs(got-want) > 1e-5*mean {
					t.Fatalf("descending %t, [%d, %d]: %v, want %v", descending, i, j, got, want)
				}
			}
		}
		const i1, i2 = 100, 130
		panel := make([]float32, i2*(i2-i1))
		f.Panel(panel, i1, i2, nil)
		for j := range i2 {
			for k := max(i1, j+1); k < i2; k++ {
				if want := float32(f.H[j*n+k] * (1 / f.H[k*n+k])); panel[j*(i2-i1)+k-i1] != want {
					t.Fatalf("panel [%d, %d]: %v, want %v", j, k, panel[j*(i2-i1)+k-i1], want)
				}
			}
		}
		f.Restore()
		for i := range n {
			if !slices.Equal(h[i*n:i*n+i+1], before[i*n:i*n+i+1]) {
				t.Fatalf("row %d did not come back", i)
			}
		}
	}
}

// TestFactorRetries: what is singular is damped until it is not, and what is indefinite or empty has no factor.
func TestFactorRetries(t *testing.T) {
	const n = 64
	h := moment(4, n, 3)
	if f := FactorHessian(h, n, 0, false, nil); f.Reason != "" || f.Retries == 0 || f.Damp == 0 {
		t.Errorf("rank 3: %q after %d retries with %v", f.Reason, f.Retries, f.Damp)
	}
	h = make([]float64, n*n)
	if f := FactorHessian(h, n, 0.01, false, nil); f.Reason == "" || f.DeadColumns != n {
		t.Errorf("nothing: %q, %d dead", f.Reason, f.DeadColumns)
	}
	for i := range h {
		h[i] = 1e6
	}
	for i := range n {
		h[i*n+i] = 1
	}
	if f := FactorHessian(h, n, 0.01, false, nil); f.Reason == "" || f.Retries != maxRetries || h[0] != 1 {
		t.Errorf("indefinite: %q after %d retries", f.Reason, f.Retries)
	}
}

func TestCheckHessian(t *testing.T) {
	const n = 70
	for _, c := range []struct {
		at   int
		v    float64
		want string
	}{
		{0, 0, ""}, {65*n + 66, math.NaN(), ""}, {66*n + 65, math.NaN(), "Hessian [66, 65] is NaN"}, {5 * n, math.Inf(-1), "Hessian [5, 0] is -Inf"},
		{3*n + 3, -1, "Hessian [3, 3] is -1: a diagonal entry is never negative"},
	} {
		h := moment(5, n, 100)
		h[c.at] = c.v
		err := CheckHessian(h, n, twoThreads)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v, want %q", err, c.want)
		}
	}
}
