package heads

import "math"

// dualRounds is how often prices are moved at most.
const dualRounds = 300

// dual chooses heads by Lagrangian relaxation (Everett, 1963), for cases too many for exact: each busiest load has a price, the
// best choice under prices is found exactly layer by layer, and prices move towards where the bounds are met (Polyak's
// step). It returns the best choice met within the bounds, nil where there was none, and the least of the sums that prices
// prove to be out of reach.
func (b *balance) dual(layers [][]balanceChoice) (full [][]bool, bound float64) {
	var scale float64
	for _, list := range layers {
		for _, c := range list {
			scale = math.Max(scale, math.Abs(c.score))
		}
	}
	best := math.Inf(-1)
	note := func(picks []int, score float64, loads []int) {
		if below(loads, b.limit) && score > best {
			best, full = score, chosen(layers, picks)
		}
	}
	price := make([]float64, len(b.ranks))
	// Prices past every score balance whatever it costs: the loads together first, then each of them.
	for first := -1; first < len(price); first++ {
		for i := range price {
			price[i] = 4 * scale
			if i == first {
				price[i] *= 1024
			}
		}
		note(b.priced(layers, price))
	}
	if full == nil {
		return nil, 0
	}
	clear(price)
	bound = math.Inf(1)
	damp := 1.0
	for range dualRounds {
		picks, score, loads := b.priced(layers, price)
		note(picks, score, loads)
		value, slope := score, 0.0
		for i, n := range loads {
			over := float64(n - b.limit[i])
			value -= float64(price[i] * over)
			slope += over * over
		}
		if value >= bound {
			damp *= 0.95
		}
		bound = math.Min(bound, value)
		if slope == 0 || bound <= best {
			break
		}
		for i, n := range loads {
			price[i] = math.Max(0, price[i]+damp*(value-best)/slope*float64(n-b.limit[i]))
		}
	}
	return full, math.Max(bound, best)
}

// priced returns the choice of each layer whose scores less the prices of its loads are largest in sum, among those of the
// full count, with its score and loads.
func (b *balance) priced(layers [][]balanceChoice, price []float64) (picks []int, score float64, loads []int) {
	at := make([]float64, b.count+1)
	for n := range at {
		at[n] = math.Inf(-1)
	}
	at[0] = 0
	taken := make([][]int, len(layers))
	for l, list := range layers {
		next := make([]float64, b.count+1)
		taken[l] = make([]int, b.count+1)
		for n := range next {
			next[n] = math.Inf(-1)
		}
		for i, c := range list {
			v := c.score
			for r, p := range price {
				v -= float64(p * float64(c.loads[r]))
			}
			for n := c.count; n <= b.count; n++ {
				if at[n-c.count]+v > next[n] {
					next[n], taken[l][n] = at[n-c.count]+v, i
				}
			}
		}
		at = next
	}
	picks, loads = make([]int, len(layers)), make([]int, len(price))
	n := b.count
	for l := len(layers) - 1; l >= 0; l-- {
		picks[l] = taken[l][n]
		c := layers[l][picks[l]]
		n -= c.count
		score += c.score
		for i, v := range c.loads {
			loads[i] += v
		}
	}
	return picks, score, loads
}

func chosen(layers [][]balanceChoice, picks []int) [][]bool {
	full := make([][]bool, len(layers))
	for l, i := range picks {
		full[l] = layers[l][i].full
	}
	return full
}
