package kvmerge

import "math"

// best returns the member whose vectors stand best for those of all.
func best(d *dense) int {
	at, least := 0, math.Inf(1)
	for keep := range d.t {
		lost, _ := d.lost(d.plain(First, keep))
		if sum := total(lost); sum < least*(1-1e-9) {
			at, least = keep, sum
		}
	}
	return at
}

// bestKey is best over all dimensions of keys.
func (s *Stats) bestKey(members []int) int {
	sums := make([]float64, len(members))
	s.eachKey(members, func(_ int, p *pairs) error {
		for keep := range sums {
			e, _ := p.merge(First, keep)
			lost, _ := p.lost(e)
			sums[keep] += total(lost) / 2
		}
		return nil
	}, func(d *dense) error {
		for keep := range sums {
			lost, _ := d.lost(d.plain(First, keep))
			sums[keep] += total(lost)
		}
		return nil
	})
	at := 0
	for keep, v := range sums {
		if v < sums[at]*(1-1e-9) {
			at = keep
		}
	}
	return at
}
