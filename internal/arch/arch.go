// Package arch describes model families as data: which tensor plays which role, head splits, norms, rotary embedding,
// tying. No other package holds the name of a tensor. Per-layer head counts, FFN widths and missing sub-layers are part
// of the description, since compressed checkpoints have them.
package arch

// Role names what a linear layer does in a decoder block.
type Role uint8

// The linear layers of a block, in the order of the forward pass.
const (
	Q Role = iota
	K
	V
	O
	Gate // absent in families without a gated FFN
	Up
	Down
	NumRoles
)

// String returns the role in lower case.
func (r Role) String() string {
	return [...]string{"q", "k", "v", "o", "gate", "up", "down"}[r]
}

// Linear is one projection y = x·Wᵀ + b with logical weight [Out, In]. Several projections may be parts of one stored
// tensor (GPT-2's fused c_attn).
type Linear struct {
	Weight string // tensor name; "" where the layer has no such projection
	Bias   string // tensor name; "" where it has no bias
	In     int
	Out    int
	// Transposed is set where the tensor stores [In, total Out] (GPT-2's Conv1D).
	Transposed bool
	// Row is the first logical output row inside the stored tensor (and bias) where it is shared; StoredOut is the
	// tensor's total number of output rows (equal to Out where it is not shared).
	Row, StoredOut int
}

// Present reports whether the layer has this projection.
func (l Linear) Present() bool { return l.Weight != "" }

// Module returns the name of the module that owns the weight: the tensor name without ".weight".
func (l Linear) Module() string {
	const suffix = ".weight"
	if n := len(l.Weight) - len(suffix); n > 0 && l.Weight[n:] == suffix {
		return l.Weight[:n]
	}
	return l.Weight
}

// Norm is a normalization: its gain and, for LayerNorm, its bias.
type Norm struct {
	Weight string
	Bias   string // "" for RMSNorm
}

// Present reports whether the normalization exists.
func (n Norm) Present() bool { return n.Weight != "" }

// Layer describes one decoder block. H is 0 where attention is missing, F is 0 where the FFN is.
type Layer struct {
	H, G, K int // query heads, KV heads, head dim
	F       int
	Window  int // sliding window in tokens, the query's own included; 0 for full attention

	AttnNorm, FFNNorm Norm
	QNorm, KNorm      Norm // per-head RMSNorm of width K before RoPE (Qwen3); absent elsewhere
	Linears           [NumRoles]Linear
}

// Activation is the nonlinearity of the FFN.
type Activation uint8

// The supported nonlinearities.
const (
	SiLU Activation = iota
	GELUTanh
	GELUErf
)

// Rope is a rotary embedding with its scaling, as the configuration gives it.
type Rope struct {
	Theta float64
	Dim   int    // rotated dimensions of a head
	Type  string // "default", "linear", "dynamic", "llama3", "yarn"

	Factor                        float64
	LowFreqFactor, HighFreqFactor float64 // llama3
	OriginalMaxPosition           int     // llama3, yarn, dynamic
	BetaFast, BetaSlow            float64 // yarn
	AttentionFactor               float64 // yarn; 0 where the default is to be used
	MScale, MScaleAllDim          float64 // yarn, 0 where absent
	Truncate                      bool    // yarn: correction range rounded to whole dims (default true)
}

// Model describes a whole decoder-only transformer.
type Model struct {
	Family       string // "llama", "mistral", "qwen2", "qwen3", "gpt2"
	Architecture string // the Hugging Face class, such as "LlamaForCausalLM"
	D, V         int
	MaxPosition  int
	Layers       []Layer
	LayerNorm    bool // LayerNorm with bias instead of RMSNorm
	Eps          float32
	Act          Activation
	Rope         *Rope // nil where positions are learned

	// LayerPrefix begins the name of every tensor of a layer, before the layer's number and a dot: "model.layers.".
	LayerPrefix string

	Embed     string // [V, D]
	PosEmbed  string // [MaxPosition, D]; "" where positions are rotary
	FinalNorm Norm
	LMHead    string // [V, D]; equal to Embed where tied
	Tied      bool

	TorchDType string // as config.json gives it, such as "bfloat16"; "" where absent
	// PackedModules: linear modules of the family live in a class that runtimes call "Linear" and may be packed. False
	// for GPT-2, whose Conv1D is not one.
	PackedModules bool
}
