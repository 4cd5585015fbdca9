package prune

import (
	"slices"
)

// layerSums are the sums of a layer's n best scores, for every n; nil where there are no scores.
type layerSums struct{ heads, ffn []float64 }

// sumsOf returns the sums of the best 0 to n scores.
func sumsOf(scores []float64) []float64 {
	if scores == nil {
		return nil
	}
	sums := make([]float64, 1, len(scores)+1)
	for _, v := range slices.Backward(slices.Sorted(slices.Values(scores))) {
		sums = append(sums, sums[len(sums)-1]+v)
	}
	return sums
}

// move is a change of one layer's heads or FFN channels by one step.
type move struct {
	layer, to int
	mean      float64 // score of the units that go or come
	cost      float64 // of the model afterwards
}

// repair changes counts until they meet the target, and reports whether they do.
func (f *fit) repair(c *Counts) bool {
	if f.sums == nil {
		f.sums = make([]layerSums, len(f.m.Layers))
		for l := range f.sums {
			if f.s != nil {
				f.sums[l] = layerSums{sumsOf(f.s.Layers[l].Heads), sumsOf(f.s.Layers[l].FFN)}
			}
		}
	}
	goal := f.t.Share * f.whole
	for {
		cost := f.cost.soft(c.Expected()).Value
		if f.t.near(cost / f.whole) {
			return true
		}
		f.miss.note(cost / f.whole)
		grow := cost < goal
		found := f.r.FFN && f.step(c, cost, grow, f.ffnMove)
		if !found && f.r.Heads && !fused(f.m) {
			found = f.step(c, cost, grow, f.headMove)
		}
		if !found {
			return false
		}
	}
}

// step takes the best move that leads towards the target and not past it.
func (f *fit) step(c *Counts, cost float64, grow bool, next func(c *Counts, l int, grow bool) (move, *int, bool)) bool {
	var best move
	var at *int
	for l := range c.Layers {
		m, count, ok := next(c, l, grow)
		if !ok {
			continue
		}
		old := f.layerCost(c, l)
		was := *count
		*count = m.to
		m.cost = cost + f.layerCost(c, l) - old
		*count = was
		share := m.cost / f.whole
		if !f.t.near(share) && (share < f.t.Share) != grow {
			f.miss.note(share)
			continue
		}
		if at == nil || grow && m.mean > best.mean || !grow && m.mean < best.mean {
			best, at = m, count
		}
	}
	if at == nil {
		return false
	}
	*at = best.to
	return true
}

func (f *fit) layerCost(c *Counts, l int) float64 {
	n := c.Layers[l]
	return f.cost.layers[l].value(float64(c.Hidden), float64(n.Heads), float64(n.FFN))
}

// ffnMove is the step to the next FFN width of a layer, with a pointer to its count.
func (f *fit) ffnMove(c *Counts, l int, grow bool) (move, *int, bool) {
	count, full := &c.Layers[l].FFN, f.m.Layers[l].F
	if *count == 0 {
		return move{}, nil, false
	}
	to := (*count - 1) / f.r.FFNMultiple * f.r.FFNMultiple
	if grow {
		to = min(full, (*count/f.r.FFNMultiple+1)*f.r.FFNMultiple)
	}
	if to == 0 || to == *count {
		return move{}, nil, false
	}
	return move{layer: l, to: to, mean: mean(f.sums[l].ffn, *count, to)}, count, true
}

// headMove is the step to the next number of KV heads of a layer, with a pointer to its count.
func (f *fit) headMove(c *Counts, l int, grow bool) (move, *int, bool) {
	count := &c.Layers[l].Heads
	if *count == 0 {
		return move{}, nil, false
	}
	list := f.r.headCounts(f.m.Layers[l].G)
	i, _ := slices.BinarySearch(list, *count)
	if grow {
		i++
	} else {
		i--
	}
	if i < 0 || i == len(list) {
		return move{}, nil, false
	}
	return move{layer: l, to: list[i], mean: mean(f.sums[l].heads, *count, list[i])}, count, true
}

// mean returns the mean score of the units between two counts.
func mean(sums []float64, a, b int) float64 {
	if sums == nil {
		return 0
	}
	if a > b {
		a, b = b, a
	}
	return (sums[b] - sums[a]) / float64(b-a)
}
