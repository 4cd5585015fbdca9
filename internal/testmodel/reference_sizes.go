package testmodel

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
)

// perLayer sets the KV heads of each layer, whose number may have leading zeros. An entry of per_layer_config that holds anything else
// is refused.
func (c *referenceConfig) perLayer() error {
	c.KVHeads = make([]int, c.Layers)
	for l := range c.KVHeads {
		c.KVHeads[l] = c.G
	}
	seen := map[int]bool{}
	for key, raw := range c.PerLayer {
		l, err := strconv.Atoi(key)
		if err != nil || l < 0 || l >= c.Layers || seen[l] {
			return fmt.Errorf("per_layer_config: no layer %q", key)
		}
		seen[l] = true
		sizes := struct {
			G int `json:"num_key_value_heads"`
		}{c.G}
		d := json.NewDecoder(bytes.NewReader(raw))
		d.DisallowUnknownFields()
		if err := d.Decode(&sizes); err != nil {
			return fmt.Errorf("per_layer_config: layer %d: %w", l, err)
		}
		c.KVHeads[l] = sizes.G
	}
	for l, g := range c.KVHeads {
		if g <= 0 || c.H%g != 0 {
			return fmt.Errorf("layer %d: %d query heads on %d KV heads", l, c.H, g)
		}
	}
	return nil
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
