package heads

import (
	"math"
	"slices"
)

// improveAll improves the choices that the relaxation found and returns the best, nil where there are none.
func (p *program) improveAll(d *dual) *choice {
	var best *choice
	for _, c := range d.pool {
		c = p.improve(c, d)
		if best == nil || c.loss < best.loss {
			best = c
		}
	}
	return best
}

// rounds bounds the steps of one improvement.
const rounds = 150

// improve is a local search: the best single move that keeps the limits, else the best pair of moves, else the best new set of rules for a
// layer, until none of them helps.
func (p *program) improve(c *choice, d *dual) *choice {
	moves := make([][]move, len(p.rules))
	for range rounds {
		next := p.bestMoves(c, d.lambda, moves)
		if next == nil {
			next = p.resettle(c, d)
		}
		if next == nil {
			break
		}
		for l := range moves {
			if lo, hi := p.first[l], p.first[l+1]; !slices.Equal(c.rule[lo:hi], next.rule[lo:hi]) {
				moves[l] = nil
			}
		}
		c = next
	}
	return c
}

// leastGain is what an improvement must bring: a ten-millionth of the loss.
func (p *program) leastGain(c *choice) float64 {
	return math.Max(float64(1e-7*math.Abs(c.loss)), float64(1e-12*p.fMag))
}

// room is what the limits leave, and the loss that it could at most be exchanged for at the given prices. A set of moves that keeps the limits
// improves the loss only if its prices sum to less than that.
func (p *program) room(c *choice, lambda []float64) (left []float64, worth float64) {
	left = make([]float64, len(p.rows))
	for i, row := range p.rows {
		left[i] = row.b - c.total[i]
		worth += float64(lambda[i] * row.inv * left[i])
	}
	return left, worth
}

// maxMoves bounds the moves that are paired.
const maxMoves = 1000

// bestMoves returns the choice after the move, or the pair of moves, that lowers the loss most; nil where none does.
// moves keeps those of layers that have not changed.
func (p *program) bestMoves(c *choice, lambda []float64, moves [][]move) *choice {
	left, worth := p.room(c, lambda)
	var list []*move
	var cheapest float64
	single, gain := (*move)(nil), -p.leastGain(c)
	for l := range p.rules {
		if moves[l] == nil {
			moves[l] = p.moves(c, lambda, l)
		}
		for i := range moves[l] {
			m := &moves[l][i]
			cheapest = math.Min(cheapest, m.price)
			if m.loss < gain && fits(left, m.total, nil) {
				single, gain = m, m.loss
			}
			if single == nil && m.price+cheapest < worth {
				list = append(list, m)
			}
		}
	}
	if single != nil {
		return p.moved(c, single, nil)
	}
	slices.SortStableFunc(list, func(a, b *move) int { return compare(a.price, b.price) })
	list = list[:min(len(list), maxMoves)]
	var first, second *move
	for i, a := range list {
		for _, b := range list[i+1:] {
			if a.price+b.price >= worth {
				break
			}
			if a.loss+b.loss < gain && a.free(b) && fits(left, a.total, b.total) {
				first, second, gain = a, b, a.loss+b.loss
			}
		}
	}
	if first == nil {
		return nil
	}
	return p.moved(c, first, second)
}

// moved carries moves out; nil where rounding takes the gain away or breaks a limit.
func (p *program) moved(c *choice, a, b *move) *choice {
	next := p.clone(c)
	p.apply(next, a)
	if b != nil {
		p.apply(next, b)
	}
	return p.better(next, c)
}

func (p *program) better(next, c *choice) *choice {
	if next.loss < c.loss && p.violation(next.total) == 0 {
		return next
	}
	return nil
}

// free reports whether two moves can be made together: in different layers, or for different heads to rules that are in use
// already.
func (m *move) free(o *move) bool {
	return m.layer != o.layer || m.head >= 0 && o.head >= 0 && m.head != o.head && !m.opens && !o.opens
}

// fits reports whether the limits have room for one or two moves.
func fits(left, a, b []float64) bool {
	for i, x := range a {
		if b != nil {
			x += b[i]
		}
		if x > left[i] {
			return false
		}
	}
	return true
}

// pressures are the factors of the multipliers under which a layer is settled anew.
var pressures = []float64{0, 0.5, 0.75, 0.9, 1, 1.1, 1.25, 1.5, 2, 4}

// resettle returns a choice in which layers have other sets of at most two rules, and their heads those of them, that lower the loss
// within the limits; nil where there are none. Layers are settled one after the other.
func (p *program) resettle(c *choice, d *dual) *choice {
	if p.k == p.R {
		return nil // single heads reach everything
	}
	d.fill(d.lambda)
	now := c
	for l := range p.rules {
		if next := p.resettleLayer(now, d, l); next != nil {
			now = next
		}
	}
	if now == c {
		return nil
	}
	return now
}

func (p *program) resettleLayer(c *choice, d *dual, l int) *choice {
	lo, hi := p.first[l], p.first[l+1]
	if lo == hi {
		return nil
	}
	left, worth := p.room(c, d.lambda)
	w := hi - lo
	v, f := d.v[lo*p.R:hi*p.R], p.f[lo*p.R:hi*p.R]
	for h := range w {
		worth += v[c.rule[lo+h]*w+h]
	}
	under := make([]float64, len(v)) // prices under another pressure; only the columns of the set are filled in
	rule, found, total := make([]int, w), make([]int, 0, w), make([]float64, len(p.rows))
	gain := -p.leastGain(c)
	for i, a := range p.rules[l] {
		for _, b := range p.rules[l][i:] {
			if a != b && p.k == 1 || lesser(v[a*w:(a+1)*w], v[b*w:(b+1)*w]) >= worth {
				continue
			}
			set := []int{a, b}
			for _, pressure := range pressures {
				for _, r := range set {
					for j := r * w; j < (r+1)*w; j++ {
						under[j] = f[j] + float64(pressure*(v[j]-f[j]))
					}
				}
				assign(under, w, set, rule)
				if loss := p.exchange(c, lo, rule, total); loss < gain && fits(left, total, nil) {
					gain, found = loss, append(found[:0], rule...)
				}
			}
		}
	}
	if len(found) == 0 {
		return nil
	}
	next := p.clone(c)
	copy(next.rule[lo:], found)
	p.sum(next)
	return p.better(next, c)
}

// exchange returns what other rules for the heads from lo on add to the loss, and in total what they add to each row.
func (p *program) exchange(c *choice, lo int, rule []int, total []float64) (loss float64) {
	clear(total)
	for h, r := range rule {
		at, was := p.at(lo+h, r), p.at(lo+h, c.rule[lo+h])
		loss += p.f[at] - p.f[was]
		for n := range p.rows {
			total[n] += p.rows[n].a[at] - p.rows[n].a[was]
		}
	}
	return loss
}
