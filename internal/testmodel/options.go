package testmodel

import (
	"fmt"

	"modelpress/formats"
)

// Options describes a checkpoint. Zero fields take the value in brackets.
type Options struct {
	Family  string // "llama" [llama], "mistral", "qwen2", "qwen3", "gpt2"
	Layers  int    // decoder blocks [2]
	D       int    // model width [64]
	H       int    // query heads [8]
	G       int    // KV heads [H]
	K       int    // head dim [D/H]
	F       int    // FFN width [192; 4*D for gpt2]
	V       int    // vocabulary [256]
	Context int    // max_position_embeddings [256]
	Window  int    // sliding window of mistral in tokens; 0 writes null

	Tied     bool     // lm_head is the embedding (always so for gpt2)
	Bias     bool     // llama: attention_bias and mlp_bias
	Theta    float64  // rope_theta [10000]
	Scaling  *Scaling // rope_scaling; nil writes null
	Eps      float64  // [1e-5]
	BOS, EOS int      // [0, 0]

	// Fresh draws values as untrained models have them: matrices of deviation 0.02, gains of one, biases of zero. Without it,
	// matrices keep the variance of activations, and gains and biases differ from channel to channel.
	Fresh bool

	// PerLayer changes single layers, as compressed checkpoints do; they are written as per_layer_config. Not for gpt2.
	PerLayer map[int]Sizes

	DType formats.DType // BF16, F16 or F32 [F32]
	Seed  uint64
}

// Sizes are those of one layer that differ from the others. Zero fields keep the model's.
type Sizes struct {
	H, G, F                int
	NoAttention, NoFeedFwd bool
}

// sizes are those of layer l.
func (o *Options) sizes(l int) Sizes {
	s := o.PerLayer[l]
	if s.H == 0 {
		s.H = o.H
	}
	if s.G == 0 {
		s.G = o.G
	}
	if s.F == 0 {
		s.F = o.F
	}
	return s
}

// Scaling is a rope_scaling object. Fields that are zero are not written.
type Scaling struct {
	Type                        string  `json:"rope_type"`
	Factor                      float64 `json:"factor,omitempty"`
	LowFreqFactor               float64 `json:"low_freq_factor,omitempty"`
	HighFreqFactor              float64 `json:"high_freq_factor,omitempty"`
	OriginalMaxPositionEmbedded int     `json:"original_max_position_embeddings,omitempty"`
	BetaFast                    float64 `json:"beta_fast,omitempty"`
	BetaSlow                    float64 `json:"beta_slow,omitempty"`
	AttentionFactor             float64 `json:"attention_factor,omitempty"`
}

func (o *Options) fill() {
	def := func(p *int, v int) {
		if *p == 0 {
			*p = v
		}
	}
	if o.Family == "" {
		o.Family = "llama"
	}
	def(&o.Layers, 2)
	def(&o.D, 64)
	def(&o.H, 8)
	def(&o.G, o.H)
	def(&o.K, o.D/o.H)
	def(&o.V, 256)
	def(&o.Context, 256)
	if o.Family == "gpt2" {
		def(&o.F, 4*o.D)
		o.Tied = true
	}
	def(&o.F, 192)
	if o.Theta == 0 {
		o.Theta = 10000
	}
	if o.Eps == 0 {
		o.Eps = 1e-5
	}
	if o.DType == formats.Invalid {
		o.DType = formats.F32
	}
}

func (o *Options) check() error {
	switch {
	case o.D <= 0 || o.H <= 0 || o.G <= 0 || o.K <= 0 || o.F <= 0 || o.V <= 0 || o.Layers <= 0:
		return fmt.Errorf("testmodel: sizes must be positive: %+v", *o)
	case o.H%o.G != 0:
		return fmt.Errorf("testmodel: %d query heads do not divide into %d KV heads", o.H, o.G)
	case o.Family == "gpt2" && (len(o.PerLayer) > 0 || o.G != o.H || o.K*o.H != o.D):
		return fmt.Errorf("testmodel: gpt2 needs G = H, H*K = D and layers that are alike")
	case o.DType != formats.BF16 && o.DType != formats.F16 && o.DType != formats.F32:
		return fmt.Errorf("testmodel: dtype %s", o.DType)
	}
	for l := range o.Layers {
		if s := o.sizes(l); s.H%s.G != 0 {
			return fmt.Errorf("testmodel: layer %d: %d query heads do not divide into %d KV heads", l, s.H, s.G)
		}
	}
	switch o.Family {
	case "llama", "mistral", "qwen2", "qwen3", "gpt2":
		return nil
	}
	return fmt.Errorf("testmodel: unknown family %q", o.Family)
}
