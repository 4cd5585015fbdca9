package testmodel

import (
	"encoding/json"
	"fmt"
	"math"
)

// Bounds on sizes that a configuration gives. Products of three of them fit into an int.
const (
	maxReferenceSize   = 1 << 20
	maxReferenceVocab  = 1 << 22
	maxReferenceLayers = 1 << 12
)

// referenceConfig holds the keys of config.json that matter, GPT-2's under the names of the others.
type referenceConfig struct {
	Classes       []string       `json:"architectures"`
	D             int            `json:"hidden_size"`
	H             int            `json:"num_attention_heads"`
	G             int            `json:"num_key_value_heads"`
	HeadDim       *int           `json:"head_dim"`
	F             int            `json:"intermediate_size"`
	Layers        int            `json:"num_hidden_layers"`
	V             int            `json:"vocab_size"`
	MaxPosition   int            `json:"max_position_embeddings"`
	Eps           float64        `json:"rms_norm_eps"`
	TiedKey       *bool          `json:"tie_word_embeddings"`
	Act           string         `json:"hidden_act"`
	AttentionBias bool           `json:"attention_bias"`
	MLPBias       bool           `json:"mlp_bias"`
	Theta         float64        `json:"rope_theta"`
	Rope          *referenceRope `json:"rope_scaling"`
	RopeParams    *referenceRope `json:"rope_parameters"`
	Partial       *float64       `json:"partial_rotary_factor"`

	Window          *int     `json:"sliding_window"`
	UseWindow       bool     `json:"use_sliding_window"`
	MaxWindowLayers int      `json:"max_window_layers"`
	LayerTypes      []string `json:"layer_types"`

	PerLayer map[string]json.RawMessage `json:"per_layer_config"`

	K          int                   `json:"-"`
	Class      string                `json:"-"`
	Tied       bool                  `json:"-"`
	Sizes      []referenceSizes      `json:"-"` // by layer
	Windows    []int                 `json:"-"` // by layer: how far back a query sees, 0 for all
	Activation func(float64) float64 `json:"-"`
}

// parseReferenceConfig reads config.json. Keys that are missing have the defaults of the class.
func parseReferenceConfig(data []byte) (*referenceConfig, error) {
	window := 4096
	c := &referenceConfig{Eps: 1e-6, Theta: 10000, Act: "silu", Window: &window, MaxWindowLayers: 28}
	if err := json.Unmarshal(data, c); err != nil {
		return nil, err
	}
	if len(c.Classes) != 1 {
		return nil, fmt.Errorf("architectures %q, one is needed", c.Classes)
	}
	c.Class = c.Classes[0]
	c.Tied = c.Class == "GPT2LMHeadModel"
	if c.TiedKey != nil {
		c.Tied = *c.TiedKey
	}
	var err error
	switch c.Class {
	case "LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM":
		err = c.decoder()
	case "GPT2LMHeadModel":
		err = c.gpt2(data)
	default:
		err = fmt.Errorf("class %q is not supported", c.Class)
	}
	if err == nil {
		err = c.check()
	}
	if err == nil {
		err = c.perLayer()
	}
	if err == nil {
		err = c.windows()
	}
	return c, err
}

// decoder settles what Llama and the classes after it leave open.
func (c *referenceConfig) decoder() error {
	if c.G == 0 && c.Class == "LlamaForCausalLM" {
		c.G = c.H
	}
	switch {
	case c.HeadDim != nil:
		c.K = *c.HeadDim
	case c.H > 0:
		c.K = c.D / c.H
	}
	switch {
	case c.Rope == nil:
		c.Rope = c.RopeParams
	case c.RopeParams != nil:
		return fmt.Errorf("rope_parameters stands beside rope_scaling")
	}
	if c.Rope == nil {
		c.Rope = &referenceRope{}
	}
	if c.Rope.Partial == nil {
		c.Rope.Partial = c.Partial
	}
	c.Activation = silu
	if c.Act != "silu" && c.Act != "swish" {
		return fmt.Errorf("hidden_act %q is not supported", c.Act)
	}
	if c.K%2 != 0 {
		return fmt.Errorf("head_dim %d is odd", c.K)
	}
	return c.Rope.settle(c.Theta, c.MaxPosition)
}

// check bounds all sizes.
func (c *referenceConfig) check() error {
	for _, s := range []struct {
		what    string
		n, most int
	}{{"width", c.D, maxReferenceSize}, {"query heads", c.H, maxReferenceSize}, {"KV heads", c.G, maxReferenceSize},
		{"head dim", c.K, maxReferenceSize}, {"FFN width", c.F, maxReferenceVocab}, {"vocabulary", c.V, maxReferenceVocab},
		{"layers", c.Layers, maxReferenceLayers}} {
		if s.n <= 0 || s.n > s.most {
			return fmt.Errorf("%s %d", s.what, s.n)
		}
	}
	if !(c.Eps >= 0) || math.IsInf(c.Eps, 0) {
		return fmt.Errorf("eps %g", c.Eps)
	}
	return nil
}
