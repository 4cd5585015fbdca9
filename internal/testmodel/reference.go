package testmodel

import (
	"fmt"
	"slices"

	"modelpress/formats"
)

// Reference is the forward pass of a checkpoint as the stock Hugging Face classes define it, in plain float64 loops:
// LlamaForCausalLM, MistralForCausalLM, Qwen2ForCausalLM, Qwen3ForCausalLM and GPT2LMHeadModel, with eager attention
// (transformers 4.47, models/*/modeling_*.py). It is a second implementation for tests to compare with. It reads the
// configuration and names the tensors by itself and has nothing in common with internal/arch and internal/nn.
//
// Of per_layer_config it knows the numbers of heads, the width of the FFN, and sub-layers that are left out.
//
// Weights are held in float64, 8 bytes a parameter. A pass takes at most 8*(T*(3D + (2H+3G)K) + T) bytes more inside
// attention, 8*T*(3D + 2F) in the FFN, and 8*T*(2D + V) at the head; no T×T matrix is made. Reading a tensor takes 4 MiB, or
// another 8 bytes an element for GPT-2's transposed ones.
//
// Logits may be called concurrently where the hooks may.
type Reference struct {
	// Heads, where set, sees the heads of a layer after biases and q/k norms, before the rotary embedding: q [T, H*K],
	// k and v [T, G*K]. What it returns is used in their place; it may change and return what it was given. The number
	// of KV heads that attention reads is then len(k2)/(T*K), which must divide H.
	Heads func(layer int, q, k, v []float64, t int) (q2, k2, v2 []float64)
	// Out, where set, sees the output of attention before the output projection, [T, H*K]. What it returns, of the same
	// size, is used in its place.
	Out func(layer int, o []float64, t int) []float64
	// Channels, where set, [D], are the channels over which norms of the residual stream are taken; the others are as good as
	// absent, and come out of a norm as 0.
	Channels []bool

	config    *referenceConfig
	embed     []float64 // [V, D]
	positions []float64 // [MaxPosition, D], nil where positions are rotary
	layers    []referenceLayer
	final     referenceNorm
	head      referenceLinear
}

// referenceLayer is one decoder block.
type referenceLayer struct {
	h, g              int // query heads, 0 where the layer does not attend, and KV heads
	window            int // how far back a query sees, its own position included, 0 for all
	attnNorm, ffnNorm referenceNorm
	qNorm, kNorm      *referenceNorm // nil but in Qwen3
	q, k, v, o        referenceLinear
	gate              *referenceLinear // nil in GPT-2
	up, down          referenceLinear  // none where the layer has no FFN
}

// NewReference reads a model: config holds the bytes of config.json, src the tensors, of type F64, F32, BF16 or F16. It fails
// on a class or setting that it does not compute, and on a tensor that is missing or has another shape or type.
func NewReference(config []byte, src formats.Source) (*Reference, error) {
	c, err := parseReferenceConfig(config)
	if err != nil {
		return nil, fmt.Errorf("testmodel: reference: config.json: %w", err)
	}
	r := &Reference{config: c}
	if err := r.load(src); err != nil {
		return nil, fmt.Errorf("testmodel: reference: %w", err)
	}
	return r, nil
}

// Logits returns what the model predicts after each of the ids, [T, V]. It fails on ids outside the vocabulary, on more ids
// than there are learned positions, and on hooks that return wrong sizes.
func (r *Reference) Logits(ids []int32) ([]float64, error) {
	x, err := r.embedded(ids)
	if err != nil {
		return nil, fmt.Errorf("testmodel: reference: %w", err)
	}
	t := len(ids)
	if r.Channels != nil && len(r.Channels) != r.config.D {
		return nil, fmt.Errorf("testmodel: reference: %d channels where the width is %d", len(r.Channels), r.config.D)
	}
	for l := range r.layers {
		if err := r.attention(l, x, t); err != nil {
			return nil, fmt.Errorf("testmodel: reference: layer %d: %w", l, err)
		}
		r.feedForward(l, x, t)
	}
	return r.head.apply(r.final.over(x, r.config.Eps, r.Channels), t), nil
}

// embedded returns the input of the first block, [T, D].
func (r *Reference) embedded(ids []int32) ([]float64, error) {
	d, v := r.config.D, r.config.V
	if len(ids) == 0 {
		return nil, fmt.Errorf("no ids")
	}
	if r.positions != nil && len(ids)*d > len(r.positions) {
		return nil, fmt.Errorf("%d ids where there are %d positions", len(ids), len(r.positions)/d)
	}
	x := make([]float64, 0, len(ids)*d)
	for _, id := range ids {
		if id < 0 || int(id) >= v {
			return nil, fmt.Errorf("id %d outside a vocabulary of %d", id, v)
		}
		x = append(x, r.embed[int(id)*d:(int(id)+1)*d]...)
	}
	if r.positions != nil {
		add(x, r.positions[:len(x)])
	}
	return x, nil
}

// attention adds the attention sub-layer to x [T, D].
func (r *Reference) attention(l int, x []float64, t int) error {
	a, c := &r.layers[l], r.config
	if a.h == 0 {
		return nil
	}
	n := a.attnNorm.over(x, c.Eps, r.Channels)
	q, k, v := a.q.apply(n, t), a.k.apply(n, t), a.v.apply(n, t)
	if a.qNorm != nil {
		q, k = a.qNorm.apply(q, c.Eps), a.kNorm.apply(k, c.Eps)
	}
	s := attentionShape{t: t, h: a.h, g: a.g, k: c.K, window: a.window}
	if r.Heads != nil {
		q, k, v = r.Heads(l, q, k, v, t)
		if err := s.regroup(q, k, v); err != nil {
			return err
		}
		q, k = slices.Clone(q), slices.Clone(k) // what is rotated below may be a slice that the hook keeps
	}
	if c.Rope != nil {
		inv, factor := c.Rope.frequencies(c.K, t)
		rotate(q, inv, factor, t, s.h)
		rotate(k, inv, factor, t, s.g)
	}
	o := s.attend(q, k, v)
	if r.Out != nil {
		if o = r.Out(l, o, t); len(o) != t*s.h*s.k {
			return fmt.Errorf("hook Out returned %d values where %d are needed", len(o), t*s.h*s.k)
		}
	}
	add(x, a.o.apply(o, t))
	return nil
}

// feedForward adds the feed-forward sub-layer to x [T, D].
func (r *Reference) feedForward(l int, x []float64, t int) {
	a := &r.layers[l]
	if a.down.w == nil {
		return
	}
	n := a.ffnNorm.over(x, r.config.Eps, r.Channels)
	up := a.up.apply(n, t)
	if a.gate == nil {
		for i, u := range up {
			up[i] = r.config.Activation(u)
		}
	} else {
		for i, g := range a.gate.apply(n, t) {
			up[i] *= r.config.Activation(g)
		}
	}
	add(x, a.down.apply(up, t))
}

func add(y, x []float64) {
	for i, v := range x {
		y[i] += v
	}
}
