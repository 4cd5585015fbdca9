package manifest

import "fmt"

// MergeKV carries the plan over to the same model with KV heads merged: groups[l][i] lists the KV heads of layer l that became
// its head i, and a nil groups[l] leaves the layer as it is. Every head must be in one group, and the groups of a layer must be
// of one size, as grouped-query attention needs. Query heads follow their KV heads, in the order of the lists.
//
// A merged head decodes as its widest member: full where one is full, or where they differ and the size of one is only known at
// run time. In prefill every query head keeps its own policy. Scores become the largest of the members', channel masks go, and the
// permutation records the members. A layer that takes another's choice of tokens must have that layer's groups. Budget and quality go, and the digests are empty: the caller fills in those of the merged model.
// Errors are a *FaultsError for a plan with faults, or wrap ErrMapping or ErrUnfit. p does not change.
func (p *Plan) MergeKV(groups [][][]int) (*Plan, error) {
	layers := make([]int, p.Model.Layers)
	for l := range layers {
		layers[l] = l
	}
	m, err := p.newMapping(layers)
	if err != nil {
		return nil, err
	}
	if len(groups) != len(layers) {
		return nil, fmt.Errorf("manifest: groups of %d layers for a model of %d: %w", len(groups), len(layers), ErrMapping)
	}
	if fullID(p.Policies) == "" {
		m.out.Policies = withFull(p.Policies)
	}
	changed := false
	m.groups = make([][][]int, len(layers))
	for l, row := range groups {
		if row == nil {
			m.groups[l] = single(m.kvHeads[l])
			continue
		}
		if err := checkGroups(l, row, m.kvHeads[l]); err != nil {
			return nil, err
		}
		m.groups[l], changed = row, true
	}
	if err := m.checkShared(); err != nil {
		return nil, err
	}
	return m.finish(changed)
}

// withFull returns the policies and a full one, for heads that cannot be merged otherwise.
func withFull(policies map[string]Policy) map[string]Policy {
	out, id := map[string]Policy{}, KindFull
	for k, v := range policies {
		out[k] = v
	}
	for _, taken := out[id]; taken; _, taken = out[id] {
		id += "_"
	}
	out[id] = Full()
	return out
}

// single returns the groups that leave heads as they are.
func single(heads int) [][]int {
	out := make([][]int, heads)
	for i := range out {
		out[i] = []int{i}
	}
	return out
}

func checkGroups(layer int, groups [][]int, heads int) error {
	seen := make([]bool, heads)
	n := 0
	for _, from := range groups {
		if len(from) == 0 || len(from) != len(groups[0]) {
			return fmt.Errorf("manifest: layer %d: groups of %d and %d KV heads: %w", layer, len(groups[0]), len(from), ErrMapping)
		}
		for _, i := range from {
			if i < 0 || i >= heads || seen[i] {
				return fmt.Errorf("manifest: layer %d: KV head %d is none of %d, or in two groups: %w", layer, i, heads, ErrMapping)
			}
			seen[i] = true
			n++
		}
	}
	if n != heads {
		return fmt.Errorf("manifest: layer %d: %d of %d KV heads are in a group: %w", layer, n, heads, ErrMapping)
	}
	return nil
}
