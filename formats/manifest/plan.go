// Package manifest implements the attention plan, version 1: a JSON document beside a checkpoint that says, for each KV head
// of each layer, which keys it may see and so which part of the KV cache a runtime may drop. docs/MANIFEST.md is the
// normative text. The package needs only the standard library, so that a runtime can import it alone.
//
// A runtime calls [Decode], then [Plan.CheckModel] with digests of what it loaded, then [Plan.Usable] with what it can do,
// and then [Plan.Resolve] for each head.
package manifest

// Schema is the version that this package writes. Decode reads every "attention-plan/v1" and "attention-plan/v1.N".
const Schema = "attention-plan/v1"

// FileName is the usual name of the document beside the weights.
const FileName = "attention_plan.json"

// Plan is a whole attention plan.
type Plan struct {
	Schema          string            `json:"schema"`
	Producer        Producer          `json:"producer"`
	Model           Model             `json:"model"`
	Granularity     string            `json:"granularity"`      // "kv_head"
	WindowSemantics string            `json:"window_semantics"` // "tokens_including_self"
	RopePositions   string            `json:"rope_positions"`   // "absolute" or "within_cache"
	Policies        map[string]Policy `json:"policies"`
	Defaults        Defaults          `json:"defaults"`
	Phases          Phases            `json:"phases"`
	Layers          []Layer           `json:"layers"`
	Requires        []string          `json:"requires"`
	Fallback        string            `json:"fallback"` // "dense" or "refuse"
	Selection       *Selection        `json:"selection,omitempty"`
	Budget          *Budget           `json:"budget,omitempty"`
	Quality         *Quality          `json:"quality,omitempty"`
	Evidence        []Evidence        `json:"evidence,omitempty"`
}

// Producer names the program that made the plan.
type Producer struct {
	Name    string `json:"name"`
	Version string `json:"version"`
	PlanID  string `json:"plan_id,omitempty"` // id of the compression plan that it was made by
}

// Model says which checkpoint the plan is for. Counts of heads are those of a layer that does not state its own.
type Model struct {
	Architecture  string       `json:"architecture"`
	Layers        int          `json:"num_layers"`
	Heads         int          `json:"num_attention_heads"`
	KVHeads       int          `json:"num_key_value_heads"`
	HeadDim       int          `json:"head_dim"`
	Rope          *Rope        `json:"rope"` // null where positions are learned
	MaxPosition   int          `json:"max_position"`
	WeightsDigest string       `json:"weights_digest"`
	HeadersDigest string       `json:"headers_digest,omitempty"`
	ConfigDigest  string       `json:"config_digest,omitempty"`
	Permutation   *Permutation `json:"permutation"`
}

// Rope is the rotary embedding that scores were measured under.
type Rope struct {
	Theta   float64        `json:"theta"`
	Scaling map[string]any `json:"scaling"` // as config.json has it; nil for none
}

// Permutation records where the heads of a model come from. KVHeads[l][i] is the original index of the KV head that is now i in
// layer l; its query heads moved with it. Dropped heads do not appear. Where n heads were merged into each, head i came from
// entries i*n to i*n+n-1.
type Permutation struct {
	KVHeads [][]int `json:"kv_heads"`
}

// Defaults names the policies of heads that no layer mentions, and of phases that a head leaves out.
type Defaults struct {
	Prefill string `json:"prefill"`
	Decode  string `json:"decode"`
}

// Phases says how prefill and decoding apply policies.
type Phases struct {
	Prefill PrefillPhase `json:"prefill"`
	Decode  DecodePhase  `json:"decode"`
}

// PrefillPhase applies to the processing of the prompt.
type PrefillPhase struct {
	FirstChunk string `json:"first_chunk"` // "dense" or "policy"
	ChunkMask  string `json:"chunk_mask"`  // "exact" or "chunk"
	MinSeq     int    `json:"min_seq"`     // prompts shorter than this are processed dense
}

// DecodePhase applies to generation.
type DecodePhase struct {
	Page  int    `json:"page"`            // tokens of a cache page; 0 where the plan was made for none
	Round string `json:"round,omitempty"` // "up": sizes are rounded up to whole pages
}

// Layer holds the policies of one layer.
type Layer struct {
	Layer int `json:"layer"`
	// SourceLayer is the layer of the original model that this one was, where layers were dropped.
	SourceLayer *int `json:"source_layer,omitempty"`
	// Heads and KVHeadCount state the layer's own counts where they differ from the model's; 0 means the model's.
	Heads       int `json:"num_attention_heads,omitempty"`
	KVHeadCount int `json:"num_key_value_heads,omitempty"`
	// NoAttention: the layer has no attention sub-layer and so no heads.
	NoAttention bool `json:"no_attention,omitempty"`
	// Select says what the layer chooses for the layers that share with it: "none", "tokens" or "blocks".
	Select             string   `json:"select"`
	ShareAttentionWith *int     `json:"share_attention_with"`
	KVHeads            []KVHead `json:"kv_heads"`
}

// KVHead holds the policies of one KV head and so of the query heads that read it.
type KVHead struct {
	Head    int                  `json:"head"`
	Decode  Rules                `json:"decode,omitzero"`
	Prefill string               `json:"prefill,omitempty"`
	Score   *float64             `json:"score,omitempty"` // by selection.method
	KVBits  []int                `json:"kv_bits,omitempty"`
	QHeads  map[string]QueryHead `json:"q_heads,omitempty"`
	// KChannelMask has a bit for each channel of the head's keys, set where it is kept: ceil(K/4) lower-case hex digits, channel 0
	// in the highest bit of the first, bits past K zero. "" keeps all.
	KChannelMask string `json:"k_channel_mask,omitempty"`
}

// QueryHead overrides the prefill policy of one query head, named by its index in the layer.
type QueryHead struct {
	Prefill string `json:"prefill"`
}

// Selection says how full heads were told from others.
type Selection struct {
	Method          string   `json:"method"`
	TargetFullRatio float64  `json:"target_full_ratio"`
	TieBreak        string   `json:"tie_break"`
	CutScore        *float64 `json:"cut_score,omitempty"`
	TiesAtCut       int      `json:"ties_at_cut"`
}

// Budget says what the plan costs. Keys of the maps are sequence lengths, or tensor-parallel sizes.
type Budget struct {
	KVBytesPerToken int64              `json:"kv_bytes_per_token"`        // of the dense cache, all layers
	KVBytesAt       map[string]int64   `json:"kv_bytes_at,omitempty"`     // of the planned cache
	DensityAt       map[string]float64 `json:"density_at,omitempty"`      // planned over dense
	TensorParallel  map[string][]int   `json:"tensor_parallel,omitempty"` // full KV heads of each rank, over all layers
}

// Quality says how the plan was validated, at the sizes that it holds.
type Quality struct {
	HeldOut bool     `json:"held_out"` // measured on data that nothing was chosen by
	Metrics []Metric `json:"metrics"`
	Gate    Gate     `json:"gate"`
	Passed  bool     `json:"passed"`
}

// Metric is one measurement of the dense model and of the same model under the plan.
type Metric struct {
	Name   string  `json:"name"`
	Better string  `json:"better,omitempty"` // "higher" (also where absent) or "lower"
	Dense  float64 `json:"dense"`
	Plan   float64 `json:"plan"`
}

// Gate bounds what the plan may cost.
type Gate struct {
	MaxDrop float64 `json:"max_drop"` // largest dense - plan of a metric that is better higher
	// MaxRise is the largest plan/dense - 1 of a metric that is better lower; nil where those are not gated.
	MaxRise *float64 `json:"max_rise,omitempty"`
}

// Evidence keeps the scores of one method. Scores of different methods have different units and are not to be compared.
type Evidence struct {
	Method     string      `json:"method"`
	Unit       string      `json:"unit"`
	Samples    int         `json:"samples"`
	Seed       uint64      `json:"seed"`
	DataDigest string      `json:"data_digest,omitempty"`
	Per        string      `json:"per,omitempty"` // what a score belongs to: "kv_head" (also where absent), "q_head" or "layer"
	Scores     [][]float64 `json:"scores"`        // [layer][head], one a layer per "layer"
}

// What the scores of evidence belong to.
const (
	PerKVHead = "kv_head"
	PerQHead  = "q_head"
	PerLayer  = "layer"
)

// Counts returns the query and KV heads of a layer, by its entry where that states them.
func (p *Plan) Counts(layer int) (heads, kvHeads int) {
	heads, kvHeads = p.Model.Heads, p.Model.KVHeads
	if l := p.layer(layer); l != nil {
		heads, kvHeads = l.counts(&p.Model)
	}
	return heads, kvHeads
}

func (l *Layer) counts(m *Model) (heads, kvHeads int) {
	if l.NoAttention {
		return 0, 0
	}
	heads, kvHeads = m.Heads, m.KVHeads
	if l.Heads != 0 {
		heads = l.Heads
	}
	if l.KVHeadCount != 0 {
		kvHeads = l.KVHeadCount
	}
	return heads, kvHeads
}

func (p *Plan) layer(layer int) *Layer {
	for i := range p.Layers {
		if p.Layers[i].Layer == layer {
			return &p.Layers[i]
		}
	}
	return nil
}
