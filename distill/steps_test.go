package distill

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"modelpress/formats"
	"modelpress/internal/device/cpu"
	"modelpress/internal/testmodel"
)

func near(a, b, rel float64) bool {
	return math.Abs(a-b) <= rel*math.Max(1e-300, math.Max(math.Abs(a), math.Abs(b)))
}

// TestSchedule: the rates at the ends and the corners, by hand.
func TestSchedule(t *testing.T) {
	for _, c := range []struct {
		s    Schedule
		want map[int]float64
	}{
		{Schedule{Steps: 10, LR: 2}, map[int]float64{0: 2, 9: 2, 50: 2}},
		{Schedule{Steps: 10, Warmup: 4, LR: 2}, map[int]float64{0: 0.5, 1: 1, 3: 2, 4: 2, 9: 2}},
		{Schedule{Steps: 10, Warmup: 10, LR: 2, Decay: Cosine}, map[int]float64{0: 0.2, 9: 2}},
		{Schedule{Steps: 12, Warmup: 2, LR: 1, Decay: Linear, Floor: 0.1},
			map[int]float64{0: 0.5, 1: 1, 2: 1, 7: 0.55, 11: 0.1 + 0.9*0.1, 12: 0.1, 40: 0.1}},
		{Schedule{Steps: 8, LR: 4, Decay: Cosine, Floor: 0.25},
			map[int]float64{0: 4, 2: 1 + 3*(1+math.Sqrt2/2)/2, 4: 2.5, 6: 1 + 3*(1-math.Sqrt2/2)/2, 8: 1}},
	} {
		if err := c.s.Check(); err != nil {
			t.Error(err)
		}
		for step, want := range c.want {
			if got := c.s.Rate(step); !near(got, want, 1e-14) {
				t.Errorf("%+v: rate of step %d is %g, want %g", c.s, step, got, want)
			}
		}
	}
	good := Schedule{Steps: 5, LR: 1}
	for i, change := range []func(s *Schedule){
		func(s *Schedule) { s.Steps = 0 }, func(s *Schedule) { s.Warmup = -1 }, func(s *Schedule) { s.Warmup = 6 },
		func(s *Schedule) { s.LR = 0 }, func(s *Schedule) { s.LR = math.NaN() }, func(s *Schedule) { s.LR = math.Inf(1) },
		func(s *Schedule) { s.Floor = -0.1 }, func(s *Schedule) { s.Floor = math.NaN() }, func(s *Schedule) { s.Floor = 2 },
		func(s *Schedule) { s.Decay = 3 },
	} {
		s := good
		change(&s)
		if s.Check() == nil {
			t.Errorf("case %d: %+v passes", i, s)
		}
	}
	for d := Constant; d <= Cosine; d++ {
		if got, err := ParseDecay(d.String()); err != nil || got != d {
			t.Errorf("%s: %v, %v", d, got, err)
		}
	}
	if _, err := ParseDecay("step"); err == nil {
		t.Error("an unknown decay passes")
	}
}

// TestOrder: every epoch sees every window once, epochs and seeds differ, and the order can be asked anywhere.
func TestOrder(t *testing.T) {
	const n = 37
	o, err := NewOrder(n, 5)
	if err != nil {
		t.Fatal(err)
	}
	var epochs [4][]int
	for e := range epochs {
		for i := range n {
			epochs[e] = append(epochs[e], o.Window(int64(e*n+i)))
		}
		sorted := slices.Sorted(slices.Values(epochs[e]))
		for i, w := range sorted {
			if w != i {
				t.Fatalf("epoch %d sees %v", e, sorted)
			}
		}
		for f := range e {
			if slices.Equal(epochs[e], epochs[f]) {
				t.Errorf("epochs %d and %d are the same", e, f)
			}
		}
	}
	again, _ := NewOrder(n, 5)
	for _, i := range []int64{140, 3, 74, 75, 0, 36, 37} {
		if got, want := again.Window(i), epochs[i/n][i%n]; got != want {
			t.Errorf("window %d is %d, was %d", i, got, want)
		}
	}
	other, _ := NewOrder(n, 6)
	same := 0
	for i := range n {
		if other.Window(int64(i)) == epochs[0][i] {
			same++
		}
	}
	if same > n/2 {
		t.Errorf("another seed agrees on %d of %d", same, n)
	}
	plain, _ := InOrder(3)
	for i := range int64(7) {
		if plain.Window(i) != int(i%3) {
			t.Errorf("window %d of the plain order is %d", i, plain.Window(i))
		}
	}
	for _, n := range []int{0, -1, 1 << 31} {
		if _, err := NewOrder(n, 0); err == nil {
			t.Errorf("an order of %d windows", n)
		}
	}
}

// TestOrderIsUniform: over many seeds every window stands in every place about equally often.
func TestOrderIsUniform(t *testing.T) {
	const n, seeds = 5, 4000
	var count [n][n]int
	for seed := range uint64(seeds) {
		o, _ := NewOrder(n, seed)
		for i := range n {
			count[i][o.Window(int64(i))]++
		}
	}
	dev := math.Sqrt(seeds * (1.0 / n) * (1 - 1.0/n))
	for i, row := range count {
		for w, c := range row {
			if math.Abs(float64(c)-seeds/n) > 4.5*dev {
				t.Errorf("window %d stands in place %d %d times of %d", w, i, c, seeds)
			}
		}
	}
}

// TestGradNorm: the norm of a plain sum in float64, the same bits for any number of threads.
func TestGradNorm(t *testing.T) {
	grads := [][]float32{make([]float32, 40001), nil, make([]float32, 3), make([]float32, normChunk)}
	want, s := 0.0, newStream(1)
	for k, g := range grads {
		for i := range g {
			g[i] = float32(s.uniform(uint64(k<<20+i)) - 0.5)
			want += float64(g[i]) * float64(g[i])
		}
	}
	got := GradNorm(grads, nil)
	if !near(got, math.Sqrt(want), 1e-12) {
		t.Errorf("norm %g, want %g", got, math.Sqrt(want))
	}
	for threads := 1; threads < 5; threads++ {
		if again := GradNorm(grads, cpu.New(threads).For); again != got {
			t.Errorf("%d threads: %g, was %g", threads, again, got)
		}
	}
	for _, c := range []struct{ norm, limit, want float64 }{{3, 1.5, 0.5}, {3, 3, 1}, {3, 0, 1}, {0, 1, 1}, {1, 2, 1}} {
		if got, err := ClipScale(c.norm, c.limit); err != nil || got != c.want {
			t.Errorf("%+v: %g, %v", c, got, err)
		}
	}
	for _, bad := range []float64{math.NaN(), math.Inf(1)} {
		if _, err := ClipScale(bad, 1); err == nil {
			t.Errorf("a norm of %g passes", bad)
		}
	}
}

// adamWReference is one parameter under AdamW in float64 (PyTorch's order of decay and step).
type adamWReference struct{ p, m, v float64 }

func (r *adamWReference) step(g, lr float64, a AdamW, step int, matrix bool) {
	if matrix {
		r.p -= lr * a.Decay * r.p
	}
	r.m = a.Beta1*r.m + (1-a.Beta1)*g
	r.v = a.Beta2*r.v + (1-a.Beta2)*g*g
	r.p -= lr * r.m / (1 - math.Pow(a.Beta1, float64(step))) / (math.Sqrt(r.v/(1-math.Pow(a.Beta2, float64(step)))) + a.Eps)
}

// TestOptimizer: every parameter of a model follows the reference, a frozen one stays, matrices alone decay.
func TestOptimizer(t *testing.T) {
	src := testmodel.Named("llama-bias")
	p := newTestParams(t, src, described(t, src.Config, src), false)
	settings := AdamW{Beta1: 0.9, Beta2: 0.95, Eps: 1e-8, Decay: 0.1}
	o, err := NewOptimizer(p.List(), settings, 1)
	if err != nil {
		t.Fatal(err)
	}
	const frozen = 4
	refs := make([][]adamWReference, len(p.List()))
	for i, q := range p.List() {
		for _, v := range q.Values {
			refs[i] = append(refs[i], adamWReference{p: float64(v)})
		}
	}
	dev := cpu.New(3)
	grads := make([][]float32, len(refs))
	for step := 1; step <= 5; step++ {
		lr, scale := 0.01/float64(step), 1/float64(step)
		for i, q := range p.List() {
			grads[i] = make([]float32, q.Len())
			s := newStream(uint64(step), uint64(i))
			for j := range grads[i] {
				grads[i][j] = float32(s.uniform(uint64(j)) - 0.3)
				if i != frozen {
					refs[i][j].step(float64(grads[i][j])*scale, lr, settings, step, q.Matrix)
				}
			}
		}
		grads[frozen] = nil
		o.Step(grads, lr, scale, dev.For)
	}
	if o.Steps() != 5 {
		t.Errorf("%d steps", o.Steps())
	}
	for i, q := range p.List() {
		for j, r := range refs[i] {
			if d := math.Abs(float64(q.Values[j]) - r.p); d > 1e-6 {
				t.Fatalf("%s[%d] is %g, want %g", q.Name, j, q.Values[j], r.p)
			}
			if i == frozen && float64(q.Values[j]) != r.p {
				t.Fatalf("frozen %s moved", q.Name)
			}
		}
	}
	for i, a := range []AdamW{{Beta1: 1, Eps: 1}, {Beta2: -0.1, Eps: 1}, {Beta1: math.NaN(), Eps: 1}, {}, {Eps: math.Inf(1)},
		{Eps: 1, Decay: -1}, {Eps: 1, Decay: math.NaN()}} {
		if _, err := NewOptimizer(nil, a, 0); err == nil {
			t.Errorf("case %d: %+v passes", i, a)
		}
	}
	if err := DefaultAdamW().Check(); err != nil {
		t.Error(err)
	}
}

// TestOptimizerHalf: a bfloat16 copy moves by what f32 would, on average, though each step is far below its resolution; all
// threads and pieces give the same bits.
func TestOptimizerHalf(t *testing.T) {
	const n, steps, lr = 3*serveValues + 17, 60, 1e-5
	run := func(threads int) *Param {
		q := &Param{Name: "w", Rows: n, Cols: 1, Half: make([]uint16, n)}
		for i := range q.Half {
			q.Half[i] = formats.BF16FromF32(1)
		}
		o, err := NewOptimizer([]*Param{q}, DefaultAdamW(), 7)
		if err != nil {
			t.Fatal(err)
		}
		g := make([]float32, n)
		for i := range g {
			g[i] = -0.25 // Adam moves by lr whatever the size
		}
		for range steps {
			o.Step([][]float32{g}, lr, 1, cpu.New(threads).For)
		}
		return q
	}
	q := run(1)
	sum, moved := 0.0, 0
	for _, h := range q.Half {
		v := float64(formats.BF16ToF32(h))
		sum += v - 1
		if v != 1 {
			moved++
		}
	}
	want := float64(steps * lr)
	// A step up is 2⁻⁷ with probability lr/2⁻⁷.
	dev := math.Sqrt(want * math.Exp2(-7) / n)
	if got := sum / n; math.Abs(got-want) > 5*dev {
		t.Errorf("moved by %g on average, want %g ± %g", got, want, dev)
	}
	if moved == 0 || moved == n {
		t.Errorf("%d of %d values moved", moved, n)
	}
	if again := run(4); !slices.Equal(again.Half, q.Half) {
		t.Error("the bits depend on the number of threads")
	}
}

func TestEarlyStop(t *testing.T) {
	e := EarlyStop{Patience: 2, Margin: 0.1}
	var log string
	for i, loss := range []float64{3, 2, 1.95, 1.85, 1.9, 1.8} {
		best, stop, err := e.See(int64(i), loss)
		if err != nil {
			t.Fatal(err)
		}
		log += fmt.Sprintf("%t,%t,%d ", best, stop, e.Worse)
	}
	if want := "true,false,0 true,false,0 false,false,1 true,false,0 false,false,1 false,true,2 "; log != want {
		t.Errorf("%s\nwant %s", log, want)
	}
	if e.Best != 1.85 || e.BestStep != 3 {
		t.Errorf("%+v", e)
	}
	if _, _, err := e.See(9, math.NaN()); err == nil {
		t.Error("NaN passes")
	}
	never := EarlyStop{}
	for i := range 50 {
		if _, stop, _ := never.See(int64(i), 1); stop {
			t.Fatal("stopped without patience")
		}
	}
}
