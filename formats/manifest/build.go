package manifest

import (
	"errors"
	"fmt"
	"math/bits"
	"strconv"
)

// New returns a plan for a model in which every head sees everything, to be narrowed by the caller.
func New(m Model, by Producer) *Plan {
	return &Plan{
		Schema: Schema, Producer: by, Model: m,
		Granularity: "kv_head", WindowSemantics: "tokens_including_self", RopePositions: "absolute",
		Policies: map[string]Policy{"full": Full()},
		Defaults: Defaults{Prefill: "full", Decode: "full"},
		Phases:   Phases{Prefill: PrefillPhase{FirstChunk: "dense", ChunkMask: "exact"}},
		Layers:   []Layer{}, Requires: []string{}, Fallback: "dense",
	}
}

// Stream gives each KV head that is not full the policy of a sink and a recent window in decoding, under the id "s", and
// states every head of every layer. full is [layer][KV head]; scores, nil or of the same shape, are kept beside the heads.
// Layers whose number of KV heads differs from the model's get counts of their own; heads gives the query heads of each
// layer and may be nil where all have the model's. An empty row stands for a layer without attention.
func (p *Plan) Stream(full [][]bool, scores [][]float64, heads []int, sink, recent int) error {
	if len(full) != p.Model.Layers || scores != nil && len(scores) != len(full) || heads != nil && len(heads) != len(full) {
		return fmt.Errorf("manifest: %d layers of heads, %d of scores for a model of %d layers", len(full), len(scores), p.Model.Layers)
	}
	p.Policies["s"] = Streaming(sink, recent)
	p.Layers = make([]Layer, len(full))
	streaming := false
	for l, row := range full {
		layer := Layer{Layer: l, Select: "none", KVHeads: make([]KVHead, len(row))}
		if len(row) == 0 {
			layer.NoAttention = true
		} else if heads != nil && heads[l] != p.Model.Heads || len(row) != p.Model.KVHeads {
			if heads == nil {
				return errors.New("manifest: layers have head counts of their own and no query heads are given")
			}
			layer.Heads, layer.KVHeadCount = heads[l], len(row)
		}
		for g, isFull := range row {
			h := KVHead{Head: g, Decode: Always("full"), Prefill: "full"}
			if !isFull {
				h.Decode, streaming = Always("s"), true
			}
			if scores != nil {
				if len(scores[l]) != len(row) {
					return fmt.Errorf("manifest: layer %d has %d KV heads and %d scores", l, len(row), len(scores[l]))
				}
				s := scores[l][g]
				h.Score = &s
			}
			layer.KVHeads[g] = h
		}
		p.Layers[l] = layer
	}
	if !streaming {
		delete(p.Policies, "s")
	}
	p.Requires = p.Needs()
	return nil
}

// FullHeads returns the number of KV heads that decode under a full policy at a length, and of all KV heads.
func (p *Plan) FullHeads(length int) (full, all int) {
	for l := range p.Model.Layers {
		_, g := p.Counts(l)
		for h := range g {
			if pol, _ := p.Resolve(l, h, Decoding, length); pol.Kind == KindFull {
				full++
			}
		}
		all += g
	}
	return full, all
}

// KVBytes returns the size of the KV cache of one sequence of length tokens, with elements of elementBytes: as planned, in
// whole pages where the plan rounds, and dense. ok is false where a policy's size is only known at run time.
func (p *Plan) KVBytes(length, elementBytes int) (planned, dense int64, ok bool) {
	row := int64(2) * int64(p.Model.HeadDim) * int64(elementBytes) // one key and one value
	for l := range p.Model.Layers {
		_, g := p.Counts(l)
		for h := range g {
			pol, _ := p.Resolve(l, h, Decoding, length)
			span := pol.Span(length)
			if span < 0 {
				return 0, 0, false
			}
			planned += row * int64(p.Pages(span))
			dense += row * int64(p.Pages(length))
		}
	}
	return planned, dense, true
}

// Pages rounds a number of cached tokens up to whole pages, where the plan says so.
func (p *Plan) Pages(tokens int) int {
	page := p.Phases.Decode.Page
	if p.Phases.Decode.Round != "up" || page < 2 {
		return tokens
	}
	return (tokens + page - 1) / page * page
}

// KeyChannels returns how many of the dim channels of a KV head's keys are kept: all, or those of its mask.
func (p *Plan) KeyChannels(layer, kvHead, dim int) int {
	h := p.head(layer, kvHead)
	if h == nil || h.KChannelMask == "" {
		return dim
	}
	n := 0
	for _, c := range h.KChannelMask {
		v, err := strconv.ParseUint(string(c), 16, 8)
		if err != nil {
			return dim
		}
		n += bits.OnesCount64(v)
	}
	return min(n, dim)
}
