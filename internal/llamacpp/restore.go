package llamacpp

import (
	"slices"

	"modelpress/formats/ggml"
	"modelpress/formats/gguf"
	"modelpress/internal/arch"
)

// restorer makes the description of a model from a file's metadata and list of tensors.
type restorer struct {
	metadata
	architecture string
	tensors      map[string]gguf.Tensor
}

// model reads sizes and what follows from which tensors there are. Layers have sizes and marks of biases alone, as [arch.Model.Config]
// reads them.
func (r *restorer) model() *arch.Model {
	n := r.number(keyBlocks, 1, maxBlocks)
	m := &arch.Model{
		D: r.number(keyWidth, 1, maxWidth), MaxPosition: r.number(keyContext, 1, maxContext), V: r.vocab(), Tied: r.tied(),
		Act: arch.GELUTanh, TorchDType: r.torchDType(), Layers: make([]arch.Layer, n), Family: r.family(n),
	}
	heads := r.perLayer(keyHeads, n, 0, maxHeads, nil)
	kv := r.perLayer(keyKVHeads, n, 0, maxHeads, heads)
	ffn := r.perLayer(keyFFN, n, 0, maxFFN, nil)
	k := r.headDim(m.D, heads)
	for l := range m.Layers {
		a := &m.Layers[l]
		a.H, a.G, a.F = heads[l], kv[l], ffn[l]
		switch {
		case a.H > 0 && a.G == 0:
			r.fault(keyKVHeads, "is 0 in layer %d: attention without K and V is not supported", l)
		case a.H == 0 && a.G > 0:
			r.fault(keyHeads, "is 0 in layer %d, which has KV heads", l)
		case a.H > 0:
			a.K = k
			r.markBias(a, l, arch.Q)
		}
		if a.F > 0 {
			r.markBias(a, l, arch.Up)
		}
	}
	r.norms(m)
	if r.numberOr("expert_count", 0, 0, 1<<16) > 0 {
		r.fault("expert_count", "mixtures of experts are not supported")
	}
	if r.architecture != archGPT2 {
		m.Rope = r.rope(m, k)
	}
	return m
}

// family tells the family of a file: llama and deci hold Qwen2 too, which has biases of q, k and v but not of the attention's output.
func (r *restorer) family(layers int) string {
	switch r.architecture {
	case archQwen2, archQwen3, archGPT2:
		return r.architecture
	}
	for l := range layers {
		if r.has(inLayer(l, linears[arch.Q].name, ".bias")) && !r.has(inLayer(l, linears[arch.O].name, ".bias")) {
			return archQwen2
		}
	}
	return archLlama
}

func (r *restorer) has(name string) bool {
	_, ok := r.tensors[name]
	return ok
}

func (r *restorer) markBias(a *arch.Layer, l int, role arch.Role) {
	name := inLayer(l, linears[role].name, ".bias")
	if r.has(name) {
		a.Linears[role].Bias = name
	}
}

// vocab is the number of rows of the embedding: tokens of the tokenizer and the key may be others.
func (r *restorer) vocab() int {
	r.lookup(keyVocab)
	t := r.tensors[nameEmbed]
	if len(t.Shape) != 2 || t.Shape[0] < 1 || t.Shape[0] > maxTokens {
		r.fault(keyVocab, "tensor %q of shape %v holds no vocabulary", nameEmbed, t.Shape)
		return 1
	}
	return int(t.Shape[0])
}

// headDim returns the width of heads: key_length, else the width of the stream by the heads of layer 0.
func (r *restorer) headDim(d int, heads []int) int {
	def := 0
	if heads[0] > 0 {
		def = d / heads[0]
	}
	k := r.numberOr(keyKeyLength, def, 1, maxHeadDim)
	if v := r.numberOr(keyValueLength, k, 1, maxHeadDim); v != k {
		r.fault(keyValueLength, "%d, but key_length is %d: keys and values of different width are not supported", v, k)
	}
	if k == 0 {
		r.fault(keyKeyLength, "is missing, and layer 0 has no heads")
	}
	if r.architecture != archGPT2 {
		if n := r.numberOr(keyRotated, k, 0, maxHeadDim); n != k {
			r.fault(keyRotated, "%d, but heads have %d values: partial rotation is not supported", n, k)
		}
	}
	return k
}

func (r *restorer) norms(m *arch.Model) {
	key := keyRMSEps
	if r.architecture == archGPT2 {
		key, m.LayerNorm = keyLayerNormEps, true
	}
	m.Eps = float32(r.floatOr(key, 0))
	if m.Eps == 0 {
		r.fault(key, "is missing or too small")
	}
}

// tied reports whether the embedding is the output too: where there is no output, and for gpt2 where it is a copy.
func (r *restorer) tied() bool {
	out, ok := r.tensors[nameOutput]
	if !ok {
		return true
	}
	embed := r.tensors[nameEmbed]
	if r.architecture != archGPT2 || out.Type != embed.Type || !slices.Equal(out.Shape, embed.Shape) {
		return false
	}
	return r.same(out, nameEmbed)
}

// same compares the stored bytes of two tensors of one type and shape.
func (r *restorer) same(t gguf.Tensor, other string) bool {
	size, err := bytesOf(t)
	if err != nil {
		return false
	}
	const chunk = 1 << 20
	a, b := make([]byte, min(size, chunk)), make([]byte, min(size, chunk))
	for off := int64(0); off < size; off += chunk {
		n := min(chunk, size-off)
		if r.file.ReadAt(t.Name, a[:n], off) != nil || r.file.ReadAt(other, b[:n], off) != nil || !slices.Equal(a[:n], b[:n]) {
			return false
		}
	}
	return true
}

// torchDType names the type of the embedding where it is a plain one.
func (r *restorer) torchDType() string {
	switch r.tensors[nameEmbed].Type {
	case ggml.F16:
		return "float16"
	case ggml.BF16:
		return "bfloat16"
	}
	return "float32"
}
