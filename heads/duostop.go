package heads

import (
	"math"
	"slices"
	"sort"
)

// restMove is how far the mean gate may move between checks where training has come to rest: from the start on the penalty pulls
// all gates down alike, and the first heads to resist are in order long before the others have found their place.
const restMove = 0.02

// stability compares the mean gates since the last check with those of the check before and puts them in their place.
func (d *duo) stability() {
	mean := make([]float64, len(d.sum))
	c := DuoCheck{Step: d.step, Loss: d.loss / float64(d.opt.Every)}
	for i, v := range d.sum {
		mean[i] = v / float64(d.opt.Every)
		c.Mean += mean[i] / float64(len(mean))
	}
	c.Rank = spearman(d.checked, mean)
	if d.opt.Share > 0 {
		was, now := Select(d.rows(d.checked), d.opt.Share), Select(d.rows(mean), d.opt.Share)
		for l, row := range now.Full {
			for g, full := range row {
				if full && !was.Full[l][g] {
					c.Changed++
				}
			}
		}
		before := 0.0
		for _, v := range d.checked {
			before += v / float64(len(mean))
		}
		c.Stable = c.Changed == 0 && now.TiesAtCut == 0 && Round(c.Rank) >= Round(d.opt.MinRank) && math.Abs(c.Mean-before) <= restMove
	}
	d.checks = append(d.checks, c)
	d.loss, d.checked = 0, mean
	clear(d.sum)
}

// settled reports whether enough checks in a row were stable.
func (d *duo) settled() bool {
	n := len(d.checks)
	if d.opt.Share <= 0 || d.step < d.opt.MinSteps || n < d.opt.Patience {
		return false
	}
	return !slices.ContainsFunc(d.checks[n-d.opt.Patience:], func(c DuoCheck) bool { return !c.Stable })
}

// spearman is the rank correlation of two rows of scores, rounded as selection compares them, with equal scores sharing
// the mean of their ranks; 0 where one of them is constant.
func spearman(a, b []float64) float64 {
	x, y := ranks(a), ranks(b)
	mean := float64(len(a)-1) / 2
	var xy, xx, yy float64
	for i := range x {
		u, v := x[i]-mean, y[i]-mean
		xy += float64(u * v)
		xx += float64(u * u)
		yy += float64(v * v)
	}
	if xx == 0 || yy == 0 {
		return 0
	}
	return xy / math.Sqrt(xx*yy)
}

func ranks(v []float64) []float64 {
	order := make([]int, len(v))
	for i := range order {
		order[i] = i
	}
	sort.SliceStable(order, func(i, j int) bool { return Round(v[order[i]]) < Round(v[order[j]]) })
	out := make([]float64, len(v))
	for lo := 0; lo < len(order); {
		hi := lo + 1
		for hi < len(order) && Round(v[order[hi]]) == Round(v[order[lo]]) {
			hi++
		}
		for _, i := range order[lo:hi] {
			out[i] = float64(lo+hi-1) / 2
		}
		lo = hi
	}
	return out
}
