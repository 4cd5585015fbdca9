package testmodel

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
)

// referenceSizes are those of one layer; H is 0 where it does not attend, F where it has no FFN.
type referenceSizes struct{ H, G, F int }

// perLayer sets the sizes of each layer, whose number may have leading zeros. An entry of per_layer_config that holds anything but
// sizes and the sub-layers that are left out is refused.
func (c *referenceConfig) perLayer() error {
	c.Sizes = make([]referenceSizes, c.Layers)
	for l := range c.Sizes {
		c.Sizes[l] = referenceSizes{c.H, c.G, c.F}
	}
	seen := map[int]bool{}
	for key, raw := range c.PerLayer {
		l, err := strconv.Atoi(key)
		if err != nil || l < 0 || l >= c.Layers || seen[l] {
			return fmt.Errorf("per_layer_config: no layer %q", key)
		}
		seen[l] = true
		if c.Sizes[l], err = c.override(raw); err != nil {
			return fmt.Errorf("per_layer_config: layer %d: %w", l, err)
		}
	}
	for l, s := range c.Sizes {
		if s.H > 0 && (s.G <= 0 || s.H%s.G != 0) {
			return fmt.Errorf("layer %d: %d query heads on %d KV heads", l, s.H, s.G)
		}
		if s.H < 0 || s.H > maxReferenceSize || s.F < 0 || s.F > maxReferenceVocab {
			return fmt.Errorf("layer %d: sizes %+v", l, s)
		}
	}
	return nil
}

// override reads an entry of per_layer_config. GPT-2 has no key for heads, and its own one for the FFN.
func (c *referenceConfig) override(raw json.RawMessage) (referenceSizes, error) {
	type decoder struct {
		H    int      `json:"num_attention_heads"`
		G    int      `json:"num_key_value_heads"`
		F    int      `json:"intermediate_size"`
		Skip []string `json:"skip"`
	}
	e := decoder{H: c.H, G: c.G, F: c.F}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	var err error
	if c.Class == "GPT2LMHeadModel" {
		g := struct {
			F    int      `json:"n_inner"`
			Skip []string `json:"skip"`
		}{F: c.F}
		err = d.Decode(&g)
		e.F, e.Skip = g.F, g.Skip
	} else {
		err = d.Decode(&e)
	}
	if err == nil && (e.H <= 0 || e.G <= 0 || e.F <= 0) {
		err = fmt.Errorf("%d query heads, %d KV heads, FFN width %d", e.H, e.G, e.F)
	}
	for _, what := range e.Skip {
		switch what {
		case "attention":
			e.H, e.G = 0, 0
		case "mlp":
			e.F = 0
		default:
			return referenceSizes{}, fmt.Errorf("skip %q", what)
		}
	}
	return referenceSizes{e.H, e.G, e.F}, err
}

// windows sets the window of each layer. Mistral has one in every layer unless it is null, Qwen from max_window_layers on
// and only where use_sliding_window is set; Llama and GPT-2 have none. layer_types, where it is given, must say the same.
func (c *referenceConfig) windows() error {
	c.Windows = make([]int, c.Layers)
	w := 0
	if c.Window != nil {
		if w = *c.Window; w <= 0 {
			return fmt.Errorf("sliding_window %d", w)
		}
	}
	qwen := c.Class == "Qwen2ForCausalLM" || c.Class == "Qwen3ForCausalLM"
	for l := range c.Windows {
		if c.Class == "MistralForCausalLM" || qwen && c.UseWindow && l >= c.MaxWindowLayers {
			c.Windows[l] = w
		}
	}
	if c.LayerTypes == nil {
		return nil
	}
	if len(c.LayerTypes) != c.Layers {
		return fmt.Errorf("layer_types: %d entries for %d layers", len(c.LayerTypes), c.Layers)
	}
	for l, kind := range c.LayerTypes {
		if kind != "full_attention" && kind != "sliding_attention" || (kind == "sliding_attention") != (c.Windows[l] > 0) {
			return fmt.Errorf("layer_types: %q of layer %d is not supported", kind, l)
		}
	}
	return nil
}
