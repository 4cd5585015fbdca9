package heads

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"math"
	"reflect"
	"slices"
	"testing"

	"modelpress/calib"
	"modelpress/internal/arch"
	"modelpress/internal/nn"
	"modelpress/internal/testmodel"
)

// duoPrompts makes prompts whose needle lies far back from the question.
func duoPrompts(p *testmodel.Planted, n int) []calib.Prompt {
	var prompts []calib.Prompt
	for _, q := range p.Prompts(n, 72, 4, 5) {
		prompts = append(prompts, calib.Prompt{IDs: q.IDs, Answer: q.Answer, NeedleLo: q.NeedleLo, NeedleHi: q.NeedleHi})
	}
	return prompts
}

func duoModel(t *testing.T, threads int) (*testmodel.Planted, *nn.Model) {
	t.Helper()
	p := testmodel.NewPlanted(1)
	a, err := arch.Describe(p.Config, p)
	if err != nil {
		t.Fatal(err)
	}
	return p, nn.New(deviceOf(threads), p, a)
}

// TestDuoSlopes: the gradient by every gate is what central differences of the loss give.
func TestDuoSlopes(t *testing.T) {
	for _, name := range []string{"llama-gqa", "qwen3", "gpt2", "llama-pruned"} {
		m := open(t, testmodel.Named(name))
		ids := testmodel.Windows(1, 30, m.Arch.V, 2)[0]
		prompts := []calib.Prompt{{IDs: ids[:25], Answer: ids[25:], NeedleLo: 1, NeedleHi: 5}}
		opt := DuoOptions{Sink: 1, Recent: 5, Question: 3}
		opt.fill()
		d, err := newDuo(m, prompts, opt)
		if err != nil {
			t.Fatal(err)
		}
		if err := d.teach(t.Context()); err != nil {
			t.Fatal(err)
		}
		defer d.teacher.Close()
		if loss, slopes, err := d.slopes(t.Context(), 0); err != nil || loss != 0 || slices.ContainsFunc(slopes, func(v float64) bool { return v != 0 }) {
			t.Errorf("%s: gates of one: loss %g, slopes %g, %v", name, loss, slopes, err)
		}
		for i := range d.alpha {
			d.alpha[i] = float64(float32(0.3 + 0.5*math.Mod(0.37*float64(i), 1)))
		}
		_, slopes, err := d.slopes(t.Context(), 0)
		if err != nil {
			t.Fatal(err)
		}
		top := 0.0
		for _, v := range slopes {
			top = math.Max(top, math.Abs(v))
		}
		for i := range d.alpha {
			old, at := d.alpha[i], [2]float64{}
			for side := range at {
				d.alpha[i] = old + []float64{-1, 1}[side]/64
				if at[side], _, err = d.slopes(t.Context(), 0); err != nil {
					t.Fatal(err)
				}
			}
			d.alpha[i] = old
			if want := (at[1] - at[0]) * 32; !near(slopes[i], want, 0.005*top) {
				t.Errorf("%s: gate %d: slope %g, difference %g", name, i, slopes[i], want)
			}
		}
	}
}

// TestDuoShortWindow: where the model's own window is as narrow as the streaming mask, only the regularizer moves gates.
func TestDuoShortWindow(t *testing.T) {
	m := open(t, testmodel.Named("mistral-swa"))
	ids := testmodel.Windows(1, 40, m.Arch.V, 2)[0]
	prompts := []calib.Prompt{{IDs: ids[:36], Answer: ids[36:], NeedleLo: 1, NeedleHi: 5}}
	s, log, err := Duo(t.Context(), m, prompts, DuoOptions{Sink: 4, Recent: 12, Steps: 5, Every: 5})
	if err != nil {
		t.Fatal(err)
	}
	for l, row := range s.KV {
		for g, v := range row {
			if v != s.KV[0][0] || v >= 1 {
				t.Errorf("gate %d.%d is %g", l, g, v)
			}
		}
	}
	if len(log.Checks) != 1 || log.Checks[0].Loss != 0 || log.Early {
		t.Errorf("log %+v", log)
	}
}

// TestDuoRate: the published schedule, at the ends and the corners.
func TestDuoRate(t *testing.T) {
	d := &duo{opt: DuoOptions{Steps: 2000, LR: 0.02}}
	for s, want := range map[int]float64{0: 0.002, 39: 0.002, 199: 0.01, 399: 0.02, 1000: 0.02, 1600: 0.02, 1800: 0.01, 1999: 0.002} {
		if got := d.rate(s); !near(got, want, 1e-15) {
			t.Errorf("step %d: %g, want %g", s, got, want)
		}
	}
}

// TestAdam: one gate against AdamW written out, with a clamp at both ends.
func TestAdam(t *testing.T) {
	d := &duo{opt: DuoOptions{Steps: 20, LR: 0.3, Reg: 0.1}, alpha: []float64{1, 1}, m1: make([]float64, 2), m2: make([]float64, 2), sum: make([]float64, 2)}
	a, m, v := 1.0, 0.0, 0.0
	for s := range 20 {
		slope := math.Sin(float64(s)) - 0.2
		d.update([]float64{slope, 5})
		d.step++
		g := slope
		if a > 0 {
			g += 0.1 / 2
		}
		m, v = 0.9*m+0.1*g, 0.999*v+0.001*g*g
		lr := 0.3 * math.Min(1, math.Min(math.Max(float64(s+1)/4, 0.1), math.Max(float64(20-s)/4, 0.1)))
		a -= lr * (m / (1 - math.Pow(0.9, float64(s+1)))) / (math.Sqrt(v/(1-math.Pow(0.999, float64(s+1)))) + 1e-8)
		a = math.Max(0, math.Min(1, a))
		if !near(d.alpha[0], a, 1e-12) {
			t.Fatalf("step %d: %g, want %g", s, d.alpha[0], a)
		}
	}
	if d.alpha[1] != 0 {
		t.Errorf("a gate that is pushed down ends at %g", d.alpha[1])
	}
}

func TestSpearman(t *testing.T) {
	for _, c := range []struct {
		a, b []float64
		want float64
	}{
		{[]float64{1, 2, 3}, []float64{10, 20, 21}, 1},
		{[]float64{1, 2, 3}, []float64{3, 2, 1}, -1},
		{[]float64{1, 1, 1}, []float64{1, 2, 3}, 0},
		{[]float64{1, 2, 2, 3}, []float64{1, 2, 3, 4}, 3 / math.Sqrt(10)}, // ranks 0, 1.5, 1.5, 3: sums 4.5, 4.5, 5
		{[]float64{0.1, 0.1 + 1e-9, 2}, []float64{5, 5, 7}, 1},            // equal once rounded
	} {
		want := c.want
		if len(c.a) == 4 {
			want = 4.5 / math.Sqrt(4.5*5)
		}
		if got := spearman(c.a, c.b); !near(got, want, 1e-12) {
			t.Errorf("%v, %v: %g, want %g", c.a, c.b, got, want)
		}
	}
}

// TestDuoStability: a check counts only where the choice, its edge and the order stand.
func TestDuoStability(t *testing.T) {
	d := &duo{opt: DuoOptions{Share: 0.5, Every: 1, Patience: 2, MinSteps: 3, MinRank: 0.9}, first: []int{0, 4}, checked: make([]float64, 4)}
	d.masks = append(d.masks, nil)
	for i, c := range []struct {
		alpha   []float64
		stable  bool
		changed int
		settled bool
	}{
		{[]float64{1, 0.9, 0.2, 0.1}, false, 0, false},    // nothing to compare with
		{[]float64{1, 0.9, 0.2, 0.1}, true, 0, false},     // one in a row
		{[]float64{1, 0.8, 0.3, 0.1}, true, 0, true},      // the second, and enough steps
		{[]float64{1, 0.3, 0.8, 0.1}, false, 1, false},    // another choice
		{[]float64{1, 0.8, 0.8, 0.1}, false, 1, false},    // a tie at the cut
		{[]float64{0.9, 1, 0.3, 0.1}, false, 0, false},    // another order
		{[]float64{0.9, 1, 0.3, 0.1}, true, 0, false},     //
		{[]float64{0.9, 1, 0.25, 0.1}, true, 0, true},     //
		{[]float64{0.9, 1, 0.1, 0.25}, false, 0, false},   // another order among those left out
		{[]float64{0.8, 0.9, 0.05, 0.2}, false, 0, false}, // on the way down together
	} {
		d.sum = slices.Clone(c.alpha) // of one step
		d.step++
		d.stability()
		last := d.checks[len(d.checks)-1]
		if last.Stable != c.stable || last.Changed != c.changed || d.settled() != c.settled {
			t.Errorf("check %d: %+v, settled %t", i, last, d.settled())
		}
	}
}

// TestDuoResumes: a run that is cut off twice and goes on, on other threads and with states on disk, ends with the bytes of
// one that is not.
func TestDuoResumes(t *testing.T) {
	p, m := duoModel(t, 2)
	prompts := duoPrompts(p, 3)
	opt := DuoOptions{Sink: 4, Recent: 16, Steps: 14, Every: 4, SaveEvery: 5, Seed: 9, Share: 0.2, StateKey: "weights"}
	var final []byte
	keep := func(to *[]byte) func([]byte) error {
		return func(b []byte) error { *to = slices.Clone(b); return nil }
	}
	opt.Save = keep(&final)
	want, wantLog, err := Duo(t.Context(), m, prompts, opt)
	if err != nil {
		t.Fatal(err)
	}
	var state []byte
	opt.Save = keep(&state)
	opt.Dir, opt.MemLimit = t.TempDir(), 1
	for _, stop := range []int{3, 8} {
		_, other := duoModel(t, 3)
		ctx, cancel := context.WithCancel(t.Context())
		opt.Resume = state
		opt.Progress = func(done, total int) {
			if done == stop {
				cancel()
			}
		}
		if _, _, err := Duo(ctx, other, prompts, opt); !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		cancel()
	}
	opt.Progress, opt.Resume = nil, state
	_, other := duoModel(t, 1)
	got, gotLog, err := Duo(t.Context(), other, prompts, opt)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) || !reflect.DeepEqual(gotLog, wantLog) || !bytes.Equal(state, final) {
		t.Errorf("gates %v, want %v; log %+v, want %+v", got.KV, want.KV, gotLog, wantLog)
	}
	opt.Resume = final // nothing is left to do
	if again, log, err := Duo(t.Context(), other, prompts, opt); err != nil || !reflect.DeepEqual(again, want) || log.Steps != 14 {
		t.Errorf("from the final state: %v, %v", again, err)
	}
}

// TestDuoStates: a state that is cut, changed, lengthened or another run's is refused.
func TestDuoStates(t *testing.T) {
	p, m := duoModel(t, 2)
	prompts := duoPrompts(p, 2)
	opt := DuoOptions{Sink: 4, Recent: 16, Steps: 3, Every: 1}
	var state []byte
	opt.Save = func(b []byte) error { state = b; return nil }
	if _, _, err := Duo(t.Context(), m, prompts, opt); err != nil {
		t.Fatal(err)
	}
	resume := func(b []byte, opt DuoOptions, prompts []calib.Prompt) error {
		opt.Resume = b
		_, _, err := Duo(t.Context(), m, prompts, opt)
		return err
	}
	sealed := func(change func(b []byte) []byte) []byte { // a change that the sum does not show
		b := change(slices.Clone(state[:len(state)-32]))
		sum := sha256.Sum256(b)
		return append(b, sum[:]...)
	}
	at := len(duoMark) + 32
	for name, b := range map[string][]byte{
		"empty":         {},
		"cut":           state[:len(state)-1],
		"longer":        append(slices.Clone(state), 0),
		"flipped":       func() []byte { b := slices.Clone(state); b[at+20] ^= 1; return b }(),
		"longer, whole": sealed(func(b []byte) []byte { return append(b, make([]byte, 8)...) }),
		"mark":          sealed(func(b []byte) []byte { b[0]++; return b }),
		"steps":         sealed(func(b []byte) []byte { b[at] = 4; return b }),
		"many steps":    sealed(func(b []byte) []byte { b[at+7] = 0xff; return b }),
		"gates":         sealed(func(b []byte) []byte { b[at+8]++; return b }),
		"many gates":    sealed(func(b []byte) []byte { b[at+15] = 0x80; return b }),
		"nan":           sealed(func(b []byte) []byte { copy(b[at+16:], []byte{0, 0, 0, 0, 0, 0, 0xf8, 0x7f}); return b }),
		"gate of two":   sealed(func(b []byte) []byte { copy(b[at+16:], []byte{0, 0, 0, 0, 0, 0, 0, 0x40}); return b }),
		"changed heads": sealed(func(b []byte) []byte { b[len(b)-1] = 0x7f; return b }),
	} {
		if err := resume(b, opt, prompts); !errors.Is(err, errDuoState) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, change := range map[string]func(o *DuoOptions){
		"key": func(o *DuoOptions) { o.StateKey = "x" }, "seed": func(o *DuoOptions) { o.Seed++ }, "steps": func(o *DuoOptions) { o.Steps++ },
		"rate": func(o *DuoOptions) { o.LR = 0.1 }, "sink": func(o *DuoOptions) { o.Sink++ }, "share": func(o *DuoOptions) { o.Share = 0.1 },
	} {
		other := opt
		change(&other)
		if err := resume(state, other, prompts); !errors.Is(err, errDuoRun) {
			t.Errorf("another %s: %v", name, err)
		}
	}
	if err := resume(state, opt, prompts[:1]); !errors.Is(err, errDuoRun) {
		t.Errorf("other prompts: %v", err)
	}
	if err := resume(state, opt, prompts); err != nil {
		t.Errorf("the state itself: %v", err)
	}
}

func TestDuoRefusals(t *testing.T) {
	p, m := duoModel(t, 1)
	prompts := duoPrompts(p, 1)
	for name, opt := range map[string]DuoOptions{
		"recent": {Sink: 4}, "sink": {Sink: -1, Recent: 4}, "nothing hidden": {Sink: 90, Recent: 90}, "steps": {Recent: 4, Steps: -1},
		"huge": {Recent: 4, Steps: math.MaxInt}, "rate": {Recent: 4, LR: math.NaN()}, "negative rate": {Recent: 4, LR: -1},
		"weight": {Recent: 4, Reg: math.Inf(1)}, "share": {Recent: 4, Share: 2}, "rank": {Recent: 4, MinRank: 1.5},
		"every": {Recent: 4, Every: -1}, "question": {Recent: 4, Question: -1},
	} {
		if _, _, err := Duo(t.Context(), m, prompts, opt); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if _, _, err := Duo(t.Context(), m, nil, DuoOptions{Recent: 4}); err == nil {
		t.Error("no prompts: no error")
	}
	stop := errors.New("full")
	opt := DuoOptions{Sink: 2, Recent: 4, Steps: 2, SaveEvery: 1, Save: func([]byte) error { return stop }}
	if _, _, err := Duo(t.Context(), m, prompts, opt); !errors.Is(err, stop) {
		t.Errorf("save: %v", err)
	}
}

// TestDuoIsTheSame: gates do not depend on threads or on where states are kept.
func TestDuoIsTheSame(t *testing.T) {
	var want *Scores
	for i, threads := range []int{1, 2, 3} {
		p, m := duoModel(t, threads)
		opt := DuoOptions{Sink: 4, Recent: 16, Steps: 6}
		if i == 1 {
			opt.Dir, opt.MemLimit = t.TempDir(), 1
		}
		got, _, err := Duo(t.Context(), m, duoPrompts(p, 3), opt)
		if err != nil {
			t.Fatal(err)
		}
		if want == nil {
			want = got
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%d threads: %v, want %v", threads, got.KV, want.KV)
		}
	}
}
