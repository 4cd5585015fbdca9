package heads

import (
	"modelpress/formats/manifest"
	"modelpress/internal/arch"
)

// PolicyFull is the id of the policy that hides nothing.
const PolicyFull = "full"

// Draft returns an attention plan over a model in which every KV head has an entry and sees everything, for planners to
// narrow. Its counts of heads are the model's; digests, rotary parameters and the producer are for the caller to fill in.
func Draft(m *arch.Model) *manifest.Plan {
	first := m.Layers[0]
	for _, l := range m.Layers {
		if l.HasAttention() {
			first = l
			break
		}
	}
	p := manifest.New(manifest.Model{Architecture: m.Architecture, Layers: len(m.Layers), Heads: first.H, KVHeads: first.G,
		HeadDim: first.K, MaxPosition: m.MaxPosition}, manifest.Producer{Name: "compress"})
	p.Phases.Prefill.FirstChunk = "policy"
	p.Layers = make([]manifest.Layer, len(m.Layers))
	for l, a := range m.Layers {
		e := manifest.Layer{Layer: l, Select: "none", KVHeads: []manifest.KVHead{}}
		switch {
		case !a.HasAttention():
			e.NoAttention = true
		case a.H != first.H || a.G != first.G:
			e.Heads, e.KVHeadCount = a.H, a.G
		}
		for g := range kvHeads(a) {
			e.KVHeads = append(e.KVHeads, manifest.KVHead{Head: g, Decode: manifest.Always(PolicyFull), Prefill: PolicyFull})
		}
		p.Layers[l] = e
	}
	return p
}

// evidenceOf records scores as a plan holds them, with six decimal digits.
func evidenceOf(s *Scores, seed uint64, digest string) manifest.Evidence {
	return manifest.Evidence{Method: s.Method, Unit: s.Unit, Samples: s.Samples, Seed: seed, DataDigest: digest, Scores: roundRows(s.KV)}
}

// roundRows rounds every score as selection compares it.
func roundRows(rows [][]float64) [][]float64 {
	out := make([][]float64, len(rows))
	for l, row := range rows {
		out[l] = make([]float64, len(row))
		for g, v := range row {
			out[l][g] = Round(v)
		}
	}
	return out
}

// WriteEvidence records scores in a plan without letting them decide anything.
func WriteEvidence(p *manifest.Plan, m *arch.Model, s *Scores, from Record) error {
	w, err := newWriter(p, m)
	if err != nil {
		return err
	}
	w.evidence(evidenceOf(s, from.Seed, from.Digest))
	return nil
}
