package importance

import (
	"context"
	"math"

	"modelpress/calib"
	"modelpress/internal/arch"
	"modelpress/internal/nn"
	"modelpress/prune"
)

// ActivationOptions refine [Activations].
type ActivationOptions struct {
	Options
	Batch    Aggregation // over windows; "" for L2
	Sequence Aggregation // over the tokens of a window; "" for Mean
}

// Activations scores units by what they put out, as Minitron does (Muralidharan et al., arXiv:2407.14679, section 2.2). A hook
// aggregates each channel of an activation over the tokens of a window and then over windows, by default
//
//	s = sqrt(Σ_windows (mean_tokens |a|)²).
//
// An FFN channel has the s of the input of the down projection. A KV head, which goes with the query heads that read it, has the root
// of the sum of s² over their channels at the input of the output projection. A channel of the stream has the sum of its s over the
// outputs of all norms of all layers. A layer has its block influence, from the same pass ([BlockInfluence]).
//
// The scores of heads and FFN channels are of one layer and not to be compared with those of others, whose activations are of another
// size. Variance over a single window is 0 everywhere.
//
// The model runs forward once. Memory is that of [nn.Model.Run] with taps, 4*T*D bytes for the longest window, and
// 24*(2D + H*K + F) bytes for the largest layer; the scores are 8 bytes a unit.
func Activations(ctx context.Context, m *nn.Model, w calib.Windows, opt ActivationOptions) (*prune.Scores, error) {
	batch, err := opt.Batch.or(L2)
	if err != nil {
		return nil, err
	}
	sequence, err := opt.Sequence.or(Mean)
	if err != nil {
		return nil, err
	}
	s := empty(m)
	err = opt.forward(ctx, m, w, func(l int) layerTap {
		return newActivations(m, s, l, batch, sequence)
	})
	if err == nil {
		err = finite(s)
	}
	if err != nil {
		return nil, err
	}
	return s, nil
}

// activations is the tap of [Activations].
type activations struct {
	influence
	hooks [arch.NumSites]*hook // nil where the layer lacks the site
	a     *arch.Layer
	s     *prune.Scores
	layer *prune.LayerScores
}

func newActivations(m *nn.Model, s *prune.Scores, l int, batch, sequence Aggregation) *activations {
	t := &activations{a: &m.Arch.Layers[l], s: s, layer: &s.Layers[l]}
	t.influence = influence{dst: &t.layer.Layer, dev: m.Dev.For, d: m.Arch.D}
	for _, site := range t.a.Sites() {
		t.hooks[site] = newHook(batch, sequence, t.a.Width(site))
	}
	return t
}

func (t *activations) pass() *nn.Pass {
	return &nn.Pass{Tap: func(s nn.Site, x []float32, rows, _ int) { t.hooks[s].add(x, rows, t.dev) }}
}

func (t *activations) done() {
	t.influence.done()
	for site, h := range t.hooks {
		if h == nil {
			continue
		}
		switch v := h.scores(); nn.Site(site) {
		case nn.SiteO:
			headNorms(t.layer.Heads, v)
		case nn.SiteDown:
			copy(t.layer.FFN, v)
		default:
			for c, x := range v {
				t.s.Hidden[c] += x
			}
		}
	}
}

// headNorms writes the norm of the channels of each KV head, those of the query heads that read it, which stand side by side.
func headNorms(dst, channels []float64) {
	n := len(channels) / len(dst)
	for g := range dst {
		sum := 0.0
		for _, v := range channels[g*n : (g+1)*n] {
			sum += float64(v * v)
		}
		dst[g] = math.Sqrt(sum)
	}
}
