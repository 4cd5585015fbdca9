package kvmerge

import (
	"math"
	"math/rand/v2"
)

// The schedule of simulated annealing (Kirkpatrick, Gelatt, Vecchi, 1983): sweeps of N² proposed swaps, after each of which it is
// colder by the factor cooling, from the spread of the costs of pairs down to a fraction of it.
const (
	annealRestarts = 8
	annealCooling  = 0.93
	annealEnd      = 1e-3
)

// annealing is one run over groups whose cost is estimated by the sum over their pairs.
type annealing struct {
	Grouping
	pair  [][]int64 // [N][N], steps
	in    []int     // group of each head
	to    [][]int64 // [N][N/T]: what a head would cost with the members of a group, itself left out
	mixed []bool    // of each group
	rng   *rand.Rand
}

// anneal returns the ends of all restarts. Costs of pairs were learned.
func (g Grouping) anneal(c *groupCosts) []Groups {
	pairs := subsets(g.N, 2)
	largest := c.largest(pairs)
	pair := make([][]int64, g.N)
	for i := range pair {
		pair[i] = make([]int64, g.N)
	}
	var mean float64
	for _, p := range pairs {
		w := steps(c.at(p), largest)
		pair[p[0]][p[1]], pair[p[1]][p[0]] = w, w
		mean += float64(w) / float64(len(pairs))
	}
	var spread float64
	for _, p := range pairs {
		spread += math.Abs(float64(pair[p[0]][p[1]])-mean) / float64(len(pairs))
	}
	out := make([]Groups, annealRestarts)
	body := func(i int) {
		a := newAnnealing(g, pair, rand.New(rand.NewPCG(g.Seed, uint64(i))))
		a.run(spread)
		out[i] = a.groups()
	}
	if g.Par != nil {
		g.Par(len(out), body)
	} else {
		for i := range out {
			body(i)
		}
	}
	return out
}

// newAnnealing starts from a random arrangement.
func newAnnealing(g Grouping, pair [][]int64, rng *rand.Rand) *annealing {
	a := &annealing{Grouping: g, pair: pair, in: make([]int, g.N), rng: rng}
	for i, members := range g.arrange(rng.Perm(g.N)) {
		a.mixed = append(a.mixed, g.mixed(members))
		for _, h := range members {
			a.in[h] = i
		}
	}
	for h := range g.N {
		to := make([]int64, g.N/g.T)
		for m, i := range a.in {
			to[i] += pair[h][m]
		}
		a.to = append(a.to, to)
	}
	return a
}

// run cools down and then takes every swap that helps.
func (a *annealing) run(spread float64) {
	for temperature := spread; temperature > annealEnd*spread; temperature *= annealCooling {
		for range a.N * a.N {
			x, y := a.rng.IntN(a.N), a.rng.IntN(a.N)
			// Accepted with the probability exp(-change/temperature), min 1.
			if a.legal(x, y) && float64(a.change(x, y)) <= temperature*a.rng.ExpFloat64() {
				a.swap(x, y)
			}
		}
	}
	for again := true; again; {
		again = false
		for x := range a.N {
			for y := x + 1; y < a.N; y++ {
				if a.legal(x, y) && a.change(x, y) < 0 {
					a.swap(x, y)
					again = true
				}
			}
		}
	}
}

func (a *annealing) legal(x, y int) bool {
	i, j := a.in[x], a.in[y]
	return i != j && a.swappable(x, y, a.mixed[i] && a.mixed[j])
}

// change is what it adds to the estimate that two heads change places.
func (a *annealing) change(x, y int) int64 {
	i, j := a.in[x], a.in[y]
	return a.to[x][j] - a.to[x][i] + a.to[y][i] - a.to[y][j] - 2*a.pair[x][y]
}

func (a *annealing) swap(x, y int) {
	i, j := a.in[x], a.in[y]
	a.in[x], a.in[y] = j, i
	for h := range a.N {
		d := a.pair[h][y] - a.pair[h][x]
		a.to[h][i] += d
		a.to[h][j] -= d
	}
}

func (a *annealing) groups() Groups {
	out := make(Groups, a.N/a.T)
	for h, i := range a.in {
		out[i] = append(out[i], h)
	}
	return out
}
