package manifest

import "fmt"

// RepeatKV carries the plan over to the same model with KV heads written several times: each KV head of layer l stands times[l]
// times in a row, 0 and 1 leaving the layer as it is. Checkpoints are written so for loaders that know one number of KV heads only.
// The query heads of a KV head, which keep their places, are shared out evenly among its copies: times[l] must divide their number.
//
// A copy decodes, scores and stores as its original, and every query head keeps its own prefill. Scores of evidence are repeated
// where they are those of KV heads. The copies of a head that was merged from others have the entries of the permutation that
// their query heads came with; where copies do not divide the entries, no index can stand for each of them and the permutation goes.
// Budget and quality go, and the digests are empty: the caller fills in those of the repeated model.
//
// MergeKV of the copies undoes it, but for channel masks and the permutation. Errors are a *FaultsError for a plan with faults, or
// wrap ErrMapping or ErrUnfit. p does not change.
func (p *Plan) RepeatKV(times []int) (*Plan, error) {
	layers := make([]int, p.Model.Layers)
	for l := range layers {
		layers[l] = l
	}
	m, err := p.newMapping(layers)
	if err != nil {
		return nil, err
	}
	if len(times) != len(layers) {
		return nil, fmt.Errorf("manifest: copies of %d layers for a model of %d: %w", len(times), len(layers), ErrMapping)
	}
	m.groups, m.copies = make([][][]int, len(layers)), make([]int, len(layers))
	for l, n := range times {
		if err := m.checkTimes(l, n); err != nil {
			return nil, err
		}
		m.copies[l] = max(1, n)
		m.groups[l] = [][]int{}
		for g := range m.kvHeads[l] {
			for range m.copies[l] {
				m.groups[l] = append(m.groups[l], []int{g})
			}
		}
	}
	if err := m.checkShared(); err != nil {
		return nil, err
	}
	return m.finish(false)
}

// checkTimes refuses a number of copies that the query heads of a KV head cannot be shared out among.
func (m *mapping) checkTimes(layer, n int) error {
	switch h, g := m.qHeads[layer], m.kvHeads[layer]; {
	case n < 0:
		return fmt.Errorf("manifest: layer %d: each KV head %d times: %w", layer, n, ErrMapping)
	case n > 1 && g == 0:
		return fmt.Errorf("manifest: layer %d: each KV head %d times, and it has none: %w", layer, n, ErrMapping)
	case n > 1 && h/g%n != 0:
		return fmt.Errorf("manifest: layer %d: %d copies do not share out the %d query heads of a KV head: %w", layer, n, h/g, ErrMapping)
	}
	return nil
}
