package pipeline

import (
	"strings"

	"modelpress/heads/kvmerge"
	"modelpress/internal/arch"
)

// KVMerge merges KV heads, so that a model of fewer of them results.
type KVMerge struct {
	// KVHeads is the number of KV heads of every layer; KVBudget, in its place, the share of the KV cache's bytes that may be left,
	// spread over layers by what merging costs them.
	KVHeads  int      `yaml:"kv_heads" json:"kv_heads,omitempty"`
	KVBudget *float64 `yaml:"kv_budget" json:"kv_budget,omitempty"`
	Keys     string   `yaml:"keys" json:"keys"`         // pca, procrustes, mean, first, select; auto
	Values   string   `yaml:"values" json:"values"`     // as Keys, but auto
	Grouping string   `yaml:"grouping" json:"grouping"` // cost or contiguous
	// Mix lets retrieval heads share with others. Where it is false a head retrieves whose Score reaches Threshold.
	Mix       bool    `yaml:"mix" json:"mix"`
	Score     string  `yaml:"score" json:"score"`         // wu, induction, echo, plan; auto
	Threshold float64 `yaml:"threshold" json:"threshold"` // of wu, induction and echo
	Refit     *bool   `yaml:"refit" json:"refit"`
	Layout    string  `yaml:"layout" json:"layout"` // portable or compact
	// TensorParallel lists group sizes that the merged heads must divide over.
	TensorParallel []int `yaml:"tensor_parallel" json:"tensor_parallel,omitempty"`
}

const (
	layoutPortable = "portable"
	layoutCompact  = "compact"

	groupingCost       = "cost"
	groupingContiguous = "contiguous"

	auto = "auto"
)

// mergeScores tell retrieval heads without knowing what streaming heads would keep, or take the full heads of the attention plan that the
// model carries.
var mergeScores = []string{"wu", "induction", "echo", scorePlan}

const scorePlan = "plan"

func defaultKVMerge() *KVMerge {
	refit := true
	return &KVMerge{Keys: auto, Values: string(kvmerge.PCA), Grouping: groupingCost, Score: auto, Threshold: 0.1, Refit: &refit, Layout: layoutPortable}
}

// fillDefaults sets what a section without it means.
func (k *KVMerge) fillDefaults() {
	if k.Refit == nil {
		yes := true
		k.Refit = &yes
	}
}

func (k *KVMerge) check(f *faults, r *Recipe) {
	f.add((k.KVHeads == 0) == (k.KVBudget == nil), "kvmerge: give kv_heads or kv_budget, one of them; there is no default")
	f.add(k.KVHeads < 0 || k.KVHeads > 1<<14, "kvmerge.kv_heads %d: want 1 to 16384", k.KVHeads)
	f.add(k.KVBudget != nil && !(*k.KVBudget > 0 && *k.KVBudget <= 1), "kvmerge.kv_budget %v: want more than 0 and at most 1", orNaN(k.KVBudget))
	keys := append([]string{auto}, methodNames(kvmerge.Methods())...)
	f.add(!oneOf(k.Keys, keys...), "kvmerge.keys %q: known are %s", k.Keys, strings.Join(keys, ", "))
	f.add(!oneOf(k.Values, keys[1:]...), "kvmerge.values %q: known are %s", k.Values, strings.Join(keys[1:], ", "))
	f.add(!oneOf(k.Grouping, groupingCost, groupingContiguous), "kvmerge.grouping %q: want %s or %s", k.Grouping, groupingCost, groupingContiguous)
	scores := append([]string{auto}, mergeScores...)
	f.add(!oneOf(k.Score, scores...), "kvmerge.score %q: known are %s", k.Score, strings.Join(scores, ", "))
	f.add(!k.Mix && k.Score == "wu" && r.Retrieval == nil, "kvmerge.score wu needs the retrieval section")
	f.add(!(k.Threshold > 0 && k.Threshold <= 1), "kvmerge.threshold %v: want more than 0 and at most 1", k.Threshold)
	f.add(!oneOf(k.Layout, layoutPortable, layoutCompact), "kvmerge.layout %q: want %s or %s", k.Layout, layoutPortable, layoutCompact)
	for _, n := range k.TensorParallel {
		f.add(n < 2 || n > 1024, "kvmerge.tensor_parallel %d: want 2 to 1024", n)
	}
}

func methodNames(list []kvmerge.Method) []string {
	out := make([]string, len(list))
	for i, m := range list {
		out[i] = string(m)
	}
	return out
}

// SetLayout replaces the layout of merged KV heads.
func (r *Recipe) SetLayout(layout string) error {
	if r.KVMerge == nil {
		return errKind(KindUsage, "give the recipe a section kvmerge", "--layout: the recipe merges no KV heads")
	}
	r.KVMerge.Layout = layout
	if err := r.check(); err != nil {
		return &Error{Kind: KindUsage, Err: err}
	}
	return nil
}

// ways returns how keys and values are merged in a model. Keys that are normalized head by head can only be chosen: a mean or a turned
// key would pass the norm otherwise than its parts.
func (k *KVMerge) ways(m *arch.Model) (kvmerge.Ways, error) {
	w := kvmerge.Ways{Key: kvmerge.Method(k.Keys), Value: kvmerge.Method(k.Values)}
	normed := ""
	for l := range m.Layers {
		if n := m.Layers[l].KNorm.Weight; n != "" {
			normed = n
		}
	}
	switch {
	case k.Keys == auto && normed != "":
		w.Key = kvmerge.Select
	case k.Keys == auto:
		w.Key = kvmerge.PCA
	case normed != "" && w.Key != kvmerge.Select && w.Key != kvmerge.First:
		return w, errKind(KindUsage, "set kvmerge.keys to auto, select or first", "recipe: kvmerge.keys %s: the model normalizes keys head by head (%s), so that they cannot be combined", k.Keys, normed)
	}
	return w, nil
}

// shapes is a decision of the shapes that the recipe asks for, with groups yet to be found; nil where the number of heads is yet to
// be found too and the layout makes it the same for all layers. For a budget of uneven layers it is an example of them: a target that
// refuses it would refuse the result after all the work.
func (k *KVMerge) shapes(m *arch.Model) (*mergeDecision, error) {
	if _, err := k.ways(m); err != nil {
		return nil, err
	}
	attends := false
	for l := range m.Layers {
		attends = attends || m.Layers[l].HasAttention()
	}
	if !attends {
		return nil, errKind(KindUsage, "remove the section", "recipe: kvmerge: the model has no attention")
	}
	if k.KVBudget != nil && k.Layout == layoutPortable {
		return nil, nil
	}
	layers, err := unevenLayers(m), error(nil)
	if k.KVBudget == nil {
		layers, err = uniformLayers(m, k.KVHeads)
	}
	if err == nil {
		err = layOut(m, layers, k.Layout)
	}
	if err != nil {
		return nil, err
	}
	d := &mergeDecision{Layers: make([]mergedLayer, len(layers))}
	for l, layer := range layers {
		d.Layers[l] = mergedLayer{Groups: layer.Groups, Repeat: layer.Repeat}
	}
	return d, nil
}
