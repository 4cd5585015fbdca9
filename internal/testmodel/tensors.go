package testmodel

import (
	"fmt"
	"math"
	"sort"

	"modelpress/formats"
)

// tensor is one tensor to generate: normal values of the given mean and standard deviation.
type tensor struct {
	formats.TensorInfo
	mean, std float64
}

// builder collects tensors of one dtype.
type builder struct {
	dtype formats.DType
	list  []tensor
}

func (b *builder) add(name string, mean, std float64, shape ...int) {
	dims := make([]int64, len(shape))
	for i, n := range shape {
		dims[i] = int64(n)
	}
	b.list = append(b.list, tensor{formats.TensorInfo{Name: name, DType: b.dtype, Shape: dims}, mean, std})
}

// linear adds a weight [out, in] of standard deviation 1/sqrt(in), which keeps the variance of activations.
func (b *builder) linear(module string, out, in int, bias bool) {
	b.add(module+".weight", 0, 1/math.Sqrt(float64(in)), out, in)
	if bias {
		b.add(module+".bias", 0, 0.1, out)
	}
}

// conv1d adds GPT-2's transposed weight [in, out] with bias.
func (b *builder) conv1d(module string, out, in int) {
	b.add(module+".weight", 0, 1/math.Sqrt(float64(in)), in, out)
	b.add(module+".bias", 0, 0.1, out)
}

func (b *builder) norm(name string, n int) { b.add(name, 1, 0.1, n) }

// tensors lists every tensor of the checkpoint, sorted by name.
func tensors(o *Options) []tensor {
	b := &builder{dtype: o.DType}
	if o.Family == "gpt2" {
		b.gpt2(o)
	} else {
		b.decoder(o)
	}
	if o.Fresh {
		b.fresh()
	}
	sort.Slice(b.list, func(i, j int) bool { return b.list[i].Name < b.list[j].Name })
	return b.list
}

// fresh gives every tensor the distribution that the stock classes start from (initializer_range; without GPT-2's smaller
// deviation of projections into the residual stream).
func (b *builder) fresh() {
	for i := range b.list {
		if t := &b.list[i]; len(t.Shape) > 1 {
			t.std = 0.02
		} else {
			t.std = 0
		}
	}
}

func (b *builder) decoder(o *Options) {
	b.add("model.embed_tokens.weight", 0, 1/math.Sqrt(float64(o.D)), o.V, o.D)
	for l := range o.Layers {
		p, s := fmt.Sprintf("model.layers.%d.", l), o.sizes(l)
		if !s.NoAttention {
			b.attention(o, p, s)
		}
		if !s.NoFeedFwd {
			b.norm(p+"post_attention_layernorm.weight", o.D)
			b.linear(p+"mlp.gate_proj", s.F, o.D, o.Bias)
			b.linear(p+"mlp.up_proj", s.F, o.D, o.Bias)
			b.linear(p+"mlp.down_proj", o.D, s.F, o.Bias)
		}
	}
	b.norm("model.norm.weight", o.D)
	if !o.Tied {
		b.linear("lm_head", o.V, o.D, false)
	}
}

func (b *builder) attention(o *Options, p string, s Sizes) {
	qkvBias := o.Bias || o.Family == "qwen2"
	b.norm(p+"input_layernorm.weight", o.D)
	b.linear(p+"self_attn.q_proj", s.H*o.K, o.D, qkvBias)
	b.linear(p+"self_attn.k_proj", s.G*o.K, o.D, qkvBias)
	b.linear(p+"self_attn.v_proj", s.G*o.K, o.D, qkvBias)
	b.linear(p+"self_attn.o_proj", o.D, s.H*o.K, o.Bias)
	if o.Family == "qwen3" {
		b.norm(p+"self_attn.q_norm.weight", o.K)
		b.norm(p+"self_attn.k_norm.weight", o.K)
	}
}

func (b *builder) gpt2(o *Options) {
	b.add("transformer.wte.weight", 0, 1/math.Sqrt(float64(o.D)), o.V, o.D)
	b.add("transformer.wpe.weight", 0, 0.5/math.Sqrt(float64(o.D)), o.Context, o.D)
	for l := range o.Layers {
		p := fmt.Sprintf("transformer.h.%d.", l)
		b.norm(p+"ln_1.weight", o.D)
		b.add(p+"ln_1.bias", 0, 0.1, o.D)
		b.conv1d(p+"attn.c_attn", 3*o.D, o.D)
		b.conv1d(p+"attn.c_proj", o.D, o.D)
		b.norm(p+"ln_2.weight", o.D)
		b.add(p+"ln_2.bias", 0, 0.1, o.D)
		b.conv1d(p+"mlp.c_fc", o.F, o.D)
		b.conv1d(p+"mlp.c_proj", o.D, o.F)
	}
	b.norm("transformer.ln_f.weight", o.D)
	b.add("transformer.ln_f.bias", 0, 0.1, o.D)
}
