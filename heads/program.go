package heads

import (
	"errors"
	"fmt"
	"math"
)

// program is a knapsack laid out for the solver. Tables are flat: the rules of a layer stand one after the other, and the
// layer's heads within each, so that loops over the heads of a layer under one rule are contiguous.
type program struct {
	R     int
	k     int   // most distinct rules of a layer, R where there is no limit
	first []int // [layer+1]: first head of each layer
	layer []int // [head]
	rules [][]int
	f     []float64 // the objective
	fMag  float64   // Σ over heads of the largest |f|
	rows  []row
}

// row is one linear limit: Σ a ≤ b.
type row struct {
	a      []float64
	b      float64
	inv    float64 // 1/scale of the row, so that multipliers and violations of rows compare
	mag    float64 // Σ over heads of the largest |a|, and |b|
	length int
	what   string
	unit   float64 // from the row's units to those that are reported; negative for a lower limit
}

// at is the place of a head's rule in a table.
func (p *program) at(h, r int) int {
	l := p.layer[h]
	return p.first[l]*p.R + r*(p.first[l+1]-p.first[l]) + h - p.first[l]
}

// newProgram checks the tables and lays them out.
func newProgram(k *Knapsack) (*program, error) {
	p := &program{first: []int{0}}
	for l, heads := range k.Loss {
		for range heads {
			p.layer = append(p.layer, l)
		}
		p.first = append(p.first, len(p.layer))
		if p.R == 0 && len(heads) > 0 {
			p.R = len(heads[0])
		}
	}
	if len(p.layer) == 0 || p.R == 0 {
		return nil, errors.New("heads: knapsack: no KV heads or no rules")
	}
	if p.k = k.Distinct; p.k < 0 {
		return nil, fmt.Errorf("heads: knapsack: at most %d distinct rules of a layer", p.k)
	} else if p.k == 0 || p.k > p.R {
		p.k = p.R
	}
	var err error
	if p.f, err = p.table("loss", k.Loss); err != nil {
		return nil, err
	}
	p.fMag = p.magnitude(p.f)
	for i := range k.Caches {
		if err := p.addCache(&k.Caches[i], len(k.Loss)); err != nil {
			return nil, err
		}
	}
	for _, e := range k.Losses {
		a, err := p.table(fmt.Sprintf("loss at %d tokens", e.Length), e.Loss)
		if err != nil {
			return nil, err
		}
		if math.IsNaN(e.Max) || math.IsInf(e.Max, 0) {
			return nil, fmt.Errorf("heads: knapsack: limit of the loss at %d tokens: %v is not finite", e.Length, e.Max)
		}
		p.add(row{a: a, b: e.Max, length: e.Length, what: "loss", unit: 1})
	}
	p.prune()
	return p, nil
}

func (p *program) table(what string, t [][][]float64) ([]float64, error) {
	if len(t) != len(p.first)-1 {
		return nil, fmt.Errorf("heads: knapsack: %s has %d layers, want %d", what, len(t), len(p.first)-1)
	}
	out := make([]float64, len(p.layer)*p.R)
	for l, heads := range t {
		if len(heads) != p.first[l+1]-p.first[l] {
			return nil, fmt.Errorf("heads: knapsack: %s of layer %d has %d KV heads, want %d", what, l, len(heads), p.first[l+1]-p.first[l])
		}
		for g, values := range heads {
			if len(values) != p.R {
				return nil, fmt.Errorf("heads: knapsack: %s of layer %d, KV head %d has %d rules, want %d", what, l, g, len(values), p.R)
			}
			for r, v := range values {
				if !(math.Abs(v) <= 1e150) {
					return nil, fmt.Errorf("heads: knapsack: %s of layer %d, KV head %d, rule %d: %v is not finite or too large", what, l, g, r, v)
				}
				out[p.at(p.first[l]+g, r)] = v
			}
		}
	}
	return out, nil
}

// addCache turns a bound of the density into one of whole tokens, or two. Sums of whole tokens are exact in float64.
func (p *program) addCache(c *CacheLimit, layers int) error {
	name := fmt.Sprintf("heads: knapsack: cache at %d tokens", c.Length)
	if len(c.Size) != layers || len(c.Dense) != layers {
		return fmt.Errorf("%s: sizes of %d layers and dense sizes of %d, want %d", name, len(c.Size), len(c.Dense), layers)
	}
	if !(c.Max >= 0) || !(c.Min >= 0) || math.IsInf(c.Max, 0) || c.Min > c.Max {
		return fmt.Errorf("%s: density %v to %v", name, c.Min, c.Max)
	}
	const most = 1 << 53
	a := make([]float64, len(p.layer)*p.R)
	var dense float64
	for h, l := range p.layer {
		if len(c.Size[l]) != p.R {
			return fmt.Errorf("%s: layer %d has sizes of %d rules, want %d", name, l, len(c.Size[l]), p.R)
		}
		for r, s := range c.Size[l] {
			if s < 0 || s > most/int64(len(p.layer)) || c.Dense[l] < 1 || c.Dense[l] > most/int64(len(p.layer)) {
				return fmt.Errorf("%s: layer %d, rule %d: %d of %d", name, l, r, s, c.Dense[l])
			}
			a[p.at(h, r)] = float64(s)
		}
		dense += float64(c.Dense[l])
	}
	const forgiven = 1e-6 // of a token: 0.29 of 100 is 29, though the product rounds below
	p.add(row{a: a, b: math.Floor(float64(c.Max*dense) + forgiven), length: c.Length, what: "density", unit: 1 / dense})
	if c.Min > 0 {
		neg := make([]float64, len(a))
		for i, v := range a {
			neg[i] = -v
		}
		p.add(row{a: neg, b: -math.Ceil(float64(c.Min*dense) - forgiven), length: c.Length, what: "least density", unit: -1 / dense})
	}
	return nil
}

func (p *program) add(r row) {
	r.mag = p.magnitude(r.a) + math.Abs(r.b)
	r.inv = 1
	if r.mag > 0 {
		r.inv = 1 / r.mag
	}
	p.rows = append(p.rows, r)
}

func (p *program) magnitude(a []float64) float64 {
	var sum float64
	for h := range p.layer {
		var most float64
		for r := range p.R {
			most = math.Max(most, math.Abs(a[p.at(h, r)]))
		}
		sum += most
	}
	return sum
}

// prune drops, layer by layer, rules that another rule replaces at no higher loss and no higher use of any limit for every
// head. Of equal rules the first stays.
func (p *program) prune() {
	p.rules = make([][]int, len(p.first)-1)
	for l := range p.rules {
		for r := range p.R {
			dominated := false
			for o := 0; o < p.R && !dominated; o++ {
				dominated = o != r && p.covers(l, o, r) && (o < r || !p.covers(l, r, o))
			}
			if !dominated {
				p.rules[l] = append(p.rules[l], r)
			}
		}
	}
}

// covers reports whether rule a is nowhere worse than rule b in a layer.
func (p *program) covers(l, a, b int) bool {
	for h := p.first[l]; h < p.first[l+1]; h++ {
		i, j := p.at(h, a), p.at(h, b)
		if p.f[i] > p.f[j] {
			return false
		}
		for c := range p.rows {
			if p.rows[c].a[i] > p.rows[c].a[j] {
				return false
			}
		}
	}
	return true
}
