package heads

import "math"

// bundle maximises the bound by a proximal bundle method (Lemaréchal 1975; Kiwiel 1990): each choice that was the cheapest at some multipliers is
// a plane above the bound, and the next multipliers are those at which the lowest of the planes is highest, less the
// squared distance from the best multipliers so far.
type bundle struct {
	center []float64
	value  float64 // of the bound at the center
	t      float64 // how far a step goes: the distance costs |λ-center|²/2t
	null   int     // steps since the center moved
	cuts   []*cut
}

// cut is the plane loss + slope·λ of a choice; alpha is its share in the last step.
type cut struct {
	c     *choice
	slope []float64
	alpha float64
}

// maxCuts bounds the planes that are kept.
const maxCuts = 60

func (p *program) cutOf(c *choice) *cut {
	x := &cut{c: c, slope: make([]float64, len(p.rows))}
	for i, row := range p.rows {
		x.slope[i] = (c.total[i] - row.b) * row.inv
	}
	return x
}

func (x *cut) at(lambda []float64) float64 {
	v := x.c.loss
	for i, s := range x.slope {
		v += float64(s * lambda[i])
	}
	return v
}

// add keeps a plane, in place of one that had no share in the last step where there are too many.
func (b *bundle) add(x *cut) {
	if len(b.cuts) == maxCuts {
		at := 0
		for i, o := range b.cuts {
			if o.alpha < b.cuts[at].alpha {
				at = i
			}
		}
		b.cuts = append(b.cuts[:at], b.cuts[at+1:]...)
	}
	b.cuts = append(b.cuts, x)
}

// step writes the multipliers of the next try and returns what the planes promise there above the center's bound.
func (b *bundle) step(lambda []float64) (gain float64) {
	const exchanges = 300
	var sum float64
	for _, x := range b.cuts {
		sum += x.alpha
	}
	if sum == 0 {
		b.cuts[len(b.cuts)-1].alpha, sum = 1, 1
	}
	slope := make([]float64, len(lambda))
	for _, x := range b.cuts {
		x.alpha /= sum
		for i, s := range x.slope {
			slope[i] += float64(x.alpha * s)
		}
	}
	low, high := 0.0, 0.0
	for range exchanges {
		b.move(lambda, slope)
		var from, to *cut
		for _, x := range b.cuts {
			v := x.at(lambda)
			if to == nil || v < low {
				to, low = x, v
			}
			if x.alpha > 0 && (from == nil || v > high) {
				from, high = x, v
			}
		}
		if from == to || high-low <= float64(1e-10*(math.Abs(low)+math.Abs(b.value))) {
			break
		}
		b.exchange(lambda, slope, from, to)
	}
	return low - b.value
}

// move writes the multipliers that a slope leads to from the center.
func (b *bundle) move(lambda, slope []float64) {
	for i := range lambda {
		lambda[i] = math.Max(0, b.center[i]+float64(b.t*slope[i]))
	}
}

// exchange shifts share from one plane to another as far as it lowers the dual of the step, which is convex along the way: until the two
// planes are equally high, by bisection.
func (b *bundle) exchange(lambda, slope []float64, from, to *cut) {
	next := make([]float64, len(slope))
	shifted := func(share float64) float64 {
		for i := range next {
			next[i] = slope[i] + float64(share*(to.slope[i]-from.slope[i]))
		}
		b.move(lambda, next)
		return to.at(lambda) - from.at(lambda)
	}
	lo, hi := 0.0, from.alpha
	if shifted(hi) > 0 {
		for range 40 {
			if mid := (lo + hi) / 2; shifted(mid) > 0 {
				hi = mid
			} else {
				lo = mid
			}
		}
		shifted(lo)
		hi = lo
	}
	copy(slope, next)
	to.alpha += hi
	if from.alpha -= hi; from.alpha < 1e-12 {
		from.alpha = 0
	}
}

// learn takes what a try at lambda came to: value is that of the bound there. It moves the center where enough of the promised gain came
// true, and adapts the length of steps.
func (b *bundle) learn(lambda []float64, value, gain float64) {
	if value < b.value+float64(0.1*gain) {
		if b.null++; b.null%4 == 0 {
			b.t *= 0.7
		}
		return
	}
	if value > b.value+float64(0.5*gain) {
		b.t *= 2
	}
	copy(b.center, lambda)
	b.value, b.null = value, 0
}

// blend rounds the mean of the choices by their shares, which keeps the limits: layer by layer it takes the rules of one of them, so
// that the sums stay as near to the mean's as they can. backward begins at the last layer.
func (p *program) blend(cuts []*cut, backward bool) *choice {
	mixed := &choice{rule: make([]int, len(p.layer))}
	due := make([]float64, len(p.rows)) // the mean's sums so far, less those of the layers taken
	var some []*cut
	for _, x := range cuts {
		if x.alpha > 0 {
			some = append(some, x)
		}
	}
	part := make([][]float64, len(some))
	for n := range p.rules {
		l := n
		if backward {
			l = len(p.rules) - 1 - n
		}
		for j, x := range some {
			part[j] = p.layerTotal(x.c, l)
			for i, v := range part[j] {
				due[i] += float64(x.alpha * v)
			}
		}
		best, least := 0, math.Inf(1)
		for j := range some {
			var off float64
			for i, v := range part[j] {
				e := (due[i] - v) * p.rows[i].inv
				off += float64(e * e)
			}
			if off < least {
				best, least = j, off
			}
		}
		for i, v := range part[best] {
			due[i] -= v
		}
		copy(mixed.rule[p.first[l]:p.first[l+1]], some[best].c.rule[p.first[l]:p.first[l+1]])
	}
	p.sum(mixed)
	return mixed
}

// layerTotal sums each row over the heads of a layer.
func (p *program) layerTotal(c *choice, l int) []float64 {
	total := make([]float64, len(p.rows))
	for h := p.first[l]; h < p.first[l+1]; h++ {
		at := p.at(h, c.rule[h])
		for i := range p.rows {
			total[i] += p.rows[i].a[at]
		}
	}
	return total
}
