package kvmerge

import (
	"fmt"
	"slices"
)

// value returns what members have to share of values. Means stay in: the bias is a part of every value.
func (s *Stats) value(members []int) *dense {
	k := s.Shape.K
	p, at := s.find(members)
	d := &dense{t: len(members), r: k, c: blocks(p.value.H, p.value.N, at, k, s.Tokens)}
	for _, g := range members {
		d.m = append(d.m, s.out[g])
	}
	return d
}

// pair returns what members have to share of keys at frequency j. Of a key, what is the same at all positions after the rotation
// goes out: it adds the same to all scores of a query, which a softmax does not see.
func (s *Stats) pair(members []int, j int) *pairs {
	part, at := s.find(members)
	m := len(part.heads)
	h, tokens := part.pairs[j], complex(float64(s.Tokens), 0)
	get := func(i, j int) float64 { return lower(h.H, h.N, i, j) }
	p := &pairs{t: len(members), c: make([]complex128, len(members)*len(members))}
	for x, a := range at {
		for y, b := range at {
			// (re_a + i·im_a)·(re_b - i·im_b)
			second := complex(get(a, b)+get(m+a, m+b), get(m+a, b)-get(a, m+b))
			p.c[x*p.t+y] = (second - part.centre[j][a*m+b]) / tokens
		}
		p.c[x*p.t+x] = complex(max(0, real(p.c[x*p.t+x])), 0)
		p.q = append(p.q, s.query[members[x]][j]/float64(s.Tokens))
	}
	return p
}

// rest returns what members have to share of the dimensions of keys that no rotation turns, nil where there are none. The mean
// key goes out, as in pair.
func (s *Stats) rest(members []int) *dense {
	n := s.Shape.K - s.Shape.Rotary
	if n == 0 {
		return nil
	}
	p, at := s.find(members)
	d := &dense{t: len(members), r: n, c: blocks(p.rest.H, p.rest.N, at, n, s.Tokens)}
	mean := make([]float64, len(at)*n)
	for x, a := range at {
		for i := range n {
			mean[x*n+i] = p.mean[a*n+i] / float64(s.Tokens)
		}
	}
	for i, a := range mean {
		for j, b := range mean {
			d.c[i*len(mean)+j] -= a * b
		}
	}
	for _, g := range members {
		d.m = append(d.m, blocks(s.query[g][s.Shape.Frequencies():], n, []int{0}, n, s.Tokens))
	}
	d.damped = true
	return d
}

// find returns the part that the members are in and where each stands in it.
func (s *Stats) find(members []int) (*part, []int) {
	p := s.parts[s.of[members[0]]]
	at := make([]int, len(members))
	for i, g := range members {
		if at[i] = slices.Index(p.heads, g); at[i] < 0 {
			panic(fmt.Sprintf("kvmerge: no moments of heads %v with each other", members))
		}
	}
	return p, at
}

// blocks takes the blocks [size, size] of some heads out of a lower triangle [n, n] and divides them by the number of tokens: a
// whole symmetric matrix.
func blocks(h []float64, n int, at []int, size, tokens int) []float64 {
	m := len(at) * size
	out := make([]float64, m*m)
	for i := range m {
		for j := range i + 1 {
			v := lower(h, n, at[i/size]*size+i%size, at[j/size]*size+j%size) / float64(tokens)
			out[i*m+j], out[j*m+i] = v, v
		}
	}
	return out
}

func lower(h []float64, n, i, j int) float64 { return h[max(i, j)*n+min(i, j)] }
