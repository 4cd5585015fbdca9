package kvmerge

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"modelpress/internal/device/cpu"
	"modelpress/internal/num"
)

// fit is what a Refit is given.
type fit struct {
	n, d          int
	wo, fused     []float32
	before, after [][]float32 // windows
}

// drawFit draws outputs of heads of which the merged ones, relate of them, keep something besides noise.
func drawFit(n, d int, noise float64, seed uint64, lengths ...int) (f *fit, relate []float64) {
	rnd := rand.New(rand.NewPCG(seed, 18))
	f = &fit{n: n, d: d, wo: gaussian32(rnd, d*n)}
	relate = scaledIdentity(n, 1)
	for i, v := range gaussian(rnd, n*n) {
		relate[i] += 0.3 * v / math.Sqrt(float64(n))
	}
	for _, w := range f.wo {
		f.fused = append(f.fused, w+0.5*float32(rnd.NormFloat64()))
	}
	for _, t := range lengths {
		before, after := gaussian32(rnd, t*n), make([]float32, t*n)
		for i := range t {
			y := make([]float64, n)
			project(y, relate, widened(before[i*n:][:n]), false)
			for c := range y {
				after[i*n+c] = float32(y[c] + noise*rnd.NormFloat64())
			}
		}
		f.before, f.after = append(f.before, before), append(f.after, after)
	}
	return f, relate
}

func (f *fit) solve(t *testing.T, par num.Par) []float32 {
	t.Helper()
	r := NewRefit(f.n)
	for w, before := range f.before {
		r.Add(before, f.after[w], len(before)/f.n, par)
	}
	y, err := r.Solve(f.wo, f.fused, par)
	if err != nil {
		t.Fatal(err)
	}
	return y
}

// errors is Σ‖W·a - W'·a'‖².
func (f *fit) errors(w []float64) float64 {
	sum := 0.0
	for i, before := range f.before {
		for at := 0; at < len(before); at += f.n {
			a, b := widened(before[at:at+f.n]), widened(f.after[i][at:at+f.n])
			for r := range f.d {
				e := agreement(widened(f.wo[r*f.n:][:f.n]), a) - agreement(w[r*f.n:][:f.n], b)
				sum += e * e
			}
		}
	}
	return sum
}

// objective is errors and the ridge.
func (f *fit) objective(w []float64) float64 {
	energy := 0.0
	for _, after := range f.after {
		for _, v := range after {
			energy += float64(v) * float64(v)
		}
	}
	sum := 0.0
	for i, v := range f.fused {
		e := w[i] - float64(v)
		sum += e * e
	}
	return f.errors(w) + 1e-3*energy/float64(f.n)*sum
}

// TestRefitIsTheMinimum: no worse than the fused projection on what it saw, the gradient of the objective is zero there, and every
// step away from it costs.
func TestRefitIsTheMinimum(t *testing.T) {
	f, _ := drawFit(12, 9, 0.5, 1, 150, 1, 60)
	got := widened(f.solve(t, cpu.New(2).For))
	fused := widened(f.fused)
	if a, b := f.errors(got), f.errors(fused); !(a < 0.5*b) {
		t.Errorf("errors of %g, of the fused projection %g", a, b)
	}
	rnd := rand.New(rand.NewPCG(2, 18))
	least, slopeAt := f.objective(got), func(w, dir []float64) float64 {
		step := func(h float64) float64 {
			moved := slices.Clone(w)
			addScaled(moved, dir, h)
			return f.objective(moved)
		}
		return (step(1e-4) - step(-1e-4)) / 2e-4
	}
	for range 20 {
		dir := gaussian(rnd, len(got))
		if a, b := math.Abs(slopeAt(got, dir)), math.Abs(slopeAt(fused, dir)); !(a < 1e-3*b) && !(a < 1e-3) {
			t.Errorf("slope %g, at the fused projection %g", a, b)
		}
		moved := slices.Clone(got)
		addScaled(moved, dir, 1e-2)
		if x := f.objective(moved); !(x > least) {
			t.Errorf("%g at the minimum, %g beside it", least, x)
		}
	}
}

// TestRefitNeverWorse: whatever the heads' outputs are, also fewer positions than heads have outputs, or one output like another.
func TestRefitNeverWorse(t *testing.T) {
	for seed := range uint64(12) {
		f, _ := drawFit(16, 5, 2, seed, int(1+4*seed), 3)
		for w := range f.after {
			for i := range f.after[w] {
				if c := i % f.n; c >= 4 && seed%3 == 1 {
					f.after[w][i] = f.after[w][i-c+c%4]
				}
				if seed%4 == 3 {
					f.after[w][i] *= 1e-3
				}
			}
		}
		got := widened(f.solve(t, nil))
		if a, b := f.errors(got), f.errors(widened(f.fused)); !(a <= b*(1+1e-6)) {
			t.Errorf("seed %d: errors of %g, of the fused projection %g", seed, a, b)
		}
	}
}

// TestRefitIdentity: where merging changed nothing the projection stays what it is.
func TestRefitIdentity(t *testing.T) {
	for _, lengths := range [][]int{{200}, {3}, {1300, 40}} {
		f, _ := drawFit(16, 11, 0, 3, lengths...)
		f.after, f.fused = f.before, f.wo
		got := f.solve(t, nil)
		if d := farthest(got, f.wo); !(d <= 1e-6) {
			t.Errorf("windows %v: changes by %g of its size", lengths, d)
		}
	}
	f, _ := drawFit(16, 11, 0, 3, 20)
	clear(f.after[0])
	if !slices.Equal(f.solve(t, nil), f.fused) {
		t.Error("outputs of zero change the projection")
	}
	empty := &fit{n: 16, d: 11, wo: f.wo, fused: f.fused}
	if !slices.Equal(empty.solve(t, nil), f.fused) {
		t.Error("no outputs change the projection")
	}
}

// TestRefitRecoversRelation: where a' is an image of a, W' undoes it but for the ridge, which is a thousandth.
func TestRefitRecoversRelation(t *testing.T) {
	f, relate := drawFit(10, 7, 0, 4, 1500, 700)
	gram := plainMul(plainTransposed(relate, 10, 10), relate, 10, 10, 10)
	inverse := plainMul(plainInverse(t, gram, 10), plainTransposed(relate, 10, 10), 10, 10, 10)
	want := plainMul(widened(f.wo), inverse, 7, 10, 10)
	got := widened(f.solve(t, nil))
	distance := func(a, b []float64) float64 {
		sum := 0.0
		for i := range a {
			sum += (a[i] - b[i]) * (a[i] - b[i])
		}
		return math.Sqrt(sum)
	}
	if d, before := distance(got, want), distance(widened(f.fused), want); !(d < 0.02*before) || before < 1 {
		t.Errorf("distance %g, of the fused projection %g", d, before)
	}
}

func TestRefitAtAnyNumberOfThreads(t *testing.T) {
	f, _ := drawFit(96, 70, 1, 5, 1100, 300)
	want := f.solve(t, nil)
	for _, par := range []num.Par{viewThreads(2), viewThreads(3), goroutines, cpu.New(2).For} {
		if !slices.Equal(f.solve(t, par), want) {
			t.Error("other bits on other threads")
		}
	}
}

func TestRefitRefusesWhatIsNotFinite(t *testing.T) {
	for _, bad := range []float64{math.NaN(), math.Inf(1)} {
		for _, inAfter := range []bool{true, false} {
			f, _ := drawFit(4, 3, 1, 6, 10)
			if inAfter {
				f.after[0][3] = float32(bad)
			} else {
				f.before[0][3] = float32(bad)
			}
			r := NewRefit(f.n)
			r.Add(f.before[0], f.after[0], 10, nil)
			if y, err := r.Solve(f.wo, f.fused, nil); err == nil {
				t.Errorf("%g after merging (%t): fitted as %v", bad, inAfter, y)
			}
		}
	}
}
