package heads

import (
	"math"
	"sort"
)

// Selection says which KV heads keep the whole cache.
type Selection struct {
	Full  [][]bool // [layer][KV head]
	Count int      // heads that are full
	Total int
	// Cut is the rounded score of the last head that is full; +Inf where none is.
	Cut float64
	// TiesAtCut counts the heads left out whose rounded score equals Cut: their lot was decided by position alone.
	TiesAtCut int
}

// Round returns the score as selection compares it: six decimal digits, half away from zero, so that a difference in
// the last bits of two machines does not change a plan.
func Round(score float64) float64 {
	const unit = 1e6
	return math.Round(score*unit) / unit
}

// Count returns the number of heads that a share of the total stands for: the nearest whole number, half up, within
// [0, total].
func Count(total int, share float64) int {
	n := math.Floor(share*float64(total) + 0.5)
	return int(math.Max(0, math.Min(float64(total), n)))
}

// Select keeps the heads with the largest scores full, a share of all KV heads. Order: score (rounded to six digits)
// descending, layer ascending, head ascending.
func Select(scores [][]float64, fullShare float64) Selection {
	total := 0
	for _, row := range scores {
		total += len(row)
	}
	return SelectCount(scores, Count(total, fullShare))
}

type place struct {
	layer, head int
	score       float64
}

// SelectCount is [Select] for a number of heads instead of a share.
func SelectCount(scores [][]float64, count int) Selection {
	var order []place
	s := Selection{Full: make([][]bool, len(scores)), Cut: math.Inf(1)}
	for l, row := range scores {
		s.Full[l] = make([]bool, len(row))
		for h, v := range row {
			order = append(order, place{l, h, Round(v)})
		}
	}
	sort.SliceStable(order, func(i, j int) bool { return order[i].score > order[j].score })
	s.Total = len(order)
	s.Count = max(0, min(count, s.Total))
	for i, p := range order {
		if i < s.Count {
			s.Full[p.layer][p.head] = true
			s.Cut = p.score
		} else if p.score == s.Cut {
			s.TiesAtCut++
		}
	}
	return s
}

// SelectLayers keeps whole layers full, for runtimes that have one window per layer: those with the largest sum of
// scores, layer ascending among equals, as many as the share of layers with attention stands for.
func SelectLayers(scores [][]float64, fullShare float64) Selection {
	var sums [][]float64
	var index []int
	for l, row := range scores {
		if len(row) == 0 {
			continue
		}
		var sum float64
		for _, v := range row {
			sum += Round(v)
		}
		sums = append(sums, []float64{sum})
		index = append(index, l)
	}
	layers := Select(sums, fullShare)
	s := Selection{Full: make([][]bool, len(scores)), Cut: layers.Cut, TiesAtCut: layers.TiesAtCut}
	for l, row := range scores {
		s.Full[l] = make([]bool, len(row))
		s.Total += len(row)
	}
	for i, l := range index {
		if layers.Full[i][0] {
			s.Count += len(s.Full[l])
			for h := range s.Full[l] {
				s.Full[l][h] = true
			}
		}
	}
	return s
}
