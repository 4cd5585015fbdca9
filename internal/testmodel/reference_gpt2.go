package testmodel

import (
	"encoding/json"
	"fmt"
)

// gpt2Keys are GPT-2's names.
type gpt2Keys struct {
	D          int     `json:"n_embd"`
	H          int     `json:"n_head"`
	F          *int    `json:"n_inner"`
	Layers     int     `json:"n_layer"`
	Positions  int     `json:"n_positions"`
	Eps        float64 `json:"layer_norm_epsilon"`
	Act        string  `json:"activation_function"`
	Scale      bool    `json:"scale_attn_weights"`
	ScaleLayer bool    `json:"scale_attn_by_inverse_layer_idx"`
	Cross      bool    `json:"add_cross_attention"`
}

// gpt2 reads GPT-2's keys.
func (c *referenceConfig) gpt2(data []byte) error {
	k := gpt2Keys{Positions: 1024, Eps: 1e-5, Act: "gelu_new", Scale: true}
	if err := json.Unmarshal(data, &k); err != nil {
		return err
	}
	c.D, c.H, c.G, c.Layers, c.MaxPosition, c.Eps = k.D, k.H, k.H, k.Layers, k.Positions, k.Eps
	c.Rope, c.Window, c.F = nil, nil, 4*k.D
	if k.F != nil {
		c.F = *k.F
	}
	if k.H > 0 {
		c.K = k.D / k.H
	}
	switch k.Act {
	case "gelu_new", "gelu_pytorch_tanh", "gelu_fast":
		c.Activation = geluTanh
	case "gelu":
		c.Activation = geluErf
	default:
		return fmt.Errorf("activation_function %q is not supported", k.Act)
	}
	if !k.Scale || k.ScaleLayer || k.Cross || c.K*c.H != c.D {
		return fmt.Errorf("a setting of GPT-2 that is not supported")
	}
	return nil
}

// loadGPT2 reads the tensors of GPT2LMHeadModel. Its first release names them without "transformer.".
func (r *Reference) loadGPT2(l *referenceLoader) {
	c, p := r.config, "transformer."
	if _, ok := l.src.Lookup(p + "wte.weight"); !ok {
		p = ""
	}
	r.embed = l.read(p+"wte.weight", c.V, c.D)
	r.positions = l.read(p+"wpe.weight", c.MaxPosition, c.D)
	r.final = l.layerNorm(p+"ln_f", c.D)
	for i := range c.Layers {
		if l.err != nil {
			return
		}
		at, n := fmt.Sprintf("%sh.%d.", p, i), c.Sizes[i]
		a := referenceLayer{h: n.H, g: n.H}
		if n.H > 0 {
			qkv := l.conv1D(at+"attn.c_attn", 3*c.D, c.D)
			a.attnNorm, a.o = l.layerNorm(at+"ln_1", c.D), l.conv1D(at+"attn.c_proj", c.D, c.D)
			a.q, a.k, a.v = qkv.rows(0, c.D), qkv.rows(c.D, 2*c.D), qkv.rows(2*c.D, 3*c.D)
		}
		if n.F > 0 {
			a.ffnNorm, a.up = l.layerNorm(at+"ln_2", c.D), l.conv1D(at+"mlp.c_fc", n.F, c.D)
			a.down = l.conv1D(at+"mlp.c_proj", c.D, n.F)
		}
		r.layers = append(r.layers, a)
	}
}
