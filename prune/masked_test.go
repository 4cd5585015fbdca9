package prune

import (
	"testing"

	"modelpress/formats"
	"modelpress/internal/arch"
	"modelpress/internal/device/cpu"
	"modelpress/internal/nn"
	"modelpress/internal/testmodel"
)

// maskedModel is the plain float64 meaning of a cut: the whole model, with weights multiplied in place and norms over some
// channels.
func maskedModel(t *testing.T, config []byte, src formats.Source, m *arch.Model, c *Cut) *testmodel.Reference {
	t.Helper()
	b := newTable(t, src)
	hidden := c.Hidden.factors(m.D)
	if m.Tied { // the head is not scaled
		config = edited(t, config, map[string]any{"tie_word_embeddings": false})
		b.values["lm_head.weight"], b.shapes["lm_head.weight"] = append([]float64(nil), b.values[m.Embed]...), b.shapes[m.Embed]
	}
	for _, name := range []string{m.Embed, m.PosEmbed} {
		for i := range b.values[name] {
			b.values[name][i] *= hidden[i%m.D]
		}
	}
	for l := range m.Layers {
		a, cl := &m.Layers[l], &c.Layers[l]
		if cl.Drop {
			cl = &CutLayer{Heads: Units{Keep: []int{}}, FFN: Units{Keep: []int{}}}
		}
		heads, ffn := cl.Heads.factors(a.G), cl.FFN.factors(a.F)
		query := make([]float64, a.H*a.K)
		for i := range query {
			query[i] = heads[i/a.K/(a.H/a.G)]
		}
		maskLinear(b, a.Linears[arch.O], query, hidden, float64(cl.scale()), cl.Drop || a.G > 0 && cl.Heads.count(a.G) == 0)
		maskLinear(b, a.Linears[arch.Down], ffn, hidden, float64(cl.scale()), cl.Drop || a.F > 0 && cl.FFN.count(a.F) == 0)
	}
	r, err := testmodel.NewReference(config, b)
	if err != nil {
		t.Fatal(err)
	}
	r.Channels = make([]bool, m.D)
	for i := range r.Channels {
		r.Channels[i] = c.Hidden.Keep == nil
	}
	for _, i := range c.Hidden.Keep {
		r.Channels[i] = true
	}
	return r
}

// maskLinear multiplies inputs and outputs of a projection; one that is gone adds nothing, not even its bias.
func maskLinear(b *table, lin arch.Linear, in, out []float64, scale float64, gone bool) {
	if !lin.Present() {
		return
	}
	if gone {
		scale = 0
	}
	w := b.values[lin.Weight]
	for o := range lin.Out {
		for i := range lin.In {
			at := o*lin.In + i
			if lin.Transposed {
				at = i*lin.Out + o
			}
			w[at] *= scale * out[o] * in[i]
		}
		if lin.Bias != "" {
			b.values[lin.Bias][o] *= scale * out[o]
		}
	}
}

// The smaller model computes what the masked one does, with and without scales, in every family: in float64 to rounding, and in the
// float32 of the forward pass.
func TestViewIsTheMaskedModel(t *testing.T) {
	for name, o := range models() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			src := spiced(o)
			m := describe(t, src.Config, src)
			ids := testmodel.Windows(1, 24, m.V, 5)[0]
			plain, err := testmodel.NewReference(src.Config, src)
			if err != nil {
				t.Fatal(err)
			}
			whole, err := plain.Logits(ids)
			if err != nil {
				t.Fatal(err)
			}
			for seed := range uint64(4) {
				c := randomCut(m, seed, seed%2 == 1)
				if seed == 3 { // the stream alone, and whole heads
					c = &Cut{Hidden: c.Hidden, Layers: make([]CutLayer, len(m.Layers))}
					if fused(m) {
						c.Hidden = Units{Scale: randomCut(m, 9, true).Hidden.Scale}
						for len(c.Hidden.Scale) < m.D {
							c.Hidden.Scale = append(c.Hidden.Scale, 2)
						}
					}
				}
				want, err := maskedModel(t, src.Config, src, m, c).Logits(ids)
				if err != nil {
					t.Fatal(err)
				}
				v, n, err := View(src, m, c)
				if err != nil {
					t.Fatal(err)
				}
				config := smallConfig(t, src.Config, n)
				describe(t, config, v)
				r, err := testmodel.NewReference(config, v)
				if err != nil {
					t.Fatal(err)
				}
				got, err := r.Logits(ids)
				if err != nil {
					t.Fatal(err)
				}
				if d := distance(t, got, want); !(d < 1e-9) {
					t.Errorf("cut %d: logits differ by %.3g in float64", seed, d)
				}
				if d := distance(t, got, whole); d < 1e-2 {
					t.Errorf("cut %d changes logits by %.3g only", seed, d)
				}
				fast, err := nn.New(cpu.New(1), v, n).Logits(ids)
				if err != nil {
					t.Fatal(err)
				}
				if d := distance(t, fast, want); !(d < 1e-4) {
					t.Errorf("cut %d: logits differ by %.3g in float32", seed, d)
				}
			}
		})
	}
}
