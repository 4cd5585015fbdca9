package sparse

import (
	"math"
	"math/bits"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"modelpress/formats"
)

// methods are all of them under one signature.
var methods = map[string]func(w []float32, out, in int, h []float64, s Scheme, store formats.DType, par Par) ([]float32, error){
	"magnitude": func(w []float32, out, in int, _ []float64, s Scheme, store formats.DType, par Par) ([]float32, error) {
		return Magnitude(w, out, in, s, store, par)
	},
	"wanda": func(w []float32, out, in int, h []float64, s Scheme, store formats.DType, par Par) ([]float32, error) {
		q, _, err := Wanda(w, out, in, diag(h, in), s, store, par)
		return q, err
	},
	"sparsegpt": func(w []float32, out, in int, h []float64, s Scheme, store formats.DType, par Par) ([]float32, error) {
		q, _, err := SparseGPT(w, out, in, h, s, store, par)
		return q, err
	},
}

// TestIdentity: where nothing is to go, every weight stays bit for bit, zeros of either sign among them.
func TestIdentity(t *testing.T) {
	const out, n = 21, 192
	h := correlated(2, n, 300, 3, 40)
	for _, store := range []formats.DType{formats.F32, formats.BF16, formats.F16} {
		w := random(2, out*n, store)
		for i := range 60 {
			w[i*37] = float32(math.Copysign(0, float64(i%2)-0.5))
		}
		for _, s := range []Scheme{{Block: 128, Damp: 0.01}, {Pattern: Pattern{N: 4, M: 4}, Block: 64, Damp: 0.01}, {Block: 50, PerRow: true}} {
			for name, prune := range methods {
				q, err := prune(w, out, n, h, s, store, threads(2))
				if err != nil || !sameBits(q, w) {
					t.Errorf("%s, %s, %s: weights changed (%v)", name, s, store, err)
				}
			}
		}
	}
}

// TestAllGo: the other end.
func TestAllGo(t *testing.T) {
	const out, n = 5, 64
	w, h := random(3, out*n, formats.F32), correlated(3, n, 100)
	for name, prune := range methods {
		for _, s := range []Scheme{{Pattern: Pattern{Ratio: 1}, Block: 32}, {Pattern: Pattern{M: 4}, Block: 32}, {Pattern: Pattern{Ratio: 1}, Block: 7, PerRow: true}} {
			q, err := prune(w, out, n, h, s, formats.F32, nil)
			if err != nil || !slices.Equal(q, make([]float32, out*n)) {
				t.Errorf("%s, %s: %v", name, s, err)
			}
		}
	}
}

// TestErrors: on inputs that depend on each other and differ in size, corrections beat the right mask, and that beats magnitude.
func TestErrors(t *testing.T) {
	const out, n = 48, 256
	w, h := random(6, out*n, formats.BF16), correlated(6, n, 1500)
	whole := outputError(w, make([]float32, out*n), h, out, n)
	for _, p := range []Pattern{{Ratio: 0.5}, {Ratio: 0.7}, {N: 2, M: 4}, {N: 4, M: 8}} {
		share := map[string]float64{}
		for name, prune := range methods {
			s := Scheme{Pattern: p, Block: 128, Damp: 0.01, PerRow: name == "wanda"}
			q, err := prune(w, out, n, h, s, formats.BF16, nil)
			if err != nil {
				t.Fatal(err)
			}
			mustHold(t, name, q, out, n, s)
			share[name] = outputError(w, q, h, out, n) / whole
		}
		t.Logf("%s: relative output error by SparseGPT %.4f, Wanda %.4f, magnitude %.4f", p, share["sparsegpt"], share["wanda"], share["magnitude"])
		if !(share["sparsegpt"] < 0.7*share["wanda"] && share["wanda"] < 0.7*share["magnitude"]) {
			t.Errorf("%s: %v", p, share)
		}
	}
}

// TestWandaByHand works one matrix out on paper: inputs of norms 1, 2, 8 and 3.
func TestWandaByHand(t *testing.T) {
	w := []float32{
		4, 0, 1, -1, // 4 0 8 3
		3, -2, -1, -3, // 3 4 8 9
		-3, 1, 0, 2, // 3 2 0 6
	}
	second := []float64{1, 4, 64, 9}
	for _, c := range []struct {
		s    Scheme
		want []float32
	}{
		{Scheme{Pattern: Pattern{Ratio: 0.5}, PerRow: true}, []float32{4, 0, 1, 0, 0, 0, -1, -3, -3, 0, 0, 2}},
		{Scheme{Pattern: Pattern{N: 2, M: 4}}, []float32{4, 0, 1, 0, 0, 0, -1, -3, -3, 0, 0, 2}},
		{Scheme{Pattern: Pattern{N: 1, M: 2}}, []float32{4, 0, 1, 0, 0, -2, 0, -3, -3, 0, 0, 2}},
		// Four of the whole: 0, 0, 2 and the first 3.
		{Scheme{Pattern: Pattern{Ratio: 4. / 12}}, []float32{4, 0, 1, 0, 3, -2, -1, -3, -3, 0, 0, 2}},
	} {
		q, _, err := Wanda(w, 3, 4, second, c.s, formats.F32, nil)
		if err != nil || !slices.Equal(q, c.want) {
			t.Errorf("%s: %v, want %v (%v)", c.s, q, c.want, err)
		}
	}
	q, err := Magnitude(w, 3, 4, Scheme{Pattern: Pattern{Ratio: 0.5}, PerRow: true}, formats.F32, nil)
	if want := []float32{4, 0, 0, -1, 3, 0, 0, -3, -3, 0, 0, 2}; err != nil || !slices.Equal(q, want) {
		t.Errorf("magnitude: %v, want %v (%v)", q, want, err)
	}
	q, err = Magnitude(w, 3, 4, Scheme{Pattern: Pattern{Ratio: 0.5}}, formats.F32, nil)
	if want := []float32{4, 0, 0, 0, 3, -2, 0, -3, -3, 0, 0, 2}; err != nil || !slices.Equal(q, want) {
		t.Errorf("magnitude of the whole: %v, want %v (%v)", q, want, err)
	}
}

// TestMagnitudeIsBest: no other mask of as many zeros changes a matrix less.
func TestMagnitudeIsBest(t *testing.T) {
	const out, n = 2, 4
	ones := diagonal([]float64{1, 1, 1, 1})
	for seed := uint64(1); seed < 20; seed++ {
		w := random(seed, out*n, formats.F32)
		for _, s := range []Scheme{{Pattern: Pattern{Ratio: 0.5}}, {Pattern: Pattern{Ratio: 0.5}, PerRow: true}, {Pattern: Pattern{N: 2, M: 4}}, {Pattern: Pattern{Ratio: 0.2}}} {
			q, err := Magnitude(w, out, n, s, formats.F32, nil)
			if err != nil {
				t.Fatal(err)
			}
			mustHold(t, s.String(), q, out, n, s)
			have, best := outputError(w, q, ones, out, n), math.Inf(1)
			for mask := range uint(1) << (out * n) {
				if s.PerRow && bits.OnesCount(mask&15) != 2 {
					continue
				}
				p := slices.Clone(w)
				for i := range p {
					if mask>>i&1 == 1 {
						p[i] = 0
					}
				}
				if zeros, err := s.Holds(p, out, n); err == nil && zeros == s.Zeros(out, n) {
					best = min(best, outputError(w, p, ones, out, n))
				}
			}
			if have > best*(1+1e-12) {
				t.Errorf("seed %d, %s: %v, best %v", seed, s, have, best)
			}
		}
	}
}

func TestPlainMethodsDoNotDependOnThreads(t *testing.T) {
	const out, n = 150, 192
	w, h := random(7, out*n, formats.BF16), correlated(7, n, 300)
	for _, name := range []string{"magnitude", "wanda"} {
		for _, s := range []Scheme{{Pattern: Pattern{Ratio: 0.37}}, {Pattern: Pattern{Ratio: 0.37}, PerRow: true}, {Pattern: Pattern{N: 3, M: 8}}} {
			a, err := methods[name](w, out, n, h, s, formats.BF16, nil)
			if err != nil {
				t.Fatal(err)
			}
			mustHold(t, name, a, out, n, s)
			for _, k := range []int{1, 2, 3} {
				if b, err := methods[name](w, out, n, h, s, formats.BF16, threads(k)); err != nil || !sameBits(a, b) {
					t.Errorf("%s, %s: %d threads change the result (%v)", name, s, k, err)
				}
			}
		}
	}
}

func TestBadInput(t *testing.T) {
	const out, n = 2, 64
	nan := float32(math.NaN())
	for _, c := range []struct {
		spoil func(w []float32, h []float64, s *Scheme, store *formats.DType)
		on    string
		want  string
	}{
		{func(w []float32, _ []float64, _ *Scheme, _ *formats.DType) { w[70] = nan }, "magnitude wanda sparsegpt", "weight [1, 6] is NaN"},
		{func(_ []float32, h []float64, _ *Scheme, _ *formats.DType) { h[65] = math.Inf(1) }, "sparsegpt", "Hessian [1, 1] is +Inf"},
		{func(_ []float32, h []float64, _ *Scheme, _ *formats.DType) { h[65] = -1 }, "sparsegpt", "Hessian [1, 1] is -1"},
		{func(_ []float32, h []float64, _ *Scheme, _ *formats.DType) { h[65] = -1 }, "wanda", "second moment of input 1 is -1"},
		{func(_ []float32, h []float64, _ *Scheme, _ *formats.DType) { h[65] = math.NaN() }, "wanda", "second moment of input 1 is NaN"},
		{func(_ []float32, _ []float64, s *Scheme, _ *formats.DType) { s.Ratio = -0.1 }, "magnitude wanda sparsegpt", "ratio -0.1"},
		{func(_ []float32, _ []float64, s *Scheme, _ *formats.DType) { s.Ratio = 1.1 }, "magnitude wanda sparsegpt", "ratio 1.1"},
		{func(_ []float32, _ []float64, s *Scheme, _ *formats.DType) { s.Ratio = math.NaN() }, "magnitude wanda sparsegpt", "ratio NaN"},
		{func(_ []float32, _ []float64, s *Scheme, _ *formats.DType) { s.N, s.M = 2, 5 }, "magnitude wanda sparsegpt", "64 inputs do not divide into groups of 5"},
		{func(_ []float32, _ []float64, s *Scheme, _ *formats.DType) { s.N, s.M = 5, 4 }, "magnitude wanda sparsegpt", "0 <= n <= m"},
		{func(_ []float32, _ []float64, s *Scheme, _ *formats.DType) { s.N, s.M = 1, -4 }, "magnitude wanda sparsegpt", "0 <= n <= m"},
		{func(_ []float32, _ []float64, s *Scheme, _ *formats.DType) { s.N, s.M = 1, 2048 }, "magnitude wanda sparsegpt", "0 <= n <= m"},
		{func(_ []float32, _ []float64, s *Scheme, _ *formats.DType) { s.Block = 0 }, "sparsegpt", "blocks of 0 columns"},
		{func(_ []float32, _ []float64, s *Scheme, _ *formats.DType) { s.Block = 2000 }, "sparsegpt", "blocks of 2000 columns"},
		{func(_ []float32, _ []float64, s *Scheme, _ *formats.DType) { s.N, s.M, s.Block = 2, 4, 30 }, "sparsegpt", "blocks of 30 columns"},
		{func(_ []float32, _ []float64, s *Scheme, _ *formats.DType) { s.Damp = math.Inf(1) }, "sparsegpt", "damping +Inf"},
		{func(_ []float32, _ []float64, _ *Scheme, d *formats.DType) { *d = formats.I8 }, "magnitude wanda sparsegpt", "type I8"},
	} {
		w, h, s, store := random(10, out*n, formats.F32), correlated(10, n, 100), Scheme{Pattern: Pattern{Ratio: 0.5}, Block: 32, Damp: 0.01}, formats.F32
		c.spoil(w, h, &s, &store)
		for _, name := range strings.Fields(c.on) {
			if q, err := methods[name](w, out, n, h, s, store, nil); q != nil || err == nil || !strings.Contains(err.Error(), c.want) || !strings.HasPrefix(err.Error(), "sparse: ") {
				t.Errorf("%s: %v, want %q", name, err, c.want)
			}
		}
	}
}

func TestParsePattern(t *testing.T) {
	for text, want := range map[string]Pattern{"unstructured": {Ratio: 0.4}, "2:4": {N: 2, M: 4}, "4:8": {N: 4, M: 8}, "1:1024": {N: 1, M: 1024}} {
		p, err := ParsePattern(text, 0.4)
		if err != nil || p != want || p.M > 0 && p.String() != text {
			t.Errorf("%s: %+v, %v", text, p, err)
		}
	}
	for _, text := range []string{"", "2", "2:", ":4", "2:4:8", "0:4", "4:4", "5:4", "-2:4", "2:1025", "02:4", "2: 4", "+2:4", "2:4 ", "2:99999999999999999999", "structured"} {
		if p, err := ParsePattern(text, 0.5); err == nil {
			t.Errorf("%q became %+v", text, p)
		}
	}
	if a, b := (Pattern{Ratio: 0.5}).String(), (Pattern{N: 2, M: 4}).Share(); a != "50 % unstructured" || b != 0.5 {
		t.Error(a, b)
	}
}

// TestHolds: what lacks zeros, or has them in the wrong places, does not pass.
func TestHolds(t *testing.T) {
	for _, c := range []struct {
		s     Scheme
		w     []float32
		zeros int
		want  string
	}{
		{Scheme{Pattern: Pattern{N: 2, M: 4}}, []float32{0, 1, 2, 0, 3, 0, 0, 0}, 5, ""},
		{Scheme{Pattern: Pattern{N: 2, M: 4}}, []float32{0, 0, 0, 0, 3, 1, 0, 1}, 5, "row 0, inputs 4 to 7: 3 weights are not 0"},
		{Scheme{Pattern: Pattern{Ratio: 0.5}}, []float32{0, 0, 0, 0, 3, 1, 2, 1}, 4, ""},
		{Scheme{Pattern: Pattern{Ratio: 0.5}}, []float32{0, 0, 0, 4, 3, 1, 2, 1}, 3, "3 weights are 0, the pattern wants 4"},
	} {
		zeros, err := c.s.Holds(c.w, 1, 8)
		if zeros != c.zeros || (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v: %d zeros, %v", c.w, zeros, err)
		}
	}
}

// TestMarkLeast compares with sorting, with many keys that are equal.
func TestMarkLeast(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	for range 300 {
		n := 1 + r.IntN(60)
		keys := make([]uint32, n)
		for i := range keys {
			switch r.IntN(3) {
			case 0:
				keys[i] = r.Uint32()
			case 1:
				keys[i] = uint32(r.IntN(3)) << (11 * r.IntN(3))
			default:
				keys[i] = key(float32(r.NormFloat64()))
			}
		}
		k := r.IntN(n + 1)
		list := make([]float64, n)
		for i, v := range keys {
			list[i] = float64(v)
		}
		marks := make([]uint32, n)
		markGroup(marks, keys, k)
		markLeast(keys, k)
		for i, goes := range least(list, k) {
			if want := map[bool]uint32{true: 1}[goes]; keys[i] != want || marks[i] != want {
				t.Fatalf("%v, the least %d: marks %v and %v", list, k, keys, marks)
			}
		}
	}
}
