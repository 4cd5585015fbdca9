package llamacpp

import (
	"fmt"

	"modelpress/internal/arch"
)

// maxBlocks is llama.cpp's LLAMA_MAX_LAYERS.
const maxBlocks = 512

// choose sets the architecture.
func (d *describer) choose() {
	m := d.src
	switch m.Family {
	case "llama", "mistral":
		d.out.Architecture = archLlama
		if !d.uniform {
			d.out.Architecture = archDeci
		}
	case "qwen2":
		d.out.Architecture = archQwen2
		if why := d.beyondQwen2(); why != "" {
			d.out.Architecture = archDeci
			d.warn("qwen2 is written as deci, since %s", why)
		}
	case "qwen3":
		d.out.Architecture = archQwen3
	case "gpt2":
		d.out.Architecture = archGPT2
	default:
		d.refuse("convert a model of one of the families "+fmt.Sprint(arch.Families()), "no architecture is known for %q", m.Family)
	}
}

// beyondQwen2 says what the architecture qwen2 cannot hold and deci can; "" for nothing.
func (d *describer) beyondQwen2() string {
	m := d.src
	switch {
	case !d.uniform:
		return "its layers differ"
	case m.Layers[0].H*m.Layers[0].K != m.D:
		return "its heads are together not as wide as the stream"
	case m.Rope != nil && m.Rope.Type == "llama3":
		return "no other architecture with its biases reads the frequencies of llama3"
	}
	return ""
}

func (d *describer) warn(format string, args ...any) {
	d.out.Warnings = append(d.out.Warnings, fmt.Sprintf(format, args...))
}

// check collects the rules that the model breaks.
func (d *describer) check() {
	m := d.src
	if n := len(m.Layers); n > maxBlocks {
		d.refuse("drop layers", "it holds %d layers at most, the model has %d", maxBlocks, n)
	}
	if !d.uniform && (d.out.Architecture == archQwen3 || d.out.Architecture == archGPT2) {
		d.refuse("pad the layers to one size, or prune all layers alike",
			"layers of %s are all alike: same heads, KV heads and FFN width, nothing left out", d.out.Architecture)
	}
	d.checkLayers()
	d.checkRope()
	switch {
	case m.Family == "gpt2" && m.Act != arch.GELUTanh:
		d.refuse("none: another activation gives other values", "gpt2 computes the tanh form of GELU, the model has the erf form")
	case m.Family == "gpt2" && m.Layers[0].H*m.Layers[0].K != m.D:
		d.refuse("keep all heads", "heads of gpt2 are together as wide as the stream: %d x %d, stream %d", m.Layers[0].H, m.Layers[0].K, m.D)
	case m.Family == "qwen3" && m.Layers[0].Linears[arch.Q].Bias != "":
		d.refuse("convert a model without attention_bias", "qwen3 has no bias of the attention's output")
	}
}

// checkLayers looks at what single layers lack, and at the widths of heads and biases.
func (d *describer) checkLayers() {
	m, k, bias := d.src, 0, false
	for l := range m.Layers {
		a := &m.Layers[l]
		if !a.HasFFN() {
			d.refuse("keep the FFN, or drop the whole layer", "layer %d has no FFN, and the attention of such a layer gets lost", l)
		}
		if !a.HasAttention() {
			if l == 0 {
				d.refuse("keep the attention of layer 0", "layer 0 has no attention, from which the width of heads is read")
			}
			continue
		}
		if k == 0 {
			k = a.K
		}
		if a.K != k {
			d.refuse("prune heads as a whole", "all layers share one head dim: layer %d has %d, others %d", l, a.K, k)
		}
		bias = bias || a.Linears[arch.Q].Bias != "" && a.H*a.K != m.D
	}
	if bias && m.Family != "gpt2" {
		d.warn("the bias of q is not as wide as the stream: llama.cpp loads that from 2026 on, older builds refuse the file")
	}
}

// windows takes sliding windows into account, which none of these architectures has: within the smallest window attention is the same,
// so that becomes the context that the file states.
func (d *describer) windows() {
	d.context = d.src.MaxPosition
	for l := range d.src.Layers {
		a := &d.src.Layers[l]
		if a.HasAttention() && a.Window > 0 {
			d.context = min(d.context, a.Window)
		}
	}
	if d.context < d.src.MaxPosition {
		d.warn("the sliding window of %d tokens is not written, since %s attends to everything: context_length is the window instead of %d, and results past it differ",
			d.context, d.out.Architecture, d.src.MaxPosition)
	}
}
