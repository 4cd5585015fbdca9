package sparse

import (
	"math"
	"math/bits"
	"slices"
	"strings"
	"testing"

	"modelpress/formats"
)

// oracle is SparseGPT as the theory has it: after each column, the inverse Hessian of the columns that are left is updated
// explicitly (optimal brain surgeon, Hassibi and Stork 1993). O(out·n² + n³), float64.
type oracle struct {
	n, out int
	w      []float64 // [out, n], corrected so far
	inv    []float64 // [n, n], of the columns that are left
}

func newOracle(w []float32, h []float64, out, n int, damp float64) *oracle {
	o := &oracle{n: n, out: out, w: make([]float64, len(w)), inv: invert(h, n, damp)}
	for i, v := range w {
		o.w[i] = float64(v)
	}
	return o
}

// eliminate takes a column out of an inverse.
func eliminate(inv []float64, n, i int) {
	row, d := slices.Clone(inv[i*n:(i+1)*n]), inv[i*n+i]
	for a := range n {
		if row[a] == 0 {
			continue
		}
		for b := range n {
			inv[a*n+b] -= row[a] * row[b] / d
		}
	}
}

// scores returns w²/[H⁻¹]_jj of columns [i1, i2), each with the ones before it taken out, row by row.
func (o *oracle) scores(i1, i2 int) []float64 {
	inv, list := slices.Clone(o.inv), make([]float64, o.out*(i2-i1))
	for j := i1; j < i2; j++ {
		for r := range o.out {
			list[r*(i2-i1)+j-i1] = o.w[r*o.n+j] * o.w[r*o.n+j] / inv[j*o.n+j]
		}
		eliminate(inv, o.n, j)
	}
	return list
}

// least marks the k smallest of a list.
func least(list []float64, k int) []bool {
	order := make([]int, len(list))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int {
		switch {
		case list[a] < list[b]:
			return -1
		case list[a] > list[b]:
			return 1
		}
		return 0
	})
	marks := make([]bool, len(list))
	for _, i := range order[:k] {
		marks[i] = true
	}
	return marks
}

// prune carries the algorithm out; mask nil lets it choose. It returns the mask.
func (o *oracle) prune(s Scheme, mask []bool) []bool {
	chosen := make([]bool, len(o.w))
	for i := range o.n {
		if s.M == 0 && i%s.Block == 0 {
			end := min(i+s.Block, o.n)
			quota := int(math.Round(s.Ratio*float64(o.out*end))) - int(math.Round(s.Ratio*float64(o.out*i)))
			for k, goes := range least(o.scores(i, end), quota) {
				chosen[k/(end-i)*o.n+i+k%(end-i)] = goes
			}
		}
		if s.M > 0 && i%s.M == 0 {
			list := o.scores(i, i+s.M)
			for r := range o.out {
				copy(chosen[r*o.n+i:], least(list[r*s.M:][:s.M], s.M-s.N))
			}
		}
		use := chosen
		if mask != nil {
			use = mask
		}
		for r := range o.out {
			if !use[r*o.n+i] {
				continue
			}
			row := o.w[r*o.n:][:o.n]
			e := row[i] / o.inv[i*o.n+i]
			for j := i + 1; j < o.n; j++ {
				row[j] -= e * o.inv[i*o.n+j]
			}
			row[i] = 0
		}
		eliminate(o.inv, o.n, i)
	}
	return chosen
}

var patterns = []Scheme{
	{Pattern: Pattern{Ratio: 0.5}, Block: 128, Damp: 0.01},
	{Pattern: Pattern{Ratio: 0.7}, Block: 64, Damp: 0.01},
	{Pattern: Pattern{Ratio: 0.33}, Block: 1024, Damp: 0.1},
	{Pattern: Pattern{N: 2, M: 4}, Block: 128, Damp: 0.01},
	{Pattern: Pattern{N: 4, M: 8}, Block: 64, Damp: 0.01},
	{Pattern: Pattern{N: 1, M: 16}, Block: 16, Damp: 0.01},
}

func TestSparseGPTMatchesOBS(t *testing.T) {
	const out, n = 19, 160
	w, h := random(4, out*n, formats.F32), correlated(4, n, 600)
	for _, s := range patterns {
		q, rep, err := SparseGPT(w, out, n, h, s, formats.F32, nil)
		if err != nil {
			t.Fatal(err)
		}
		mustHold(t, s.String(), q, out, n, s)
		mask := make([]bool, len(q))
		for i, v := range q {
			mask[i] = v == 0
		}
		// With the same mask, the same weights.
		given := newOracle(w, h, out, n, rep.Damp)
		given.prune(s, mask)
		for i, v := range q {
			if math.Abs(float64(v)-given.w[i]) > 2e-5 {
				t.Fatalf("%s: weight [%d, %d] is %v, by optimal brain surgeon %v", s, i/n, i%n, v, given.w[i])
			}
		}
		// And the same mask, but for ties that float32 breaks the other way.
		free, same := newOracle(w, h, out, n, rep.Damp), 0
		for i, goes := range free.prune(s, nil) {
			if goes == mask[i] {
				same++
			}
		}
		if share := float64(same) / float64(len(mask)); share < 0.998 {
			t.Errorf("%s: %.4f of the mask agrees with the float64 reference", s, share)
		}
		// The column losses add up to the error in the norm of the damped Hessian.
		have := outputError(w, q, h, out, n)
		if math.Abs(rep.OutputError-have) > 2e-3*have {
			t.Errorf("%s: output error %v, want %v", s, rep.OutputError, have)
		}
	}
}

// TestTiny compares one row of few weights with all masks there are, each with its weights solved by least squares.
func TestTiny(t *testing.T) {
	const n = 6
	for seed := uint64(1); seed < 40; seed++ {
		w, h := random(seed, n, formats.F32), correlated(seed, n, 40)
		for zeros := 1; zeros < n; zeros++ {
			s := Scheme{Pattern: Pattern{Ratio: float64(zeros) / n}, Block: n}
			q, rep, err := SparseGPT(w, 1, n, h, s, formats.F32, nil)
			if err != nil || rep.Damp != 0 {
				t.Fatal(err, rep)
			}
			mustHold(t, s.String(), q, 1, n, s)
			have, own := outputError(w, q, h, 1, n), uint(0)
			for i, v := range q {
				if v == 0 {
					own |= 1 << i
				}
			}
			best := math.Inf(1)
			for mask := range uint(1) << n {
				if bits.OnesCount(mask) != zeros {
					continue
				}
				e := leastSquares(w, h, n, mask)
				best = min(best, e)
				// Zeros before all weights that stay are made good as well as can be.
				if mask == own && mask&(mask+1) == 0 && math.Abs(have-e) > 1e-4*e {
					t.Errorf("seed %d: the first %d weights go with an error of %v, least squares %v", seed, zeros, have, e)
				}
			}
			if have < best*(1-1e-4) {
				t.Errorf("seed %d, %d zeros: error %v, below the best there is, %v", seed, zeros, have, best)
			}
			// One zero goes where what comes after it makes it good best.
			if zeros == 1 {
				best = math.Inf(1)
				for k := range n {
					var rest []float64
					for i := k; i < n; i++ {
						rest = append(rest, h[i*n+k:(i+1)*n]...)
					}
					best = min(best, leastSquares(w[k:], rest, n-k, 1))
				}
				if math.Abs(have-best) > 1e-4*best {
					t.Errorf("seed %d: one weight goes with an error of %v, the best one with %v", seed, have, best)
				}
			}
		}
	}
}

// leastSquares is the least error tr(E·H·Eᵀ) of one row whose weights in mask are 0: e_M·(H - H_MF·H_FF⁻¹·H_FM)·e_M with e_M = w_M, which
// is w_M·([H⁻¹]_MM)⁻¹·w_M.
func leastSquares(w []float32, h []float64, n int, mask uint) float64 {
	inv := invert(h, n, 0)
	var at []int
	for i := range n {
		if mask>>i&1 == 1 {
			at = append(at, i)
		}
	}
	sub := make([]float64, len(at)*len(at))
	for i, a := range at {
		for j, b := range at {
			sub[i*len(at)+j] = inv[a*n+b]
		}
	}
	back := invert(sub, len(at), 0)
	var sum float64
	for i, a := range at {
		for j, b := range at {
			sum += float64(w[a]) * back[i*len(at)+j] * float64(w[b])
		}
	}
	return sum
}

// TestIndependentInputs: where inputs do not depend on each other, no weight is corrected, and the best mask of all is found.
func TestIndependentInputs(t *testing.T) {
	const n = 8
	for seed := uint64(1); seed < 20; seed++ {
		w := random(seed, n, formats.F32)
		moments := diag(correlated(seed, n, 30), n)
		h := diagonal(moments)
		for _, p := range []Pattern{{Ratio: 0.5}, {Ratio: 0.25}, {N: 2, M: 4}, {N: 3, M: 8}} {
			s := Scheme{Pattern: p, Block: n, PerRow: true}
			a, _, err := SparseGPT(w, 1, n, h, s, formats.F32, nil)
			if err != nil {
				t.Fatal(err)
			}
			b, _, err := Wanda(w, 1, n, moments, s, formats.F32, nil)
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(a, b) {
				t.Errorf("seed %d, %s: SparseGPT %v, Wanda %v", seed, p, a, b)
			}
			best := math.Inf(1)
			for mask := range uint(1) << n {
				q := slices.Clone(w)
				for i := range q {
					if mask>>i&1 == 1 {
						q[i] = 0
					}
				}
				if zeros, err := s.Holds(q, 1, n); err == nil && zeros == s.Zeros(1, n) {
					best = min(best, outputError(w, q, h, 1, n))
				}
			}
			if have := outputError(w, b, h, 1, n); have > best*(1+1e-6) {
				t.Errorf("seed %d, %s: error %v, the best mask has %v", seed, p, have, best)
			}
		}
	}
}

func TestSparseGPTDoesNotDependOnThreads(t *testing.T) {
	const out, n = 150, 384
	w, h := random(7, out*n, formats.BF16), correlated(7, n, 500)
	for _, s := range patterns {
		a, ra, err := SparseGPT(w, out, n, h, s, formats.BF16, nil)
		if err != nil {
			t.Fatal(err)
		}
		mustHold(t, s.String(), a, out, n, s)
		for _, k := range []int{1, 2, 3} {
			b, rb, err := SparseGPT(w, out, n, h, s, formats.BF16, threads(k))
			if err != nil || !sameBits(a, b) || ra != rb {
				t.Errorf("%s: %d threads change the result: %+v, %+v, %v", s, k, ra, rb, err)
			}
		}
	}
}

// TestSparseGPTRounds: weights are exact in the stored type, and what rounding costs is made good too.
func TestSparseGPTRounds(t *testing.T) {
	const out, n = 24, 256
	w, h := random(5, out*n, formats.F32), correlated(5, n, 1000)
	for _, store := range []formats.DType{formats.BF16, formats.F16} {
		for _, p := range []Pattern{{}, {N: 2, M: 4}} {
			s := Scheme{Pattern: p, Block: 128, Damp: 0.01}
			q, _, err := SparseGPT(w, out, n, h, s, store, nil)
			if err != nil {
				t.Fatal(err)
			}
			mustHold(t, s.String(), q, out, n, s)
			plain := slices.Clone(w)
			for i, v := range q {
				if rounder(store)(v) != v {
					t.Fatalf("%s does not hold %v", store, v)
				}
				plain[i] = rounder(store)(w[i])
			}
			if a, b := outputError(w, q, h, out, n), outputError(w, plain, h, out, n); p == (Pattern{}) && a > 0.5*b {
				t.Errorf("%s: error %v, by rounding to nearest %v", store, a, b)
			}
		}
	}
}

// TestSparseGPTDeadColumns: weights of inputs that were always 0 go before others, and those that stay are not changed.
func TestSparseGPTDeadColumns(t *testing.T) {
	const out, n = 6, 128
	dead := []int{0, 5, 6, 7, 127}
	w, h := random(8, out*n, formats.F32), correlated(8, n, 400, dead...)
	for _, s := range []Scheme{{Pattern: Pattern{Ratio: 0.3}, Block: 64, Damp: 0.01}, {Pattern: Pattern{N: 2, M: 4}, Block: 64, Damp: 0.01}, {Pattern: Pattern{Ratio: 0.01}, Block: 64, Damp: 0.01}} {
		q, rep, err := SparseGPT(w, out, n, h, s, formats.F32, nil)
		if err != nil || rep.DeadColumns != len(dead) || rep.FellBack {
			t.Fatalf("%+v, %v", rep, err)
		}
		mustHold(t, s.String(), q, out, n, s)
		left := 0
		for i, v := range q {
			if slices.Contains(dead, i%n) && v != 0 {
				left++
				if v != w[i] {
					t.Errorf("%s: dead weight %d became %v", s, i, v)
				}
			}
		}
		if want := map[string]int{"2:4": out, "30 % unstructured": 0, "1 % unstructured": 5*out - s.Zeros(out, n)}[s.String()]; left != want {
			t.Errorf("%s: %d dead weights are left, want %d", s, left, want)
		}
		have := outputError(w, q, h, out, n)
		if math.Abs(rep.OutputError-have) > 2e-3*have+1e-9 {
			t.Errorf("%s: output error %v, want %v", s, rep.OutputError, have)
		}
	}
}

func TestSparseGPTFallsBack(t *testing.T) {
	const out, n = 7, 64
	s := Scheme{Pattern: Pattern{Ratio: 0.3}, Block: 32, Damp: 0.01}
	w, h := random(9, out*n, formats.F32), correlated(9, n, 3) // rank 3
	q, rep, err := SparseGPT(w, out, n, h, Scheme{Pattern: s.Pattern, Block: 32}, formats.F32, nil)
	if err != nil || rep.FellBack || rep.Retries == 0 || rep.Damp == 0 {
		t.Fatalf("%+v, %v", rep, err)
	}
	mustHold(t, "rank 3", q, out, n, s)

	for i := range n {
		for j := range n {
			h[i*n+j] = 1e6
		}
		h[i*n+i] = float64(1 + i%3)
	}
	moments := diag(h, n)
	q, rep, err = SparseGPT(w, out, n, h, s, formats.F32, nil)
	want, _, werr := Wanda(w, out, n, moments, s, formats.F32, nil)
	if err != nil || werr != nil || !rep.FellBack || !strings.Contains(rep.Reason, "positive definite") || !sameBits(q, want) {
		t.Errorf("indefinite: %+v, %v, %v", rep, err, werr)
	}
	mustHold(t, "indefinite", q, out, n, s)

	q, rep, err = SparseGPT(w, out, n, make([]float64, n*n), s, formats.F32, nil)
	want, merr := Magnitude(w, out, n, s, formats.F32, nil)
	if err != nil || merr != nil || !rep.FellBack || rep.Reason != allDead || !sameBits(q, want) {
		t.Errorf("no input at all: %+v, %v, %v", rep, err, merr)
	}

	// Corrections that the stored type does not hold.
	w, h = random(10, out*n, formats.F32), correlated(10, n, 400)
	for i := range w {
		w[i] = 60000 * float32(1-2*(i%2))
	}
	q, rep, err = SparseGPT(w, out, n, h, Scheme{Pattern: Pattern{Ratio: 0.9}, Block: 32, Damp: 0.01}, formats.F16, nil)
	if err != nil || !rep.FellBack || !strings.Contains(rep.Reason, "overflowed") {
		t.Errorf("%+v, %v", rep, err)
	}
	for _, v := range q {
		if v-v != 0 {
			t.Fatal(v)
		}
	}
}

func TestSparseGPTLeavesItsInputAlone(t *testing.T) {
	const out, n = 3, 64
	w, h := random(11, out*n, formats.F32), correlated(11, n, 100)
	w0, h0 := slices.Clone(w), slices.Clone(h)
	if _, _, err := SparseGPT(w, out, n, h, patterns[3], formats.BF16, nil); err != nil {
		t.Fatal(err)
	}
	for i := range n {
		if !slices.Equal(h[i*n:i*n+i+1], h0[i*n:i*n+i+1]) {
			t.Fatalf("row %d of the Hessian changed", i)
		}
	}
	if !slices.Equal(w, w0) {
		t.Error("weights changed")
	}
}
