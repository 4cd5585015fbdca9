package nn

import (
	"fmt"

	"modelpress/formats/manifest"
	"modelpress/internal/num"
)

// choice is what a KV head selects keys by at each step of decoding: the fields of a token_topk policy with the selector
// attention, or of a block_topk policy, that say so.
type choice struct {
	tokens                bool
	selector              string
	budget, window, pool  int
	block, stride, blocks int
	threshold             float64
}

// choiceOf returns the choice that a policy makes at each step, nil where it makes none.
func choiceOf(p manifest.Policy) *choice {
	switch {
	case p.Kind == manifest.KindTokenTopK && p.Selector == "attention":
		return &choice{tokens: true, selector: p.Selector, budget: p.Budget, window: p.Window, pool: p.Pool}
	case p.Kind == manifest.KindBlockTopK:
		return &choice{selector: p.Selector, block: p.Block, stride: p.Stride, blocks: p.Blocks, threshold: p.Threshold}
	}
	return nil
}

// policy is the block_topk policy of the choice.
func (c *choice) policy() manifest.Policy {
	return manifest.Policy{Kind: manifest.KindBlockTopK, Selector: c.selector, Block: c.block, Stride: c.stride,
		Blocks: c.blocks, Threshold: c.threshold}
}

// selections holds what one layer has selected, by window, KV head and choice, for each step, as spans of positions.
type selections struct {
	byWindow map[int][]map[choice][][]Span // [G]
}

// selection finds what KV head g selects by, and what it selects for later layers.
func (w *work) selection(g int) error {
	s, e := w.s, &w.s.entries[w.layer]
	w.choose[g] = choiceOf(w.decode[g])
	if e.share >= 0 {
		c, err := s.sharedChoice(w.layer, g, w.window, w.t)
		if err != nil {
			return err
		}
		w.choose[g], w.shared = c, true
	}
	for _, l := range e.sharers {
		if !s.m.Arch.Layers[l].HasAttention() {
			continue
		}
		c, err := s.sharedChoice(l, g, w.window, w.t)
		if err != nil {
			return err
		}
		if c != nil && !hasChoice(w.offers[g], *c) {
			w.offers[g] = append(w.offers[g], *c)
		}
	}
	return nil
}

func hasChoice(list []choice, c choice) bool {
	for _, have := range list {
		if have == c {
			return true
		}
	}
	return false
}

// sharedChoice returns what KV head g of a layer that shares reads from the layer that selects: the choice of its own
// policy, else that of the selecting head's, nil where either hides nothing.
func (s *Server) sharedChoice(l, g, window, reach int) (*choice, error) {
	source := s.entries[l].share
	if a, b := s.m.Arch.Layers[l].G, s.m.Arch.Layers[source].G; a != b || !s.m.Arch.Layers[source].HasAttention() {
		return nil, fmt.Errorf("nn: serve: layer %d has %d KV heads and shares the selection of layer %d with %d", l, a, source, b)
	}
	own, _ := s.opt.Plan.Resolve(l, g, manifest.Decoding, s.length(window))
	if own.Kind == manifest.KindFull {
		own, _ = s.opt.Plan.Resolve(source, g, manifest.Decoding, s.length(window))
	}
	c := choiceOf(own)
	if c == nil {
		return nil, fmt.Errorf("nn: serve: layer %d, KV head %d: shares a selection, and no policy says how much of it", l, g)
	}
	if !s.opt.stepwise && hidesNothing(own, reach) {
		return nil, nil
	}
	return c, nil
}

// forget drops selections that no layer from l on reads.
func (s *Server) forget(l int) {
	for source := range s.shared {
		needed := false
		for _, sharer := range s.entries[source].sharers {
			needed = needed || sharer >= l
		}
		if !needed {
			delete(s.shared, source)
		}
	}
}

// offer makes room for the selections of this layer and returns those of KV head g.
func (w *work) offer(g int) map[choice][][]Span {
	if len(w.offers[g]) == 0 {
		return nil
	}
	sel := w.s.shared[w.layer]
	if sel == nil {
		sel = &selections{byWindow: map[int][]map[choice][][]Span{}}
		w.s.shared[w.layer] = sel
	}
	if sel.byWindow[w.window] == nil {
		sel.byWindow[w.window] = make([]map[choice][][]Span, len(w.decode))
	}
	m := map[choice][][]Span{}
	for _, c := range w.offers[g] {
		m[c] = make([][]Span, 0, w.t-w.prompt)
	}
	sel.byWindow[w.window][g] = m
	return m
}

// read returns the selections that KV head g shares, by step.
func (w *work) read(g int) ([][]Span, error) {
	sel := w.s.shared[w.s.entries[w.layer].share]
	if sel == nil || sel.byWindow[w.window] == nil || sel.byWindow[w.window][g] == nil {
		return nil, errNoSelection
	}
	return sel.byWindow[w.window][g][*w.choose[g]], nil
}

// selectBlocks chooses blocks for one query by the sum of the scores of the query heads of a KV head.
func selectBlocks(heads []num.AttnHead, i int, c *choice) []Span {
	p := c.policy()
	var total []float64
	for _, h := range heads {
		scores := BlockScores(h, i+1, p)(i, i+1)
		if total == nil {
			total = make([]float64, len(scores))
		}
		for b, v := range scores {
			total[b] += v
		}
	}
	var out []Span
	for _, b := range ChooseBlocks(total, i/c.block, p) {
		out = join(out, b*c.block, min((b+1)*c.block, i+1))
	}
	return out
}
