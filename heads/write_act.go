package heads

import (
	"fmt"
	"strconv"

	"modelpress/formats/manifest"
	"modelpress/internal/arch"
)

// fullPrefill reports whether the plan leaves the prefill of a KV head full: a head that is narrowed would see everything again.
func fullPrefill(p *manifest.Plan, layer, g int) bool {
	id := p.Layers[layer].KVHeads[g].Prefill
	if id == "" {
		id = p.Defaults.Prefill
	}
	return p.Policies[id].Kind == manifest.KindFull
}

// apply gives query heads the policy in prefill.
func (a *ACTHeads) apply(p *manifest.Plan, m *arch.Model, heads []place) error {
	w, err := newWriter(p, m)
	if err != nil {
		return err
	}
	const id = "act"
	for _, c := range heads {
		pol := manifest.Policy{Kind: manifest.KindSinkScaled, Skip: a.opt.Skip, Threshold: a.opt.Threshold, Scale: a.opt.Scale}
		if err := w.policy(id, pol); err != nil {
			return err
		}
		layer := m.Layers[c.layer]
		h := w.head(c.layer, c.head/(layer.H/layer.G))
		if h.QHeads == nil {
			h.QHeads = map[string]manifest.QueryHead{}
		}
		h.QHeads[strconv.Itoa(c.head)] = manifest.QueryHead{Prefill: id}
	}
	w.finish()
	return nil
}

// Write gives the chosen query heads the policy that turns sinks down in prefill, and keeps gains and sink mass as evidence.
func (a *ACTHeads) Write(p *manifest.Plan, m *arch.Model, mass *Scores, from Record) error {
	if len(a.Chosen) != len(m.Layers) {
		return fmt.Errorf("heads: a choice of heads in %d layers for a model of %d", len(a.Chosen), len(m.Layers))
	}
	var heads []place
	for l, row := range a.Chosen {
		if len(row) != m.Layers[l].H {
			return fmt.Errorf("heads: layer %d: a choice of %d query heads, the model has %d", l, len(row), m.Layers[l].H)
		}
		for h, chosen := range row {
			if chosen {
				heads = append(heads, place{layer: l, head: h})
			}
		}
	}
	if err := a.apply(p, m, heads); err != nil {
		return err
	}
	shares := evidenceOf(mass, from.Seed, from.Digest)
	shares.Per, shares.Scores = "q_head", roundRows(mass.Query)
	gains := manifest.Evidence{Method: "act", Unit: "fall of the loss", Samples: mass.Samples, Seed: from.Seed, DataDigest: from.Digest,
		Per: "q_head", Scores: roundRows(a.Gain)}
	(&writer{p, m}).evidence(shares, gains)
	return nil
}

// clonePlan copies what planners change.
func clonePlan(p *manifest.Plan) *manifest.Plan {
	c := *p
	c.Policies = map[string]manifest.Policy{}
	for id, pol := range p.Policies {
		c.Policies[id] = pol
	}
	c.Requires = append([]string{}, p.Requires...)
	c.Evidence = append([]manifest.Evidence(nil), p.Evidence...)
	c.Layers = append([]manifest.Layer{}, p.Layers...)
	for l := range c.Layers {
		list := append([]manifest.KVHead{}, c.Layers[l].KVHeads...)
		for g := range list {
			if list[g].QHeads == nil {
				continue
			}
			own := map[string]manifest.QueryHead{}
			for h, q := range list[g].QHeads {
				own[h] = q
			}
			list[g].QHeads = own
		}
		c.Layers[l].KVHeads = list
	}
	return &c
}
