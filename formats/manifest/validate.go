package manifest

import (
	"fmt"
	"math"
	"sort"
	"strings"
)

// Bounds of what a plan may state, so that sizes derived from it stay representable.
const (
	maxTokens = 1 << 30
	maxHeads  = 1 << 16
	maxLayers = 1 << 16
)

// Fault is one error of a plan: where it stands and what is wrong.
type Fault struct {
	Path string // such as "layers[3].kv_heads[1].decode"
	Msg  string
}

func (f Fault) String() string { return f.Path + ": " + f.Msg }

// Validate returns every fault, sorted by path. Unknown policy kinds and required features are no faults: see Usable.
func (p *Plan) Validate() []Fault {
	v := &validator{layer: map[int]*Layer{}}
	for i := len(p.Layers) - 1; i >= 0; i-- {
		v.layer[p.Layers[i].Layer] = &p.Layers[i]
	}
	v.document(p)
	v.model(&p.Model)
	v.policies(p)
	v.layers(p)
	v.requires(p)
	v.selection(p.Selection)
	v.budget(p.Budget)
	v.quality(p.Quality)
	v.evidence(p)
	sort.SliceStable(v.faults, func(i, j int) bool {
		a, b := v.faults[i], v.faults[j]
		return a.Path < b.Path || a.Path == b.Path && a.Msg < b.Msg
	})
	return v.faults
}

type validator struct {
	faults []Fault
	layer  map[int]*Layer // the entry of each layer that has one
}

// counts is [Plan.Counts] without a search.
func (v *validator) counts(p *Plan, layer int) (heads, kvHeads int) {
	if l := v.layer[layer]; l != nil {
		return l.counts(&p.Model)
	}
	return p.Model.Heads, p.Model.KVHeads
}

func (v *validator) addf(path, format string, args ...any) {
	v.faults = append(v.faults, Fault{path, fmt.Sprintf(format, args...)})
}

func (v *validator) check(ok bool, path, format string, args ...any) {
	if !ok {
		v.addf(path, format, args...)
	}
}

func (v *validator) oneOf(path, s string, allowed ...string) {
	v.check(contains(allowed, s), path, "%.80q is none of %v", s, allowed)
}

func (v *validator) finite(path string, f float64) {
	v.check(!math.IsNaN(f) && !math.IsInf(f, 0), path, "is not finite")
}

func (v *validator) digest(path, s, prefix string) {
	rest, ok := strings.CutPrefix(s, prefix)
	ok = ok && len(rest) == 64 && strings.Trim(rest, "0123456789abcdef") == ""
	v.check(ok, path, "want %s and 64 hex digits, got %.100q", prefix, s)
}

func contains(list []string, s string) bool {
	for _, e := range list {
		if e == s {
			return true
		}
	}
	return false
}

func (v *validator) document(p *Plan) {
	v.check(schemaOK(p.Schema), "schema", "%.80q is not %s", p.Schema, Schema)
	v.check(p.Producer.Name != "", "producer.name", "is empty")
	if p.Producer.PlanID != "" {
		v.digest("producer.plan_id", p.Producer.PlanID, "sha256:")
	}
	v.oneOf("granularity", p.Granularity, "kv_head")
	v.oneOf("window_semantics", p.WindowSemantics, "tokens_including_self")
	v.oneOf("rope_positions", p.RopePositions, "absolute", "within_cache")
	v.oneOf("fallback", p.Fallback, "dense", "refuse")
	v.oneOf("phases.prefill.first_chunk", p.Phases.Prefill.FirstChunk, "dense", "policy")
	v.oneOf("phases.prefill.chunk_mask", p.Phases.Prefill.ChunkMask, "exact", "chunk")
	v.size("phases.prefill.min_seq", p.Phases.Prefill.MinSeq, 0, maxTokens)
	v.size("phases.decode.page", p.Phases.Decode.Page, 0, maxTokens)
	v.oneOf("phases.decode.round", p.Phases.Decode.Round, "", "up")
}

func (v *validator) size(path string, n, lo, hi int) {
	v.check(n >= lo && n <= hi, path, "%d is not in %d..%d", n, lo, hi)
}

func (v *validator) model(m *Model) {
	v.check(m.Architecture != "", "model.architecture", "is empty")
	v.size("model.num_layers", m.Layers, 1, maxLayers)
	v.heads("model", m.Heads, m.KVHeads)
	v.size("model.head_dim", m.HeadDim, 1, maxHeads)
	v.size("model.max_position", m.MaxPosition, 1, maxTokens)
	if m.Rope != nil {
		v.finite("model.rope.theta", m.Rope.Theta)
		v.check(m.Rope.Theta > 0, "model.rope.theta", "%v is not positive", m.Rope.Theta)
	}
	v.digest("model.weights_digest", m.WeightsDigest, "tensors-v1:sha256:")
	if m.HeadersDigest != "" {
		v.digest("model.headers_digest", m.HeadersDigest, "sha256:")
	}
	if m.ConfigDigest != "" {
		v.digest("model.config_digest", m.ConfigDigest, "sha256:")
	}
	if m.Permutation != nil {
		v.check(len(m.Permutation.KVHeads) == m.Layers, "model.permutation.kv_heads", "%d layers, the model has %d", len(m.Permutation.KVHeads), m.Layers)
		for l, order := range m.Permutation.KVHeads {
			v.check(distinct(order), fmt.Sprintf("model.permutation.kv_heads[%d]", l), "has an index twice or out of range")
		}
	}
}

func (v *validator) heads(path string, heads, kvHeads int) {
	v.size(path+".num_attention_heads", heads, 1, maxHeads)
	v.size(path+".num_key_value_heads", kvHeads, 1, maxHeads)
	v.check(kvHeads < 1 || heads%kvHeads == 0, path+".num_attention_heads", "%d is no multiple of %d KV heads", heads, kvHeads)
}

// distinct reports whether all are indices of heads and no two are the same.
func distinct(list []int) bool {
	seen := map[int]bool{}
	for _, i := range list {
		if i < 0 || i >= maxHeads || seen[i] {
			return false
		}
		seen[i] = true
	}
	return true
}
