package pipeline

import (
	"encoding/json"
	"fmt"
	"reflect"

	"modelpress/formats/planfile"
	"modelpress/heads/kvmerge"
	"modelpress/internal/arch"
)

// mergeDecision is every choice that merging KV heads needs at apply time. The maps themselves are computed again there, from the
// same calibration data.
type mergeDecision struct {
	Keys   string        `json:"keys"`
	Values string        `json:"values"`
	Refit  bool          `json:"refit"`
	Layers []mergedLayer `json:"layers"`
	// Retrieval says by which measure heads were told apart, "" where any may share; Classes is 1 for a retrieval head.
	Retrieval string   `json:"retrieval,omitempty"`
	Classes   [][]int  `json:"classes,omitempty"`
	HeldOut   []metric `json:"held_out"` // source and merged model
}

// mergedLayer is what becomes of the KV heads of one layer.
type mergedLayer struct {
	Groups [][]int `json:"groups"` // null for a layer that stays as it is
	Repeat int     `json:"repeat"`
	// What the layer is expected to lose: shares of the energy of scores and of values, and of its output before the fit.
	Key    json.Number `json:"key_loss"`
	Value  json.Number `json:"value_loss"`
	Output json.Number `json:"output_loss"`
	Mixed  int         `json:"mixed_groups"`  // groups of retrieval and other heads, where their numbers leave no choice
	Exact  bool        `json:"best_grouping"` // no other grouping is expected to lose less
}

func (d *mergeDecision) ways() kvmerge.Ways {
	return kvmerge.Ways{Key: kvmerge.Method(d.Keys), Value: kvmerge.Method(d.Values)}
}

// layers is the decision as package kvmerge takes it; nil where nothing is merged.
func (d *mergeDecision) layers() []kvmerge.Layer {
	if d == nil {
		return nil
	}
	out := make([]kvmerge.Layer, len(d.Layers))
	for l, m := range d.Layers {
		out[l] = kvmerge.Layer{Groups: m.Groups, Repeat: m.Repeat}
	}
	return out
}

// uniformLayers merges all layers of a model to a number of KV heads in contiguous groups: the shapes of what a recipe asks for.
func uniformLayers(m *arch.Model, kvHeads int) ([]kvmerge.Layer, error) {
	out := make([]kvmerge.Layer, len(m.Layers))
	merged := false
	for l := range m.Layers {
		a := &m.Layers[l]
		if !a.HasAttention() {
			continue
		}
		if kvHeads > a.G || a.G%kvHeads != 0 {
			return nil, errKind(KindUsage, "choose a number that divides it", "recipe: kvmerge.kv_heads %d: layer %d has %d KV heads", kvHeads, l, a.G)
		}
		out[l] = kvmerge.Layer{Groups: kvmerge.Contiguous(a.G, a.G/kvHeads)}
		merged = merged || kvHeads < a.G
	}
	if !merged {
		return nil, errKind(KindUsage, "ask for fewer", "recipe: kvmerge.kv_heads %d: the model has no more", kvHeads)
	}
	return out, nil
}

// unevenLayers merges all layers but the first that attends to half of their KV heads, or what comes next to it.
func unevenLayers(m *arch.Model) []kvmerge.Layer {
	out := make([]kvmerge.Layer, len(m.Layers))
	first := true
	for l := range m.Layers {
		a := &m.Layers[l]
		if !a.HasAttention() {
			continue
		}
		t := 1
		if counts := headCounts(a.G); !first && len(counts) > 1 {
			t = a.G / counts[1]
		}
		out[l], first = kvmerge.Layer{Groups: kvmerge.Contiguous(a.G, t)}, false
	}
	return out
}

// layOut sets how often each merged head is written: so often that all layers have the same number of heads where the layout is
// portable, and as many as before where the model's class cannot have fewer.
func layOut(m *arch.Model, layers []kvmerge.Layer, layout string) error {
	most := 0
	for l := range layers {
		if g := written(m, layers, l); g > most {
			most = g
		}
	}
	for l := range layers {
		a := &m.Layers[l]
		if !a.HasAttention() {
			continue
		}
		want := written(m, layers, l)
		switch {
		case oneHeadCount(a):
			want = a.G
		case layout == layoutPortable:
			want = most
		}
		g := len(layers[l].Groups)
		if want%g != 0 || a.H%want != 0 {
			return errKind(KindUsage, "set kvmerge.layout to compact, or give kv_heads", "layer %d: %d merged KV heads cannot be repeated into %d, which other layers have", l, g, want)
		}
		layers[l].Repeat = want / g
	}
	return nil
}

// oneHeadCount reports whether queries, keys and values of a layer are one tensor, which has one number of heads.
func oneHeadCount(a *arch.Layer) bool {
	k := &a.Linears[arch.K]
	return k.StoredOut != k.Out
}

// written is the number of KV heads that a layer is merged to.
func written(m *arch.Model, layers []kvmerge.Layer, l int) int {
	if !m.Layers[l].HasAttention() {
		return 0
	}
	return layers[l].Written(m.Layers[l].G)
}

func (d *mergeDecision) summary(m *arch.Model) string {
	kind := "keys by " + d.Keys + ", values by " + d.Values
	if d.Refit {
		kind += ", outputs refitted"
	}
	before, after := 0, 0
	for l := range m.Layers {
		if m.Layers[l].HasAttention() {
			before += m.Layers[l].G
			after += len(d.Layers[l].Groups)
		}
	}
	return fmt.Sprintf("%d KV heads to %d, %s", before, after, kind)
}

// rows tells for each layer what becomes of its heads and what that is expected to lose, and what a token takes of the cache.
func (d *mergeDecision) rows(m, merged *arch.Model) []planfile.Row {
	var rows []planfile.Row
	for l := range m.Layers {
		a, b := &m.Layers[l], &d.Layers[l]
		if !a.HasAttention() {
			continue
		}
		text := fmt.Sprintf("k,v %d -> %d kv heads", a.G, len(b.Groups))
		if b.Repeat > 1 {
			text += fmt.Sprintf(", each written %d times", b.Repeat)
		}
		if len(b.Groups) < a.G {
			text += fmt.Sprintf("; expected to lose %s of scores, %s of values", percent(b.Key), percent(b.Value))
		}
		switch b.Mixed {
		case 0:
		case 1:
			text += "; one group of retrieval and other heads"
		default:
			text += fmt.Sprintf("; %d groups of retrieval and other heads", b.Mixed)
		}
		rows = append(rows, planfile.Row{Mark: "±", Scope: layerRange(l, l+1), Text: text})
	}
	before, after := m.KVBytesPerToken(bf16Bytes), merged.KVBytesPerToken(bf16Bytes)
	rows = append(rows, planfile.Row{Mark: "=", Scope: "kv cache", Text: fmt.Sprintf("%d -> %d bytes a token (bf16)", before, after), Delta: 0})
	for _, h := range d.HeldOut {
		rows = append(rows, planfile.Row{Mark: "=", Scope: "held out", Text: fmt.Sprintf("%s %s -> %s", h.Name, h.Dense, h.Plan)})
	}
	return rows
}

func percent(n json.Number) string { return fmt.Sprintf("%.1f %%", 100*toFloat(n)) }

// check refuses a decision that does not follow from the settings and the model as far as that can be told without data, or that
// no model could have.
func (d *mergeDecision) check(m *arch.Model, r *KVMerge) (f faults) {
	w, err := r.ways(m)
	if err != nil {
		return append(f, err)
	}
	f.add(d.Keys != string(w.Key) || d.Values != string(w.Value) || r.Refit == nil || d.Refit != *r.Refit,
		"the decision of step %s does not follow from the settings", stepMerge)
	if len(d.Layers) != len(m.Layers) {
		f.add(true, "the decision of step %s is for %d layers, the model has %d", stepMerge, len(d.Layers), len(m.Layers))
		return f
	}
	layers := d.layers()
	heads, total := int64(0), int64(0)
	for l := range m.Layers {
		a := &m.Layers[l]
		if !a.HasAttention() {
			f.add(d.Layers[l].Groups != nil || d.Layers[l].Repeat > 1, "layer %d: it has no attention to merge", l)
			continue
		}
		if err := layers[l].Groups.Check(a.G); err != nil {
			f.add(true, "layer %d: %w", l, err)
			continue
		}
		f.add(r.Grouping == groupingContiguous && !reflect.DeepEqual(layers[l].Groups, kvmerge.Contiguous(a.G, len(layers[l].Groups[0]))),
			"layer %d has groups that are not contiguous", l)
		f.add(r.KVHeads > 0 && len(layers[l].Groups) != r.KVHeads, "layer %d has %d KV heads, the settings say %d", l, len(layers[l].Groups), r.KVHeads)
		heads += int64(len(layers[l].Groups) * a.K)
		total += int64(a.G * a.K)
	}
	if len(f) > 0 {
		return f
	}
	f.add(r.KVBudget != nil && heads > budgetOf(total, *r.KVBudget), "the merged heads exceed kv_budget")
	want := make([]kvmerge.Layer, len(layers))
	copy(want, layers)
	for l := range want {
		want[l].Repeat = 0
	}
	if err := layOut(m, want, r.Layout); err != nil {
		return append(f, err)
	}
	f.add(!reflect.DeepEqual(want, layers), "the decision of step %s lays heads out otherwise than the settings say", stepMerge)
	return f
}

// budgetOf is the part of a number of bytes that a share leaves.
func budgetOf(total int64, share float64) int64 { return int64(float64(total)*share + 1e-6) }
