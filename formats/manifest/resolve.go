package manifest

import (
	"errors"
	"fmt"
	"sort"
	"strconv"
)

// Phase is the part of inference that a policy is asked for.
type Phase int

// The phases.
const (
	Prefill Phase = iota
	Decoding
)

// Resolve returns the policy of a KV head and its id, for a sequence of length tokens: the prompt, in prefill; the prompt and all that may
// be generated, in decoding. It panics where layer or head is outside of the model; p must be free of faults.
func (p *Plan) Resolve(layer, kvHead int, phase Phase, length int) (Policy, string) {
	if _, g := p.Counts(layer); layer < 0 || layer >= p.Model.Layers || kvHead < 0 || kvHead >= g {
		panic(fmt.Sprintf("manifest: no layer %d with KV head %d", layer, kvHead))
	}
	return p.byID(p.policyID(p.head(layer, kvHead), -1, phase, length))
}

// ResolveQuery is Resolve for one query head: in prefill it may have a policy of its own.
func (p *Plan) ResolveQuery(layer, head int, phase Phase, length int) (Policy, string) {
	h, g := p.Counts(layer)
	if layer < 0 || layer >= p.Model.Layers || head < 0 || head >= h {
		panic(fmt.Sprintf("manifest: no layer %d with query head %d", layer, head))
	}
	return p.byID(p.policyID(p.head(layer, head/(h/g)), head, phase, length))
}

func (p *Plan) byID(id string) (Policy, string) {
	if id == "" {
		return Full(), ""
	}
	pol, ok := p.Policies[id]
	if !ok {
		panic(fmt.Sprintf("manifest: no policy %q in a plan that was not validated", id))
	}
	return pol, id
}

// head returns the entry of a KV head, nil where the defaults apply.
func (p *Plan) head(layer, kvHead int) *KVHead {
	l := p.layer(layer)
	if l == nil {
		return nil
	}
	for i := range l.KVHeads {
		if l.KVHeads[i].Head == kvHead {
			return &l.KVHeads[i]
		}
	}
	return nil
}

// policyID returns the id in force, "" for dense attention that no policy names.
func (p *Plan) policyID(h *KVHead, query int, phase Phase, length int) string {
	if phase == Prefill && length < p.Phases.Prefill.MinSeq {
		return ""
	}
	if phase == Decoding {
		if h != nil && len(h.Decode) > 0 {
			return h.Decode.at(length)
		}
		return p.Defaults.Decode
	}
	if h != nil {
		if q, ok := h.QHeads[strconv.Itoa(query)]; ok {
			return q.Prefill
		}
		if h.Prefill != "" {
			return h.Prefill
		}
	}
	return p.Defaults.Prefill
}

// What a reader does with a plan that it cannot carry out.
var (
	// ErrUseDense: run the model with full attention everywhere, which the weights are right for.
	ErrUseDense = errors.New("run dense instead")
	// ErrRefuse: do not run the model under this plan or without it.
	ErrRefuse = errors.New("refuse to run")
	// ErrOtherModel: the plan is for another checkpoint.
	ErrOtherModel = errors.New("the plan is for another model")
)

// The features that version 1 may require.
const (
	FeatureSinkTokens    = "sink_tokens"            // streaming keeps leading tokens
	FeaturePerKVHead     = "per_kv_head_window"     // KV heads of one layer keep different tokens
	FeaturePerLayerHeads = "per_layer_heads"        // layers have head counts of their own
	FeatureCompensation  = "compensation"           // dropped keys and values are replaced by their mean
	FeatureShared        = "shared_selection"       // layers reuse the choice of another
	FeatureCachePosition = "within_cache_positions" // keys are rotated by their place in the cache
)

// KnownFeatures returns the features of version 1, sorted.
func KnownFeatures() []string {
	return []string{FeatureCompensation, FeaturePerKVHead, FeaturePerLayerHeads, FeatureShared, FeatureSinkTokens, FeatureCachePosition}
}

// Capabilities is what a reader can do. A kind with a selector is able of all of them, "kind:selector" of one.
type Capabilities struct {
	Kinds    []string
	Features []string
}

// Usable returns nil where a reader can carry the plan out, else an error that wraps ErrUseDense or ErrRefuse, as the plan's
// fallback says, and names all that is missing.
func (p *Plan) Usable(c Capabilities) error {
	var missing []string
	for _, r := range p.Requires {
		if !contains(c.Features, r) {
			missing = append(missing, "feature "+r)
		}
	}
	seen := map[string]bool{}
	for _, id := range p.used() {
		pol := p.Policies[id]
		k := pol.Kind
		if pol.Selector != "" {
			k += ":" + pol.Selector
		}
		if !seen[k] && !contains(c.Kinds, k) && !contains(c.Kinds, pol.Kind) {
			missing = append(missing, "policy kind "+k)
		}
		seen[k] = true
	}
	if len(missing) == 0 {
		return nil
	}
	sort.Strings(missing)
	if p.Fallback == "dense" {
		return fmt.Errorf("manifest: the plan needs %v: %w", missing, ErrUseDense)
	}
	return fmt.Errorf("manifest: the plan needs %v: %w", missing, ErrRefuse)
}

// used returns the ids of the policies that some head has, sorted.
func (p *Plan) used() []string {
	set := map[string]bool{p.Defaults.Decode: true, p.Defaults.Prefill: true}
	for i := range p.Layers {
		for _, h := range p.Layers[i].KVHeads {
			for _, r := range h.Decode {
				set[r.Use] = true
			}
			set[h.Prefill] = true
			for _, q := range h.QHeads {
				set[q.Prefill] = true
			}
		}
	}
	delete(set, "")
	ids := make([]string, 0, len(set))
	for id := range set {
		ids = append(ids, id)
	}
	sort.Strings(ids)
	return ids
}

// CheckModel compares digests of a loaded checkpoint with those that the plan names. Empty arguments are not compared, but
// at least one must be. A difference is ErrOtherModel: the reader must refuse, and not fall back.
func (p *Plan) CheckModel(weights, headers, config string) error {
	compared := false
	for _, d := range []struct{ what, have, want string }{
		{"weights_digest", weights, p.Model.WeightsDigest},
		{"headers_digest", headers, p.Model.HeadersDigest},
		{"config_digest", config, p.Model.ConfigDigest},
	} {
		if d.have == "" || d.want == "" {
			continue
		}
		compared = true
		if d.have != d.want {
			return fmt.Errorf("manifest: %s is %s, the plan has %s: %w", d.what, d.have, d.want, ErrOtherModel)
		}
	}
	if !compared {
		return fmt.Errorf("manifest: no digest to compare: %w", ErrOtherModel)
	}
	return nil
}
