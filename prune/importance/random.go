package importance

import (
	"math/rand/v2"

	"modelpress/internal/arch"
	"modelpress/prune"
)

// Random scores units by numbers drawn uniformly from [0, 1), what every measure has to beat. The same seed gives the same scores, and
// those of a layer do not depend on the sizes of others.
func Random(m *arch.Model, seed uint64) *prune.Scores {
	draw := func(stream, n int) []float64 {
		rng, out := rand.New(rand.NewPCG(seed, uint64(stream))), make([]float64, n)
		for i := range out {
			out[i] = rng.Float64()
		}
		return out
	}
	s := &prune.Scores{Hidden: draw(0, m.D), Layers: make([]prune.LayerScores, len(m.Layers))}
	for l := range s.Layers {
		a, at := &m.Layers[l], 1+3*l
		s.Layers[l].Layer = draw(at, 1)[0]
		if a.HasAttention() {
			s.Layers[l].Heads = draw(at+1, a.G)
		}
		if a.HasFFN() {
			s.Layers[l].FFN = draw(at+2, a.F)
		}
	}
	return s
}
