package heads

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"strconv"

	"modelpress/formats/manifest"
	"modelpress/internal/arch"
)

// Patterns says which prefill policy a planner chose for each query head, and how well it does on the windows that it was
// chosen by. Layers without attention have empty rows; heads of layers with a sliding window are left as the plan has
// them and have the policy "" and no loss.
type Patterns struct {
	Policy [][]manifest.Policy // [layer][query head]
	Error  *Scores             // ‖sparse − dense‖/‖dense‖ of the output; nil where that was not measured
	Mass   [][]float64         // share of attention retained, [layer][query head]
	// Work is the share of the causal query-key pairs that the policy computes on the longest window, for xattention over
	// its sampled queries.
	Work [][]float64
}

func newPatterns(method string, layers []arch.Layer, windows int) *Patterns {
	queries := func(l arch.Layer) int { return l.H }
	p := &Patterns{Mass: rowsOf(layers, queries), Work: rowsOf(layers, queries), Policy: make([][]manifest.Policy, len(layers)),
		Error: &Scores{Method: method, Unit: "relative error", Query: rowsOf(layers, queries), Samples: windows}}
	for l := range layers {
		p.Policy[l] = make([]manifest.Policy, layers[l].H)
		for h := range layers[l].H {
			p.Mass[l][h], p.Work[l][h] = 1, 1
		}
	}
	return p
}

// write enters the chosen policies into the plan as prefill policies: that of the KV head where its query heads agree,
// else one of each query head.
func (s *Patterns) write(p *manifest.Plan, layers []arch.Layer) error {
	for l, a := range layers {
		group := 0
		if a.HasAttention() {
			group = a.H / a.G
		}
		for g := range kvHeads(a) {
			e := entryOf(p, l, g)
			if e == nil {
				return fmt.Errorf("heads: the plan has no entry for head %d.%d", l, g)
			}
			ids, same := make([]string, group), true
			for i := range ids {
				pol := s.Policy[l][g*group+i]
				if pol.Kind == "" {
					ids = nil
					break
				}
				ids[i] = addPolicy(p, pol)
				same = same && ids[i] == ids[0]
			}
			switch {
			case ids == nil:
			case same:
				e.Prefill, e.QHeads = ids[0], nil
			default:
				e.QHeads = map[string]manifest.QueryHead{}
				for i, id := range ids {
					e.QHeads[strconv.Itoa(g*group+i)] = manifest.QueryHead{Prefill: id}
				}
			}
		}
	}
	p.Requires = p.Needs()
	return nil
}

// entryOf returns the plan's entry of a KV head, nil where it has none.
func entryOf(p *manifest.Plan, l, g int) *manifest.KVHead {
	for i := range p.Layers {
		if p.Layers[i].Layer != l {
			continue
		}
		for j := range p.Layers[i].KVHeads {
			if p.Layers[i].KVHeads[j].Head == g {
				return &p.Layers[i].KVHeads[j]
			}
		}
	}
	return nil
}

// addPolicy enters a policy under an id that tells its sizes, and returns the id.
func addPolicy(p *manifest.Plan, pol manifest.Policy) string {
	base := policyID(pol)
	want, err := json.Marshal(pol)
	if err != nil {
		panic(err) // known kinds have no value that JSON cannot hold
	}
	for id, n := base, 2; ; id, n = fmt.Sprintf("%s_%d", base, n), n+1 {
		have, taken := p.Policies[id]
		if !taken {
			p.Policies[id] = pol
			return id
		}
		if text, err := json.Marshal(have); err == nil && bytes.Equal(text, want) {
			return id
		}
	}
}

func policyID(p manifest.Policy) string {
	switch p.Kind {
	case manifest.KindFull:
		return PolicyFull
	case manifest.KindStreaming:
		return fmt.Sprintf("s%d_%d", p.Sink, p.Recent)
	case manifest.KindVerticalSlash:
		return fmt.Sprintf("v%d_%d", p.Vertical, p.Slash)
	case manifest.KindLocalStride:
		return fmt.Sprintf("l%d_%d_%d", p.LocalBlocks, p.VertStride, p.Offset)
	case manifest.KindPower:
		return fmt.Sprintf("p%d_%d", p.Sink, p.LocalBlocks)
	case manifest.KindBlockTopK:
		if p.Selector == "mean_pool" {
			return fmt.Sprintf("b%d", p.Blocks)
		}
		return "x" + strconv.FormatFloat(p.Threshold, 'g', -1, 64)
	}
	return p.Kind
}

// evidencePer records scores per query head.
func evidencePer(s *Scores, seed uint64, digest string) manifest.Evidence {
	e := evidenceOf(&Scores{Method: s.Method, Unit: s.Unit, Samples: s.Samples, KV: s.Query}, seed, digest)
	e.Per = "q_head"
	return e
}

// WindowOfDensity returns the recent window W of a prompt of length tokens under which queries see the given share of the
// causal pairs: T·W − W²/2 of T²/2, so W = T·(1 − √(1 − density)), at least 1.
func WindowOfDensity(length int, density float64) int {
	return max(1, int(math.Round(float64(length)*(1-math.Sqrt(1-math.Min(1, density))))))
}
