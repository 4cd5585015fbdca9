package pipeline

import (
	"fmt"
	"math"
	"strconv"

	"modelpress/formats/manifest"
	"modelpress/formats/planfile"
	"modelpress/heads"
	"modelpress/internal/arch"
	"modelpress/internal/device"
)

// The policies that attention plans of this version hold.
const (
	policyFull      = "full"
	policyStreaming = "streaming"
)

// tieBreak is how heads.Select orders heads of equal score.
const tieBreak = "score desc, layer asc, head asc"

// modelDigests identify the checkpoint that an attention plan lies in.
type modelDigests struct {
	weights, headers, config string
}

// attentionPlan writes a heads decision as the manifest of a result: the decision fixes everything but the digests of the
// result and the metrics measured on its final weights.
func attentionPlan(h *headsDecision, s *source, d modelDigests, tool planfile.Tool, planID string, q *quality, gates Gates) *manifest.Plan {
	m := s.arch
	first := m.Layers[0]
	p := &manifest.Plan{
		Schema:   manifest.Schema,
		Producer: manifest.Producer{Name: tool.Name, Version: tool.Version, PlanID: planID},
		Model: manifest.Model{Architecture: m.Architecture, Layers: len(m.Layers), Heads: first.H, KVHeads: first.G, HeadDim: first.K,
			MaxPosition: m.MaxPosition, WeightsDigest: d.weights, HeadersDigest: d.headers, ConfigDigest: d.config, Rope: manifestRope(s)},
		Granularity: "kv_head", WindowSemantics: "tokens_including_self", RopePositions: "absolute",
		Policies: map[string]manifest.Policy{policyFull: manifest.Full(), policyStreaming: manifest.Streaming(h.Sink, h.Recent)},
		Defaults: manifest.Defaults{Prefill: policyFull, Decode: policyFull},
		Phases:   manifest.Phases{Prefill: manifest.PrefillPhase{FirstChunk: "policy", ChunkMask: "exact"}, Decode: manifest.DecodePhase{Page: h.Page, Round: "up"}},
		Fallback: "dense",
		Budget:   kvBudget(h, m),
		Quality:  manifestQuality(q, gates),
	}
	p.Layers = manifestLayers(h, m)
	full, total := h.counts()
	p.Selection = &manifest.Selection{Method: h.Method, TargetFullRatio: toFloat(h.Share), TieBreak: tieBreak, TiesAtCut: h.TiesAt}
	if full > 0 && full < total {
		cut := toFloat(h.Cut)
		p.Selection.CutScore = &cut
	}
	ev := manifest.Evidence{Method: h.Method, Unit: h.Unit, Samples: h.Samples, Seed: h.Seed, DataDigest: h.Digest, Scores: floats(h)}
	p.Evidence = []manifest.Evidence{ev}
	p.Requires = p.Needs()
	return p
}

func manifestLayers(h *headsDecision, m *arch.Model) []manifest.Layer {
	layers := make([]manifest.Layer, len(h.Full))
	first := m.Layers[0]
	for l, row := range h.Full {
		e := manifest.Layer{Layer: l, Select: "none"}
		if a := m.Layers[l]; a.H != first.H || a.G != first.G {
			e.Heads, e.KVHeadCount = a.H, a.G
		}
		for g, full := range row {
			policy := policyStreaming
			// A layer whose own window is no longer than what a streaming head keeps stays as it is: see heads.StreamMask.
			if own := m.Layers[l].Window; full || own > 0 && own <= h.Sink+h.Recent {
				policy = policyFull
			}
			score := toFloat(h.Scores[l][g])
			e.KVHeads = append(e.KVHeads, manifest.KVHead{Head: g, Decode: manifest.Always(policy), Prefill: policy, Score: &score})
		}
		layers[l] = e
	}
	return layers
}

func manifestRope(s *source) *manifest.Rope {
	if s.arch.Rope == nil {
		return nil
	}
	return &manifest.Rope{Theta: s.arch.Rope.Theta, Scaling: ropeScaling(s.ck.Config())}
}

// kvBudget counts the cache at powers of two up to the model's context.
func kvBudget(h *headsDecision, m *arch.Model) *manifest.Budget {
	const bf16Bytes = 2
	b := &manifest.Budget{KVBytesPerToken: heads.KVBytes(m, nil, 0, 0, bf16Bytes, 1).Dense, KVBytesAt: map[string]int64{},
		DensityAt: map[string]float64{}, TensorParallel: map[string][]int{}}
	for n := 256; n <= m.MaxPosition && n <= 1<<20; n *= 2 {
		c := heads.KVBytes(m, h.Full, h.Sink, h.Recent, bf16Bytes, n)
		key := strconv.Itoa(n)
		b.KVBytesAt[key] = c.Planned
		b.DensityAt[key] = math.Round(c.Density()*1e6) / 1e6
	}
	for tp := 2; tp <= 8; tp *= 2 {
		if load, err := heads.TensorParallel(h.Full, tp); err == nil {
			b.TensorParallel[strconv.Itoa(tp)] = load.PerRank
		}
	}
	return b
}

func manifestQuality(q *quality, gates Gates) *manifest.Quality {
	if q == nil || len(q.Plan) == 0 {
		return nil
	}
	out := &manifest.Quality{HeldOut: true, Gate: manifest.Gate{MaxDrop: gates.NeedleDrop}, Passed: q.planPassed(gates)}
	for _, m := range q.Plan {
		e := manifest.Metric{Name: m.Name, Dense: toFloat(m.Dense), Plan: toFloat(m.Plan), Better: "lower"}
		if m.Name == nameNeedle {
			e.Better = "higher"
		}
		out.Metrics = append(out.Metrics, e)
	}
	return out
}

func floats(h *headsDecision) [][]float64 {
	out := make([][]float64, len(h.Scores))
	for l, row := range h.Scores {
		out[l] = make([]float64, len(row))
		for g, s := range row {
			out[l][g] = toFloat(s)
		}
	}
	return out
}

func toFloat(n interface{ Float64() (float64, error) }) float64 {
	v, err := n.Float64()
	if err != nil {
		return 0
	}
	return v
}

// planMasks turns an attention plan into masks for this program's own forward pass, for prefill of a sequence of the given
// length. It executes the kinds full and streaming; others are an error.
func planMasks(p *manifest.Plan, m *arch.Model, length int) (func(layer int) []device.Mask, error) {
	caps := manifest.Capabilities{Kinds: []string{manifest.KindFull, manifest.KindStreaming},
		Features: []string{manifest.FeatureSinkTokens, manifest.FeaturePerKVHead, manifest.FeaturePerLayerHeads}}
	if err := p.Usable(caps); err != nil {
		return nil, errKind(KindInput, "", "attention plan: %w", err)
	}
	if p.Model.Layers != len(m.Layers) {
		return nil, errKind(KindInput, "", "attention plan: is for %d layers, the model has %d", p.Model.Layers, len(m.Layers))
	}
	all := make([][]device.Mask, len(m.Layers))
	for l := range m.Layers {
		if _, g := p.Counts(l); g != m.Layers[l].G {
			return nil, errKind(KindInput, "", "attention plan: layer %d has %d KV heads, the model's has %d", l, g, m.Layers[l].G)
		}
		masks, dense := make([]device.Mask, m.Layers[l].G), true
		for g := range masks {
			pol, _ := p.Resolve(l, g, manifest.Prefill, length)
			masks[g] = device.Mask{Recent: m.Layers[l].Window}
			if pol.Kind == manifest.KindStreaming {
				masks[g] = heads.StreamMask(pol.Sink, pol.Recent, m.Layers[l].Window)
				dense = dense && masks[g] == device.Mask{Recent: m.Layers[l].Window}
			}
		}
		if !dense {
			all[l] = masks
		}
	}
	return func(l int) []device.Mask { return all[l] }, nil
}

// checkManifest validates an attention plan document against the pointer of config.json and the digests of the result.
func checkManifest(doc []byte, ptr manifest.Pointer, d modelDigests) error {
	if err := ptr.Check(doc); err != nil {
		return err
	}
	p, err := manifest.Decode(doc)
	if err != nil {
		return err
	}
	if err := p.CheckModel(d.weights, d.headers, d.config); err != nil {
		return fmt.Errorf("pipeline: %w", err)
	}
	return nil
}
