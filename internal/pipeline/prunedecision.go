package pipeline

import (
	"encoding/json"
	"fmt"

	"modelpress/formats"
	"modelpress/formats/planfile"
	"modelpress/internal/arch"
	"modelpress/prune"
	"modelpress/prune/importance"
)

// pruneDecision is what stays of a model, with the scales that masks have learnt. Everything that led to it is done.
type pruneDecision struct {
	Method  string      `json:"method"`
	Metric  string      `json:"metric"` // what the target bounds
	Share   json.Number `json:"share"`  // of it that is left
	Cut     *prune.Cut  `json:"cut"`
	Before  prunedCost  `json:"before"`
	After   prunedCost  `json:"after"`
	HeldOut []metric    `json:"held_out"` // source and pruned model, before anything recovers
	Notes   []string    `json:"notes,omitempty"`
	// Joint says that weights were trained along with masks: apply does it again, and must come to the same cut.
	Joint bool `json:"joint,omitempty"`
}

// prunedCost is what a model costs.
type prunedCost struct {
	Params  int64 `json:"params"`
	FLOPs   int64 `json:"flops"`    // of a token
	KVBytes int64 `json:"kv_bytes"` // of a token, in 16-bit values
}

func costOfModel(m *arch.Model, length int) prunedCost {
	c := prune.Count(m, length)
	return prunedCost{c.Params, c.FLOPs, c.KVBytes}
}

// goal is what the recipe asks for.
func (p *Prune) goal() prune.Target {
	t := prune.Target{Metric: prune.ByParams, Share: p.Params, Length: p.Length}
	switch {
	case p.FLOPs > 0:
		t.Metric, t.Share = prune.ByFLOPs, p.FLOPs
	case p.KV > 0:
		t.Metric, t.Share = prune.ByKV, p.KV
	}
	return t
}

// rules say which sizes may change.
func (p *Prune) rules() prune.Rules {
	has := func(axis string) bool { return oneOf(axis, p.Axes...) }
	return prune.Rules{Hidden: has("hidden"), Heads: has("heads"), FFN: has("ffn"), Depth: has("layers"), HiddenMultiple: p.Multiple, FFNMultiple: p.Multiple,
		AnyHeads: p.Layout == layoutCompact || p.AnyHeads}
}

// allows reports whether only such sizes of m changed in n as the axes name, and whether its layers are alike where the layout has them so.
func (p *Prune) allows(m, n *arch.Model, c *prune.Cut) bool {
	r := p.rules()
	ok := (r.Hidden || n.D == m.D) && (r.Depth || len(n.Layers) == len(m.Layers))
	for i, l := range c.Kept() {
		a, b := &m.Layers[l], &n.Layers[i]
		ok = ok && (r.Heads || a.G == b.G) && (r.FFN || a.F == b.F) && (p.Layout == layoutCompact || b.Size() == n.Layers[0].Size()) &&
			(r.Depth || a.HasAttention() == b.HasAttention() && a.HasFFN() == b.HasFFN())
	}
	return ok
}

// depth is what layers are ranked by: where none may go, whatever costs no pass of its own.
func (p *Prune) depth() importance.Depth {
	if !oneOf("layers", p.Axes...) {
		return importance.ByMethod
	}
	return importance.Depth(p.Depth)
}

// joined returns the source with weights that were trained along with masks; s itself where there are none.
func (s *source) joined(weights formats.Source) *source {
	if weights == nil {
		return s
	}
	return &source{dir: s.dir, ck: s.ck, dense: weights, arch: s.arch}
}

// pruned returns the source as it is once units are left out; s itself where none are. It needs no closing.
func (s *source) pruned(d *pruneDecision) (*source, []prune.Change, error) {
	if d == nil {
		return s, nil, nil
	}
	changes, err := prune.Changed(s.dense, s.arch, d.Cut)
	if err != nil {
		return nil, nil, err
	}
	view, m, err := prune.View(s.dense, s.arch, d.Cut)
	if err != nil {
		return nil, nil, err
	}
	return &source{dir: s.dir, ck: s.ck, dense: view, arch: m}, changes, nil
}

func (d *pruneDecision) summary(before, after *arch.Model) string {
	return fmt.Sprintf("%s leaves %s of %s: %s", d.Method, percent(d.Share), d.Metric, shapeWords(before, after))
}

// shapeWords says what changed between two models.
func shapeWords(m, n *arch.Model) string {
	text := fmt.Sprintf("%d of %d layers, width %d of %d", len(n.Layers), len(m.Layers), n.D, m.D)
	word := func(what string, size func(*arch.Layer) int) {
		least, most := size(&n.Layers[0]), size(&n.Layers[0])
		for l := range n.Layers {
			least, most = min(least, size(&n.Layers[l])), max(most, size(&n.Layers[l]))
		}
		of := 0
		for l := range m.Layers {
			of = max(of, size(&m.Layers[l]))
		}
		if least == most {
			text += fmt.Sprintf(", %d of %d %s", most, of, what)
			return
		}
		text += fmt.Sprintf(", %d to %d of %d %s", least, most, of, what)
	}
	word("KV heads", func(a *arch.Layer) int { return a.G })
	word("FFN channels", func(a *arch.Layer) int { return a.F })
	return text
}

// rows say what becomes of each layer, what the model costs, and what was measured.
func (d *pruneDecision) rows(m *arch.Model) []planfile.Row {
	rows := []planfile.Row{{Mark: "-", Scope: "stream", Text: fmt.Sprintf("width %d -> %d", m.D, left(&d.Cut.Hidden, m.D))}}
	for l := range m.Layers {
		a, c := &m.Layers[l], &d.Cut.Layers[l]
		text := fmt.Sprintf("%d -> %d kv heads with their queries, %d -> %d ffn channels", a.G, left(&c.Heads, a.G), a.F, left(&c.FFN, a.F))
		if c.Drop {
			text = "left out"
		}
		rows = append(rows, planfile.Row{Mark: "-", Scope: layerRange(l, l+1), Text: text})
	}
	for _, c := range []struct {
		scope, unit   string
		before, after int64
	}{{"parameters", "", d.Before.Params, d.After.Params}, {"operations", " a token", d.Before.FLOPs, d.After.FLOPs},
		{"kv cache", " bytes a token (bf16)", d.Before.KVBytes, d.After.KVBytes}} {
		rows = append(rows, planfile.Row{Mark: "=", Scope: c.scope, Text: fmt.Sprintf("%d -> %d%s", c.before, c.after, c.unit)})
	}
	for _, h := range d.HeldOut {
		rows = append(rows, planfile.Row{Mark: "=", Scope: "held out", Text: fmt.Sprintf("%s %s -> %s", h.Name, h.Dense, h.Plan)})
	}
	return rows
}

// left is how many of n units stay.
func left(u *prune.Units, n int) int {
	if u.Keep == nil {
		return n
	}
	return len(u.Keep)
}

// kept lists the layers of m that stay, and the KV heads of each, nil where all do or none were. It is nil for a model that is not
// pruned.
func (d *pruneDecision) kept(m *arch.Model) (layers []int, heads [][]int) {
	if d == nil {
		return nil, nil
	}
	layers = d.Cut.Kept()
	for _, l := range layers {
		k := d.Cut.Layers[l].Heads.Keep
		if len(k) == m.Layers[l].G { // or no attention
			k = nil
		}
		heads = append(heads, k)
	}
	return layers, heads
}

// layers lists the layers of the source that stay; nil where nothing is pruned.
func (d *pruneDecision) layers() []int {
	if d == nil {
		return nil
	}
	return d.Cut.Kept()
}
