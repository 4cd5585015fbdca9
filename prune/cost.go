package prune

import (
	"fmt"

	"modelpress/internal/arch"
)

// MaxLength bounds the tokens of context that costs are counted for.
const MaxLength = 1 << 24

// Cost is what a model takes.
type Cost struct {
	Params  int64 // values of all stored tensors; a tied head counts once
	FLOPs   int64 // of one token's forward pass, on average over a context
	KVBytes int64 // of one token in the KV cache, at 2 bytes a value
}

// Count returns the cost of a model at a context of length tokens, 0 to [MaxLength]; other lengths panic. A matrix takes 2
// operations a weight, the output head included, a table none. Attention takes 4·H·K for each key that a query sees, which is
// length/2 of them on average, and w - w²/(2·length) under a sliding window of w < length. Norms and activations are left out.
func Count(m *arch.Model, length int) Cost {
	c := Cost{Params: m.NumParameters(), KVBytes: m.KVBytesPerToken(2), FLOPs: 2 * int64(m.V) * int64(m.D)}
	for l := range m.Layers {
		a := &m.Layers[l]
		for _, lin := range a.Linears {
			c.FLOPs += 2 * int64(lin.In) * int64(lin.Out)
		}
		c.FLOPs += 2 * int64(a.H) * int64(a.K) * twiceSeen(length, a.Window)
	}
	return c
}

// twiceSeen is twice the number of keys that a query sees on average, rounded down.
func twiceSeen(length, window int) int64 {
	if length < 0 || length > MaxLength {
		panic(fmt.Sprintf("prune: costs at a context of %d tokens", length))
	}
	n, w := int64(length), int64(window)
	if w == 0 || w >= n {
		return n
	}
	return (2*w*n - w*w) / n
}

// terms are the coefficients of one of a layer's costs: with D channels of the stream, g KV heads and f FFN channels, and there(x) =
// min(1, x) for what a sub-layer has whatever its size,
//
//	gd·g·D + g1·g + ad·there(g)·D + a1·there(g) + fd·f·D + f1·f + bd·there(f)·D
type terms struct{ gd, g1, ad, a1, fd, f1, bd float64 }

// modelTerms are the coefficients of one cost of a model: top·D for what lies outside layers, and those of each layer.
type modelTerms struct {
	top    float64
	layers []terms
}

// paramTerms count the values of tensors.
func paramTerms(m *arch.Model) modelTerms {
	norm := func(n arch.Norm) float64 { return one(n.Weight != "") + one(n.Bias != "") }
	t := modelTerms{top: float64(m.V) + norm(m.FinalNorm) + float64(m.V)*one(!m.Tied) + float64(m.MaxPosition)*one(m.PosEmbed != "")}
	for l := range m.Layers {
		a := &m.Layers[l]
		c := matrixTerms(a)
		bias := func(r arch.Role) float64 { return one(a.Linears[r].Bias != "") }
		if a.HasAttention() {
			k := float64(a.K)
			c.g1 = k * (float64(a.H/a.G)*bias(arch.Q) + bias(arch.K) + bias(arch.V))
			c.ad = norm(a.AttnNorm) + bias(arch.O)
			c.a1 = k * (norm(a.QNorm) + norm(a.KNorm))
		}
		c.f1 = bias(arch.Gate) + bias(arch.Up)
		c.bd = norm(a.FFNNorm) + bias(arch.Down)
		t.layers = append(t.layers, c)
	}
	return t
}

// flopTerms count the operations of [Count].
func flopTerms(m *arch.Model, length int) modelTerms {
	t := modelTerms{top: 2 * float64(m.V)}
	for l := range m.Layers {
		a := &m.Layers[l]
		c := matrixTerms(a)
		c.gd, c.fd = 2*c.gd, 2*c.fd
		if a.HasAttention() {
			c.g1 = 2 * float64(a.H/a.G) * float64(a.K) * float64(twiceSeen(length, a.Window))
		}
		t.layers = append(t.layers, c)
	}
	return t
}

// kvTerms count the bytes of the cache.
func kvTerms(m *arch.Model) modelTerms {
	t := modelTerms{layers: make([]terms, len(m.Layers))}
	for l := range m.Layers {
		t.layers[l].g1 = 4 * float64(m.Layers[l].K)
	}
	return t
}

// matrixTerms count the weights of a layer's matrices.
func matrixTerms(a *arch.Layer) terms {
	var c terms
	if a.HasAttention() {
		c.gd = float64(a.K) * float64(2*(a.H/a.G)+2)
	}
	for _, r := range []arch.Role{arch.Gate, arch.Up, arch.Down} {
		c.fd += one(a.Linears[r].Present())
	}
	return c
}

func one(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}
