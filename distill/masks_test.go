package distill

import (
	"math"
	"slices"

	"modelpress/internal/arch"
	"modelpress/internal/nn"
)

// testMasks are noisy gates on channels, heads and FFN units that learn by plain descent towards 0.9, as simple as masks can be.
type testMasks struct {
	arch  *arch.Model
	embed []float32
	gates []nn.Gates // values, without gradients
	noise float32
	kept  *nn.KeptChannels // instead of those that the masks leave

	drawn      [][]nn.Gates // by window
	drawnEmbed [][]float32
	grad       []float64 // by embed
	evaluating bool
}

func ones(n int) []float32 {
	x := make([]float32, n)
	for i := range x {
		x[i] = 1 + 0.1*float32(i%3)
	}
	return x
}

func newTestMasks(m *arch.Model) *testMasks {
	s := &testMasks{arch: m, embed: ones(m.D), noise: 0.1}
	for _, l := range m.Layers {
		s.gates = append(s.gates, nn.Gates{Hidden: ones(m.D), Heads: ones(l.G), FFN: ones(l.F)})
	}
	return s
}

// draw returns values with noise, a function of the key.
func (s *testMasks) draw(v []float32, key ...uint64) []float32 {
	out, rng := make([]float32, len(v)), newStream(key...)
	for i := range out {
		out[i] = v[i]
		if !s.evaluating {
			out[i] += s.noise * float32(rng.uniform(uint64(i))-0.5)
		}
	}
	return out
}

func (s *testMasks) Begin(step, windows int) error {
	s.evaluating = step == Evaluation
	s.drawn, s.drawnEmbed, s.grad = nil, nil, make([]float64, s.arch.D)
	for w := range windows {
		k := []uint64{uint64(step), uint64(w)}
		s.drawnEmbed = append(s.drawnEmbed, s.draw(s.embed, append(k, 9)...))
		var gates []nn.Gates
		for l, g := range s.gates {
			k := append(k, uint64(l))
			gates = append(gates, nn.Gates{Hidden: s.draw(g.Hidden, append(k, 1)...), Heads: s.draw(g.Heads, append(k, 2)...), FFN: s.draw(g.FFN, append(k, 3)...),
				GradHidden: make([]float64, len(g.Hidden)), GradHeads: make([]float64, len(g.Heads)), GradFFN: make([]float64, len(g.FFN))})
		}
		s.drawn = append(s.drawn, gates)
	}
	return nil
}

func (s *testMasks) Kept() *nn.KeptChannels {
	if s.kept != nil {
		return s.kept
	}
	sum := float32(0)
	for _, v := range s.embed {
		sum += min(v, 1)
	}
	return &nn.KeptChannels{Width: sum, Keep: slices.Clone(s.embed)}
}

func (s *testMasks) EmbedGate(w int) []float32 { return s.drawnEmbed[w] }
func (s *testMasks) Gates(l, w int) *nn.Gates  { return &s.drawn[w][l] }
func (s *testMasks) Report() []Measure         { return []Measure{{"first", float64(s.embed[0])}} }
func (s *testMasks) EmbedGrad(w int, x, g []float32) {
	for i := range x {
		s.grad[i%s.arch.D] += float64(x[i]) * float64(g[i])
	}
}

// each calls f with every group of values and the sum of its gradients over windows.
func (s *testMasks) each(f func(v []float32, g []float64)) {
	f(s.embed, s.grad)
	for l := range s.gates {
		g := &s.gates[l]
		for i, v := range [][]float32{g.Hidden, g.Heads, g.FFN} {
			sum := make([]float64, len(v))
			for w := range s.drawn {
				d := &s.drawn[w][l]
				for j, x := range [][]float64{d.GradHidden, d.GradHeads, d.GradFFN}[i] {
					sum[j] += x
				}
			}
			f(v, sum)
		}
	}
}

func (s *testMasks) End(int) (loss, norm float64, err error) {
	s.each(func(v []float32, g []float64) {
		for i := range v {
			d := float64(v[i]) - 0.9
			loss += 0.01 * d * d
			g[i] += 0.02 * d
			norm += g[i] * g[i]
			v[i] -= float32(0.1 * g[i])
		}
	})
	return loss, math.Sqrt(norm), nil
}

func (s *testMasks) Vectors() []Vector {
	out := []Vector{{Name: "embed", F32: s.embed}}
	for l, g := range s.gates {
		n := string(rune('a' + l))
		out = append(out, Vector{Name: n + "hidden", F32: g.Hidden}, Vector{Name: n + "heads", F32: g.Heads}, Vector{Name: n + "ffn", F32: g.FFN})
	}
	return out
}
