package manifest

import (
	"fmt"
	"slices"
)

// Prune carries the plan over to the same model with layers and KV heads left out: keepLayers are the layers that stay, ascending, and
// keepHeads[i] the KV heads of keepLayers[i] that stay, ascending, with their query heads; nil keeps all, and an empty list stands for a layer
// that lost its attention. A nil keepHeads keeps all heads of all layers that stay.
//
// Layers say which they were in source_layer, heads in the permutation. A layer that shares the attention of a dropped layer, or of one
// that kept other heads, is ErrMapping. Budget and quality go, and the digests are empty: the caller fills in those of the pruned model.
// Errors are a *FaultsError for a plan with faults, or wrap ErrMapping. p does not change.
func (p *Plan) Prune(keepLayers []int, keepHeads [][]int) (*Plan, error) {
	m, err := p.newMapping(keepLayers)
	if err != nil {
		return nil, err
	}
	if len(keepLayers) == 0 || keepHeads != nil && len(keepHeads) != len(keepLayers) {
		return nil, fmt.Errorf("manifest: heads of %d layers for %d that stay: %w", len(keepHeads), len(keepLayers), ErrMapping)
	}
	changed, attention := false, false
	for n, l := range keepLayers {
		if err := ascending("layer", keepLayers[:n+1], p.Model.Layers); err != nil {
			return nil, err
		}
		if keepHeads == nil || keepHeads[n] == nil {
			m.groups = append(m.groups, single(m.kvHeads[l]))
			attention = attention || m.kvHeads[l] > 0
			continue
		}
		groups := [][]int{}
		for i, g := range keepHeads[n] {
			if err := ascending("KV head", keepHeads[n][:i+1], m.kvHeads[l]); err != nil {
				return nil, err
			}
			groups = append(groups, []int{g})
		}
		m.groups = append(m.groups, groups)
		changed = changed || len(groups) != m.kvHeads[l]
		attention = attention || len(groups) > 0
	}
	if !attention {
		return nil, fmt.Errorf("manifest: no KV head stays: %w", ErrMapping)
	}
	if err := m.checkShared(); err != nil {
		return nil, err
	}
	return m.finish(changed)
}

// ascending checks the last of some indices against the one before and the number of what there is.
func ascending(what string, list []int, n int) error {
	last := list[len(list)-1]
	if last < 0 || last >= n || len(list) > 1 && list[len(list)-2] >= last {
		return fmt.Errorf("manifest: %s %d is none of %d, or not after the one before: %w", what, last, n, ErrMapping)
	}
	return nil
}

// checkShared refuses a layer that would take the choice of heads which are not those that it had it from.
func (m *mapping) checkShared() error {
	for n, old := range m.layers {
		l := m.by[old]
		if l == nil || l.ShareAttentionWith == nil {
			continue
		}
		from := m.newLayer(*l.ShareAttentionWith)
		if from < 0 {
			continue // refused later, by name
		}
		if !slices.EqualFunc(m.groups[n], m.groups[from], slices.Equal) && m.kvHeads[old] == m.kvHeads[m.layers[from]] {
			return fmt.Errorf("manifest: layer %d shares the attention of layer %d, and their heads are not the same any more: %w", old, m.layers[from], ErrMapping)
		}
	}
	return nil
}
