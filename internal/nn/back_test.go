package nn

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"modelpress/internal/device"
	"modelpress/internal/device/cpu"
	"modelpress/internal/testmodel"
)

const (
	backWindow = 19
	difference = 1e-5 // half the distance of central differences
)

// backCase is a loss Σ c·hidden over one window, its slopes by the package and an oracle to take differences with.
type backCase struct {
	t    *testing.T
	m    *Model
	o    *oracle
	ids  []int32
	c    []float64
	rng  *rand.Rand
	grad [][]float64 // by the input of each layer
	dout [][]float64 // by the output of attention of each layer
	gate [][]float64 // by the gates of each layer
	in   [][]float64 // the oracle's input of each layer
	opt  BackOptions
}

func newBackCase(t *testing.T, src *testmodel.Model, dev device.Device) *backCase {
	m := describe(t, src, dev)
	b := &backCase{t: t, m: m, o: &oracle{t: t, src: src, m: m.Arch}, ids: testmodel.Windows(1, backWindow, m.Arch.V, 5)[0],
		rng: rand.New(rand.NewPCG(1, 2)), c: make([]float64, backWindow*m.Arch.D)}
	for i := range b.c {
		b.c[i] = float64(float32(b.rng.NormFloat64()))
	}
	return b
}

// loss is the oracle's loss from an input of layer l on.
func (b *backCase) loss(x []float64, l int) float64 {
	x = slices.Clone(x)
	b.o.blocks(x, backWindow, l)
	s := 0.0
	for i, v := range x {
		s += b.c[i] * v
	}
	return s
}

// run takes the loss back through the package, and through the oracle forth.
func (b *backCase) run() {
	layers := len(b.m.Arch.Layers)
	b.grad, b.dout, b.gate, b.in = make([][]float64, layers), make([][]float64, layers), make([][]float64, layers), make([][]float64, layers)
	b.opt.Grad = func(l, _ int, g []float32) error { b.grad[l] = doubles(g); return nil }
	b.opt.Tap = func(l, _ int, g *AttnGradState) error {
		g.ReadDOut()
		b.dout[l], b.gate[l] = doubles(g.DOut), g.DAlpha
		return nil
	}
	err := b.m.Back(b.t.Context(), [][]int32{b.ids}, b.opt, func(_ int, _, grad []float32) error {
		for i := range grad {
			grad[i] += float32(b.c[i])
		}
		return nil
	})
	if err != nil {
		b.t.Fatal(err)
	}
	x := b.o.embed(b.ids)
	layersOf := b.m.Arch.Layers
	for l := range layersOf {
		b.in[l] = slices.Clone(x)
		b.m.Arch.Layers = layersOf[:l+1]
		b.o.blocks(x, backWindow, l)
	}
	b.m.Arch.Layers = layersOf
}

func doubles(x []float32) []float64 {
	out := make([]float64, len(x))
	for i, v := range x {
		out[i] = float64(v)
	}
	return out
}

// along compares the slope g·u along random directions u, and along axes, with central differences of f.
func (b *backCase) along(what string, l int, g []float64, f func(u []float64, h float64) float64) {
	b.t.Helper()
	size := 0.0
	for _, v := range g {
		size += v * v
	}
	size = math.Sqrt(size)
	if size == 0 {
		b.t.Errorf("%s of layer %d is zero", what, l)
	}
	for try := range 5 {
		u, slope, norm := make([]float64, len(g)), 0.0, 0.0
		if try < 3 {
			for i := range u {
				u[i] = b.rng.NormFloat64()
			}
		} else {
			u[b.rng.IntN(len(u))] = 1
		}
		for i, v := range u {
			slope += v * g[i]
			norm += v * v
		}
		want := (f(u, difference) - f(u, -difference)) / (2 * difference)
		// A random direction meets about size*norm/sqrt(n) of the gradient.
		tol := 1e-4 * size * math.Sqrt(norm) / math.Sqrt(float64(len(g)))
		if !(math.Abs(slope-want) <= tol+1e-4*math.Abs(want)) {
			b.t.Errorf("%s of layer %d, direction %d: slope %g, difference %g (tolerance %g)", what, l, try, slope, want, tol)
		}
	}
}

// check compares all gradients with differences.
func (b *backCase) check() {
	b.t.Helper()
	for l, a := range b.m.Arch.Layers {
		b.along("input", l, b.grad[l], func(u []float64, h float64) float64 {
			x := slices.Clone(b.in[l])
			for i := range x {
				x[i] += h * u[i]
			}
			return b.loss(x, l)
		})
		if !a.HasAttention() {
			if b.dout[l] != nil {
				b.t.Errorf("layer %d has no attention and a tap", l)
			}
			continue
		}
		b.along("output of attention", l, b.dout[l], func(u []float64, h float64) float64 {
			b.o.nudge = func(layer int, s Site, v []float64) {
				for i := range v {
					if layer == l && s == SiteO {
						v[i] += h * u[i]
					}
				}
			}
			defer func() { b.o.nudge = nil }()
			return b.loss(b.in[l], l)
		})
		if b.opt.Mix == nil {
			continue
		}
		b.along("gates", l, b.gate[l], func(u []float64, h float64) float64 {
			old := slices.Clone(b.o.alpha[l])
			defer func() { b.o.alpha[l] = old }()
			b.o.alpha[l] = slices.Clone(old)
			for i := range old {
				b.o.alpha[l][i] += h * u[i]
			}
			return b.loss(b.in[l], l)
		})
	}
}

// TestBackIsTheSlope: gradients by the input of every layer and the output of every attention are what central
// differences of a float64 forward pass give, for every family.
func TestBackIsTheSlope(t *testing.T) {
	for _, c := range testmodel.Cases() {
		t.Run(c.Name, func(t *testing.T) {
			b := newBackCase(t, testmodel.New(c.Options), cpu.New(2))
			b.run()
			b.check()
		})
	}
	t.Run("remote", func(t *testing.T) { // memory that the host cannot address
		b := newBackCase(t, testmodel.Named("qwen3"), remote{cpu.New(2)})
		b.run()
		b.check()
	})
}

// TestBackUnderMasksAndGates: the same under masks, and with every head a blend of two attentions.
func TestBackUnderMasksAndGates(t *testing.T) {
	for _, name := range []string{"llama-gqa", "qwen3", "gpt2", "mistral-swa", "llama-pruned"} {
		for _, mixed := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				b := newBackCase(t, testmodel.Named(name), cpu.New(2))
				masks := func(first device.Mask) func(l int) []device.Mask {
					return func(l int) []device.Mask {
						m := make([]device.Mask, b.m.Arch.Layers[l].G)
						for g := range m {
							m[g] = device.Mask{Sink: 2, Recent: 3 + g}
						}
						if len(m) > 0 {
							m[0] = first
						}
						return m
					}
				}
				if !mixed {
					b.opt.Masks, b.o.masks = masks(device.Mask{Recent: 9}), masks(device.Mask{Recent: 9})
				} else {
					b.gates(masks(device.Mask{Sink: 1, Recent: 4}))
				}
				b.run()
				b.check()
			})
		}
	}
}

// gates sets a blend with random gates.
func (b *backCase) gates(other func(l int) []device.Mask) {
	alpha := make([][]float32, len(b.m.Arch.Layers))
	b.o.other, b.o.alpha = other, make([][]float64, len(alpha))
	for l, a := range b.m.Arch.Layers {
		for range a.G {
			alpha[l] = append(alpha[l], b.rng.Float32())
		}
		b.o.alpha[l] = doubles(alpha[l])
	}
	b.opt.Mix = func(l int) *Mix { return &Mix{Masks: other(l), Alpha: alpha[l]} }
}

// TestMixAtTheEnds: gates of one give the block under its own masks bit for bit, gates of zero that under the others.
func TestMixAtTheEnds(t *testing.T) {
	m := describe(t, testmodel.Named("llama-gqa"), cpu.New(2))
	other := []device.Mask{{Sink: 1, Recent: 3}, {Recent: 2}}
	forward := func(p *Pass) []float32 {
		x := make([]float32, 20*m.Arch.D)
		if err := m.Embed(x, testmodel.Windows(1, 20, m.Arch.V, 5)[0]); err != nil {
			t.Fatal(err)
		}
		b, err := m.LoadBlock(0)
		if err != nil {
			t.Fatal(err)
		}
		defer b.Free()
		if err := b.Forward(x, 20, p); err != nil {
			t.Fatal(err)
		}
		return x
	}
	for i, alpha := range [][]float32{{1, 1}, {0, 0}, {1, 0}} {
		masks := [][]device.Mask{nil, other, {{}, other[1]}}[i]
		want, got := forward(&Pass{Masks: masks}), forward(&Pass{Mix: &Mix{Masks: other, Alpha: alpha}})
		if d := maxDiff(t, got, want); d != 0 {
			t.Errorf("gates %v: differs by %g", alpha, d)
		}
	}
}

// TestBackIsTheSame: bits do not depend on threads, on where states are kept, or on the other windows.
func TestBackIsTheSame(t *testing.T) {
	src := testmodel.Named("qwen3")
	run := func(threads int, windows [][]int32, opt BackOptions) [][]float32 {
		m := describe(t, src, cpu.New(threads))
		out := make([][]float32, len(windows))
		opt.Grad = func(l, w int, g []float32) error {
			out[w] = append(out[w], g...)
			return nil
		}
		err := m.Back(t.Context(), windows, opt, func(_ int, hidden, grad []float32) error {
			copy(grad, hidden)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	windows := append(testmodel.Windows(2, 150, 256, 1), testmodel.Windows(1, 70, 256, 2)...)
	want := run(1, windows, BackOptions{})
	done := 0
	for i, got := range [][][]float32{
		run(3, windows, BackOptions{}),
		run(2, windows, BackOptions{Dir: t.TempDir(), MemLimit: 1, Progress: func(d, total int) {
			if done++; d != done || total != 12 {
				t.Errorf("progress %d of %d", d, total)
			}
		}}),
		append(run(2, windows[:1], BackOptions{}), run(2, windows[1:], BackOptions{})...),
	} {
		for w := range want {
			if d := maxDiff(t, got[w], want[w]); d != 0 {
				t.Errorf("run %d, window %d: differs by %g", i, w, d)
			}
		}
	}
}

// TestBackEnds: errors of callbacks and of the context end the pass, and without Grad layer 0 ends at its tap.
func TestBackEnds(t *testing.T) {
	m := describe(t, testmodel.Named("llama-gqa"), cpu.New(1))
	windows := testmodel.Windows(2, 9, 256, 1)
	stop := errors.New("stop")
	nothing := func(int, []float32, []float32) error { return nil }
	for name, opt := range map[string]BackOptions{
		"tap":  {Tap: func(l, w int, _ *AttnGradState) error { return stop }},
		"grad": {Grad: func(l, w int, _ []float32) error { return stop }},
	} {
		if err := m.Back(t.Context(), windows, opt, nothing); !errors.Is(err, stop) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := m.Back(t.Context(), windows, BackOptions{}, func(int, []float32, []float32) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("loss: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	taps := 0
	err := m.Back(ctx, windows, BackOptions{Tap: func(l, w int, _ *AttnGradState) error {
		taps++
		cancel()
		return nil
	}}, nothing)
	if !errors.Is(err, context.Canceled) || taps != 1 {
		t.Errorf("cancelled: %v after %d taps", err, taps)
	}
	taps = 0
	if err := m.Back(t.Context(), windows, BackOptions{Tap: func(int, int, *AttnGradState) error { taps++; return nil }}, nothing); err != nil || taps != 4 {
		t.Errorf("%d taps, %v", taps, err)
	}
	if err := m.Back(t.Context(), [][]int32{{}}, BackOptions{}, nothing); err == nil {
		t.Error("an empty window is accepted")
	}
}

// TestHeadBack: cross entropy and its slope through output projection and final norm against differences.
func TestHeadBack(t *testing.T) {
	for _, name := range []string{"llama-gqa", "qwen2-tied", "gpt2"} {
		src := testmodel.Named(name)
		for _, dev := range []device.Device{cpu.New(2), remote{cpu.New(1)}} {
			b := newBackCase(t, src, dev)
			const n = 7
			d := b.m.Arch.D
			x := make([]float32, n*d)
			for i := range x {
				x[i] = float32(b.rng.NormFloat64())
			}
			targets := testmodel.Windows(1, n, b.m.Arch.V, 3)[0]
			entropy := func(x []float64) float64 {
				logits, sum := b.o.head(x, n), 0.0
				for i, id := range targets {
					row, total := logits[i*b.m.Arch.V:(i+1)*b.m.Arch.V], 0.0
					for _, v := range row {
						total += math.Exp(v)
					}
					sum += math.Log(total) - row[id]
				}
				return sum
			}
			grad := make([]float32, n*d)
			loss, err := b.m.HeadBack(grad, x, targets, 3)
			if err != nil {
				t.Fatal(err)
			}
			if want := entropy(doubles(x)); math.Abs(loss-want) > 1e-5*want {
				t.Errorf("%s: cross entropy %g, want %g", name, loss, want)
			}
			b.along(name+", head", 0, doubles(grad), func(u []float64, h float64) float64 {
				at := doubles(x)
				for i := range at {
					at[i] += h * u[i]
				}
				return entropy(at)
			})
			whole := slices.Clone(x)
			if again, err := b.m.HeadBack(whole, whole, targets, 100); err != nil || again != loss || maxDiff(t, whole, grad) != 0 {
				t.Errorf("%s: in place and in one piece %g, want %g, %v", name, again, loss, err)
			}
			if alone, err := b.m.HeadBack(nil, x, targets, 2); err != nil || alone != loss {
				t.Errorf("%s: without gradient %g, want %g, %v", name, alone, loss, err)
			}
			for _, bad := range []int32{-1, int32(b.m.Arch.V)} {
				if _, err := b.m.HeadBack(nil, x, []int32{0, bad}, 2); err == nil {
					t.Errorf("target %d is accepted", bad)
				}
			}
			x[3] = float32(math.Inf(1))
			if _, err := b.m.HeadBack(nil, x, targets, 2); err == nil {
				t.Errorf("%s: a loss that is not finite is accepted", name)
			}
		}
	}
}

// TestFinalNorm: the final norm is the oracle's and its way back the slope, over more rows than go at once.
func TestFinalNorm(t *testing.T) {
	for _, name := range []string{"llama-gqa", "gpt2"} {
		b := newBackCase(t, testmodel.Named(name), cpu.New(2))
		const n = normRows + 5
		d := b.m.Arch.D
		x, g := make([]float32, n*d), make([]float32, n*d)
		for i := range x {
			x[i], g[i] = float32(b.rng.NormFloat64()), float32(b.rng.NormFloat64())
		}
		y := make([]float32, n*d)
		if err := b.m.FinalNorm(y, x, n); err != nil {
			t.Fatal(err)
		}
		norm := func(x []float64) []float64 { return b.o.norm(b.m.Arch.FinalNorm, x, d) }
		if far := far(t, y, norm(doubles(x))); far > 1e-5 {
			t.Errorf("%s: differs by up to %g", name, far)
		}
		c := doubles(g)
		if err := b.m.FinalNormBack(g, x, n); err != nil {
			t.Fatal(err)
		}
		b.along(name+", final norm", 0, doubles(g), func(u []float64, h float64) float64 {
			at, s := doubles(x), 0.0
			for i := range at {
				at[i] += h * u[i]
			}
			for i, v := range norm(at) {
				s += c[i] * v
			}
			return s
		})
		b.m.Release()
		if err := b.m.FinalNorm(x, x, n); err != nil || maxDiff(t, x, y) != 0 {
			t.Errorf("%s: after Release and in place: %v", name, err)
		}
	}
}

// TestBackSteadyMemory: backward passes of a size seen before take no buffer from the device.
func TestBackSteadyMemory(t *testing.T) {
	dev := &counted{Device: cpu.New(2)}
	m := describe(t, testmodel.Named("qwen3"), dev)
	b, err := m.LoadBlock(0)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Free()
	x, dy := make([]float32, 64*m.Arch.D), make([]float32, 64*m.Arch.D)
	mix := &Mix{Masks: []device.Mask{{Recent: 4}, {}}, Alpha: []float32{0.5, 0.5}}
	first := 0
	for i, n := range []int{64, 64, 10, 64} {
		if err := b.Backward(x, dy, n, &BackPass{Mix: mix, Tap: func(*AttnGradState) error { return nil }}); err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			first = dev.allocs
		}
	}
	if dev.allocs != first {
		t.Errorf("%d buffers after the first pass, %d at the end", first, dev.allocs)
	}
	m.Release()
	if err := b.Backward(x, dy, 64, nil); err != nil || dev.allocs <= first {
		t.Errorf("after Release: %d buffers, %v", dev.allocs, err)
	}
}
