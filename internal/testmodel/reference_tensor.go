package testmodel

import (
	"encoding/binary"
	"fmt"
	"math"

	"modelpress/formats"
)

// referenceLoader reads tensors until one of them cannot be read, and keeps what was wrong with it.
type referenceLoader struct {
	src formats.Source
	err error
}

// load reads every tensor of the model.
func (r *Reference) load(src formats.Source) error {
	l := &referenceLoader{src: src}
	if r.config.Class == "GPT2LMHeadModel" {
		r.loadGPT2(l)
	} else {
		r.loadDecoder(l)
	}
	r.head = referenceLinear{in: r.config.D, out: r.config.V, w: r.embed}
	if !r.config.Tied {
		r.head = l.linear("lm_head", r.config.V, r.config.D, false)
	}
	return l.err
}

// loadDecoder reads the tensors of Llama and the classes after it.
func (r *Reference) loadDecoder(l *referenceLoader) {
	c := r.config
	llama, qwen3 := c.Class == "LlamaForCausalLM", c.Class == "Qwen3ForCausalLM"
	biasQKV := c.Class == "Qwen2ForCausalLM" || (llama || qwen3) && c.AttentionBias
	biasO, biasFFN := (llama || qwen3) && c.AttentionBias, llama && c.MLPBias
	r.embed = l.read("model.embed_tokens.weight", c.V, c.D)
	r.final = l.norm("model.norm", c.D)
	for i := range c.Layers {
		if l.err != nil {
			return
		}
		at, n := fmt.Sprintf("model.layers.%d.", i), c.Sizes[i]
		a := referenceLayer{h: n.H, g: n.G, window: c.Windows[i]}
		if n.H > 0 {
			a.attnNorm = l.norm(at+"input_layernorm", c.D)
			a.q = l.linear(at+"self_attn.q_proj", n.H*c.K, c.D, biasQKV)
			a.k = l.linear(at+"self_attn.k_proj", n.G*c.K, c.D, biasQKV)
			a.v = l.linear(at+"self_attn.v_proj", n.G*c.K, c.D, biasQKV)
			a.o = l.linear(at+"self_attn.o_proj", c.D, n.H*c.K, biasO)
		}
		if n.H > 0 && qwen3 {
			q, k := l.norm(at+"self_attn.q_norm", c.K), l.norm(at+"self_attn.k_norm", c.K)
			a.qNorm, a.kNorm = &q, &k
		}
		if n.F > 0 {
			a.ffnNorm = l.norm(at+"post_attention_layernorm", c.D)
			gate := l.linear(at+"mlp.gate_proj", n.F, c.D, biasFFN)
			a.gate, a.up = &gate, l.linear(at+"mlp.up_proj", n.F, c.D, biasFFN)
			a.down = l.linear(at+"mlp.down_proj", c.D, n.F, biasFFN)
		}
		r.layers = append(r.layers, a)
	}
}

func (l *referenceLoader) linear(module string, out, in int, bias bool) referenceLinear {
	y := referenceLinear{in: in, out: out, w: l.read(module+".weight", out, in)}
	if bias {
		y.b = l.read(module+".bias", out)
	}
	return y
}

// conv1D reads a projection of GPT-2, whose weight is stored as [In, Out].
func (l *referenceLoader) conv1D(module string, out, in int) referenceLinear {
	stored, bias := l.read(module+".weight", in, out), l.read(module+".bias", out)
	if l.err != nil {
		return referenceLinear{}
	}
	y := referenceLinear{in: in, out: out, w: make([]float64, len(stored)), b: bias}
	for j := range out {
		for c := range in {
			y.w[j*in+c] = stored[c*out+j]
		}
	}
	return y
}

func (l *referenceLoader) norm(module string, width int) referenceNorm {
	return referenceNorm{w: l.read(module+".weight", width)}
}

func (l *referenceLoader) layerNorm(module string, width int) referenceNorm {
	return referenceNorm{w: l.read(module+".weight", width), b: l.read(module+".bias", width)}
}

// read returns a tensor that must have the given shape. Its values are those stored, F64 ones too.
func (l *referenceLoader) read(name string, shape ...int) []float64 {
	if l.err != nil {
		return nil
	}
	v, err := readReference(l.src, name, shape)
	if err != nil {
		l.err = fmt.Errorf("tensor %q: %w", name, err)
	}
	return v
}

func readReference(src formats.Source, name string, shape []int) ([]float64, error) {
	info, ok := src.Lookup(name)
	if !ok {
		return nil, fmt.Errorf("no such tensor")
	}
	same := len(info.Shape) == len(shape)
	for i := range shape {
		same = same && info.Shape[i] == int64(shape[i])
	}
	if !same {
		return nil, fmt.Errorf("shape %v where %v is needed", info.Shape, shape)
	}
	size, err := info.Bytes()
	if err != nil {
		return nil, err
	}
	if !info.DType.IsFloat() {
		return nil, fmt.Errorf("dtype %s is not supported", info.DType)
	}
	out, buf := make([]float64, 0, size/int64(info.DType.Size())), make([]byte, min(size, chunk))
	for off := int64(0); off < size; off += chunk {
		p := buf[:min(chunk, size-off)]
		if err := src.ReadAt(name, p, off); err != nil {
			return nil, err
		}
		out = appendValues(out, p, info.DType)
	}
	return out, nil
}

// appendValues decodes little-endian values; each of the four types fits into a float64.
func appendValues(out []float64, p []byte, dt formats.DType) []float64 {
	for unit := dt.Size(); len(p) > 0; p = p[unit:] {
		switch dt {
		case formats.F64:
			out = append(out, math.Float64frombits(binary.LittleEndian.Uint64(p)))
		case formats.F32:
			out = append(out, float64(math.Float32frombits(binary.LittleEndian.Uint32(p))))
		case formats.BF16:
			out = append(out, float64(formats.BF16ToF32(binary.LittleEndian.Uint16(p))))
		case formats.F16:
			out = append(out, float64(formats.F16ToF32(binary.LittleEndian.Uint16(p))))
		}
	}
	return out
}
