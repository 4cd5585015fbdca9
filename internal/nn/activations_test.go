package nn

import (
	"context"
	"math/rand/v2"
	"slices"
	"testing"

	"modelpress/internal/device"
	"modelpress/internal/device/cpu"
	"modelpress/internal/testmodel"
)

// keptRun is tryKeptRun where there is memory for it.
func keptRun(t *testing.T, m *Model, windows [][]int32, opt BackOptions, gates []Gates) [][]float32 {
	t.Helper()
	out, err := tryKeptRun(m, windows, opt, gates)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// tryKeptRun takes cross entropies of windows of uneven lengths back, and returns every gradient that there is.
func tryKeptRun(m *Model, windows [][]int32, opt BackOptions, gates []Gates) (out [][]float32, err error) {
	var grads []*BlockGrads
	for l := range m.Arch.Layers {
		g, err := m.NewBlockGrads(l)
		if err != nil {
			return nil, err
		}
		grads = append(grads, g)
	}
	opt.Grads = func(l int) *BlockGrads { return grads[l] }
	if gates != nil {
		for l := range gates {
			clear(gates[l].GradHidden)
			clear(gates[l].GradHeads)
			clear(gates[l].GradFFN)
		}
		opt.Gates = func(l, _ int) *Gates { return &gates[l] }
	}
	opt.Grad = func(_, _ int, g []float32) error { out = append(out, slices.Clone(g)); return nil }
	d := m.Arch.D
	err = m.Back(context.Background(), windows, opt, func(w int, hidden, grad []float32) error {
		out = append(out, slices.Clone(hidden))
		_, err := m.HeadBack(grad[:len(hidden)-d], hidden, windows[w][1:], 8)
		return err
	})
	if err != nil {
		return nil, err
	}
	for _, g := range grads {
		for _, b := range g.all() {
			if b != nil {
				v := make([]float32, b.Len())
				m.Dev.Download(v, b, 0)
				out = append(out, v)
			}
		}
		g.Free()
	}
	for _, g := range gates {
		for _, v := range [][]float64{g.GradHidden, g.GradHeads, g.GradFFN} {
			out = append(out, floats(v))
		}
	}
	return out, nil
}

// TestKeptActivationsChangeNoBit: how much is kept decides what is computed again, not what comes out, also where the FFN takes its
// rows in parts and after windows of other lengths.
func TestKeptActivationsChangeNoBit(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for _, c := range gradModels() {
		t.Run(c.Name, func(t *testing.T) {
			o := c.Options
			o.Context = 2 * ffnRows
			m := describe(t, testmodel.New(o), cpu.New(2))
			short := testmodel.Windows(2, 5, o.V, 6)
			windows := append(testmodel.Windows(1, ffnRows+5, o.V, 5), short...)
			var gates []Gates
			for _, a := range newGateSet(m.Arch, rng).gateLayers() {
				gates = append(gates, *a)
			}
			one := m.activationBytes(0, len(windows[0]), false, true)
			for _, g := range [][]Gates{nil, gates} {
				want := keptRun(t, m, windows, BackOptions{}, g)
				for _, keep := range []int64{1, one / 3, one + one/2, 1 << 40} {
					got := keptRun(t, m, windows, BackOptions{Keep: keep}, g)
					same(t, want, got)
					same(t, keptRun(t, m, short, BackOptions{}, g), keptRun(t, m, short, BackOptions{Keep: keep}, g))
				}
			}
		})
	}
}

func (s *gateSet) gateLayers() (out []*Gates) {
	for l := range s.layers {
		out = append(out, s.gates(l))
	}
	return out
}

// TestKeptMix is the same under the second attention of a Mix.
func TestKeptMix(t *testing.T) {
	m := describe(t, testmodel.New(gradModels()[1].Options), cpu.New(1))
	windows := testmodel.Windows(3, 6, m.Arch.V, 5)
	x := &Mix{Masks: []device.Mask{{Sink: 1, Recent: 2}, {}}, Alpha: []float32{0.25, 0.75}}
	opt := BackOptions{Mix: func(int) *Mix { return x }}
	want := keptRun(t, m, windows, opt, nil)
	opt.Keep = 1 << 30
	same(t, want, keptRun(t, m, windows, opt, nil))
}

// TestActivationBytes: what is held is what the formula says.
func TestActivationBytes(t *testing.T) {
	for _, c := range gradModels() {
		m := describe(t, testmodel.New(c.Options), cpu.New(1))
		windows := testmodel.Windows(1, 6, m.Arch.V, 5)
		keptRun(t, m, windows, BackOptions{Keep: 1 << 30}, nil)
		for l := range m.Arch.Layers {
			k, held := m.scratch.store.of(l, 0), int64(0)
			for _, b := range append(k.attn, buffersOf(k.ffn)...) {
				if b != nil {
					held += 4 * int64(b.Len())
				}
			}
			held += bytesOf(k.mid)
			want := m.activationBytes(l, 6, false, false)
			if held != want {
				t.Errorf("%s, layer %d: %d bytes held, %d counted", c.Name, l, held, want)
			}
		}
	}
}

func buffersOf(pairs [][2]device.Buf) (out []device.Buf) {
	for _, p := range pairs {
		out = append(out, p[:]...)
	}
	return out
}

func same(t *testing.T, want, got [][]float32) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%d results, want %d", len(got), len(want))
	}
	for i := range want {
		if !slices.Equal(want[i], got[i]) {
			t.Fatalf("result %d differs", i)
		}
	}
}
