package heads

import (
	"fmt"
	"math"

	"modelpress/internal/arch"
)

// BudgetPolicy says how many tokens heads keep where a budget is shared out among them. Zero values stand for those in
// brackets.
type BudgetPolicy struct {
	Base   int     // mean tokens of a KV head, the window's included [128]; rounded up to whole pages
	Window int     // last queries of the prompt, which vote and are always kept [32]
	Pool   int     // width of the pooling of votes [7]
	Beta   float64 // how unequal budgets are: see [HeadKVBudgets] and [PyramidBudgets]
	Page   int     // tokens of a cache page, of which every budget is a multiple; 0 for none
}

func (b *BudgetPolicy) fill(beta float64) error {
	set(&b.Base, 128)
	set(&b.Window, 32)
	set(&b.Pool, 7)
	set(&b.Beta, beta)
	b.Page = max(b.Page, 1)
	b.Base = RoundUp(b.Base, b.Page)
	const most = 1 << 30
	if b.Base <= b.Window || b.Window < 1 || b.Pool < 1 || b.Base > most || b.Page > most || !(b.Beta >= 1) || math.IsInf(b.Beta, 0) {
		return fmt.Errorf("heads: budgets of %d tokens with a window of %d, pooled over %d, beta %g, pages of %d", b.Base, b.Window,
			b.Pool, b.Beta, b.Page)
	}
	return nil
}

// HeadKVBudgets shares Base tokens a KV head out by score (HeadKV, arXiv:2410.19258): with b = Base − Window, every head
// keeps its window and b − ⌊b/Beta⌋ tokens, and the ⌊b/Beta⌋ that all heads give up go to heads in proportion to their scores.
// Beta, 1 or more [1.2], is small where budgets follow the scores closely. No head gets more than its layer can see; budgets are
// whole pages, and their sum is exactly Base times the number of heads: see apportion. Negative scores count as 0.
func HeadKVBudgets(m *arch.Model, scores *Scores, pol BudgetPolicy) ([][]int, error) {
	if err := pol.fill(1.2); err != nil {
		return nil, err
	}
	if err := shaped(m, "scores", scores.KV); err != nil {
		return nil, err
	}
	var total float64
	n := 0
	for l, row := range scores.KV {
		for g, v := range row {
			if math.IsNaN(v) || math.IsInf(v, 0) {
				return nil, fmt.Errorf("heads: score %g of head %d.%d", v, l, g)
			}
			total += math.Max(0, Round(v))
			n++
		}
	}
	b := float64(pol.Base - pol.Window)
	given := math.Floor(b / pol.Beta)
	ideal := rowsOf(m.Layers, kvHeads)
	for l, row := range scores.KV {
		for g, v := range row {
			share := 1 / float64(n) // nobody scores: everybody gets the same
			if total > 0 {
				share = math.Max(0, Round(v)) / total
			}
			ideal[l][g] = float64(pol.Window) + b - given + float64(float64(given*float64(n))*share)
		}
	}
	return pol.shares(m, ideal)
}

// PyramidBudgets lets budgets fall evenly from layer to layer (PyramidKV, arXiv:2406.02069): beyond the window, the last layer
// with attention keeps b/Beta tokens a head, b = Base − Window, and the first 2b − b/Beta. Beta is 1 or more [20]; 1 gives every layer
// the same. Heads of a layer get the same, unless layers differ in their number of KV heads. Budgets are whole pages, no more than the layer can see,
// and their sum is exactly Base times the number of heads.
func PyramidBudgets(m *arch.Model, pol BudgetPolicy) ([][]int, error) {
	if err := pol.fill(20); err != nil {
		return nil, err
	}
	var with []int
	for l := range m.Layers {
		if kvHeads(m.Layers[l]) > 0 {
			with = append(with, l)
		}
	}
	b := float64(pol.Base - pol.Window)
	last := b / pol.Beta
	first := 2*b - last
	ideal := rowsOf(m.Layers, kvHeads)
	uniform := true
	for i, l := range with {
		v := b
		if len(with) > 1 {
			v = first - float64((first-last)*float64(i))/float64(len(with)-1)
		}
		for g := range ideal[l] {
			ideal[l][g] = float64(pol.Window) + v
		}
		uniform = uniform && len(ideal[l]) == len(ideal[with[0]])
	}
	if !uniform {
		return pol.shares(m, ideal)
	}
	one := *m // a model of one head a layer: what is shared out is the budget of a layer
	one.Layers = append([]arch.Layer(nil), m.Layers...)
	for _, l := range with {
		ideal[l] = ideal[l][:1]
		one.Layers[l].G = 1
	}
	rows, err := pol.shares(&one, ideal)
	if err != nil {
		return nil, err
	}
	for _, l := range with {
		for len(rows[l]) < kvHeads(m.Layers[l]) {
			rows[l] = append(rows[l], rows[l][0])
		}
	}
	return rows, nil
}

// shares turns ideal budgets in tokens into whole pages.
func (b BudgetPolicy) shares(m *arch.Model, ideal [][]float64) ([][]int, error) {
	var want []float64
	var most []int
	for l, row := range ideal {
		for _, v := range row {
			sees := m.MaxPosition
			if w := m.Layers[l].Window; w > 0 {
				sees = min(sees, w)
			}
			want = append(want, v/float64(b.Page))
			most = append(most, ceilDiv(sees, b.Page))
		}
	}
	got := apportion(want, len(want)*(b.Base/b.Page), ceilDiv(b.Window, b.Page), most)
	if got == nil {
		return nil, fmt.Errorf("heads: %d tokens a head are more than the layers can see", b.Base)
	}
	out := make([][]int, len(ideal))
	for l, row := range ideal {
		out[l] = make([]int, len(row))
		for g := range row {
			out[l][g], got = got[0]*b.Page, got[1:]
		}
	}
	return out, nil
}
