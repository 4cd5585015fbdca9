package heads

import (
	"strconv"

	"modelpress/formats/manifest"
	"modelpress/internal/arch"
)

// WriteHeadKV lets every KV head decode over the tokens that the prompt's last queries vote for (SnapKV, arXiv:2404.14469), as many
// as [HeadKVBudgets] gives it, and keeps the scores as evidence. Prefill stays full: tokens are chosen at its end.
func WriteHeadKV(p *manifest.Plan, m *arch.Model, scores *Scores, pol BudgetPolicy, from Record) error {
	budgets, err := HeadKVBudgets(m, scores, pol)
	if err != nil {
		return err
	}
	if err := writeBudgets(p, m, budgets, pol); err != nil {
		return err
	}
	w := writer{p, m}
	w.evidence(evidenceOf(scores, from.Seed, from.Digest))
	return nil
}

// WritePyramid is [WriteHeadKV] with the budgets of [PyramidBudgets], which no measurement goes into.
func WritePyramid(p *manifest.Plan, m *arch.Model, pol BudgetPolicy) error {
	budgets, err := PyramidBudgets(m, pol)
	if err != nil {
		return err
	}
	return writeBudgets(p, m, budgets, pol)
}

// writeBudgets writes a policy per budget. A head whose budget is all that its layer can see stays full.
func writeBudgets(p *manifest.Plan, m *arch.Model, budgets [][]int, pol BudgetPolicy) error {
	if err := pol.fill(1); err != nil {
		return err
	}
	w, err := newWriter(p, m)
	if err != nil {
		return err
	}
	for l, row := range budgets {
		for g, n := range row {
			h := w.head(l, g)
			if own := m.Layers[l].Window; n >= m.MaxPosition || own > 0 && n >= own {
				h.Decode = manifest.Always(PolicyFull)
				continue
			}
			id := "snapkv-" + strconv.Itoa(n)
			err := w.policy(id, manifest.Policy{Kind: manifest.KindTokenTopK, Selector: "snapkv", Budget: n, Window: pol.Window, Pool: pol.Pool})
			if err != nil {
				return err
			}
			h.Decode = manifest.Always(id)
		}
	}
	w.page(pol.Page)
	w.finish()
	return nil
}
