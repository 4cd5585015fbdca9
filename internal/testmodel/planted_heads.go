package testmodel

import (
	"fmt"
	"math"
)

const (
	plantedMatch = 3     // queries and keys of a code: a match scores 70 to 100 nats
	plantedAside = 0.005 // what heads that are not needed write, root mean square
)

// plant builds every head of Places.
func (p *Planted) plant() {
	part, previous, behind := 0, 0, p.opt.Layers
	for _, c := range p.Places {
		if c.Kind == Previous {
			previous++
			behind = min(behind, c.Layer+1)
		}
	}
	for _, c := range p.Places {
		h := head{Planted: p, layer: c.Layer, g: c.Head, gain: p.stream.gain(c.Layer >= behind)}
		h.clear(c.Kind == Previous || c.Kind == Induction)
		switch c.Kind {
		case Previous:
			h.previous(previous)
		case Induction:
			h.induction(part)
			part++
		case Sink:
			h.sink()
		case Local:
			h.local()
		case Echo:
			h.echo()
		}
	}
}

// head is a KV head while it is built.
type head struct {
	*Planted
	layer, g int
	gain     float64 // square of what the norm multiplies the stream by, nearly
}

// queries are the query heads that do the work.
func (h head) queries() []int {
	r := h.opt.H / h.opt.G
	if h.opt.OneQuery {
		return []int{h.g*r + (h.layer+h.g)%r}
	}
	out := make([]int, r)
	for i := range out {
		out[i] = h.g*r + i
	}
	return out
}

// edit changes a weight [out, in].
func (h head) edit(module string, in int, f func(at func(row, col int) *float32)) {
	name := fmt.Sprintf("model.layers.%d.self_attn.%s.weight", h.layer, module)
	v, err := h.Values(name)
	if err != nil {
		panic(err)
	}
	f(func(row, col int) *float32 { return &v[row*in+col] })
	h.Set(name, v)
}

// clear silences queries and keys, and where the head is to write a code, values and output.
func (h head) clear(output bool) {
	k := h.opt.K
	zero := func(module string, head int) {
		h.edit(module, plantedD, func(at func(row, col int) *float32) {
			for r := head * k; r < (head+1)*k; r++ {
				for c := range plantedD {
					*at(r, c) = 0
				}
			}
		})
	}
	zero("k_proj", h.g)
	for _, q := range h.queries() {
		zero("q_proj", q)
	}
	if !output {
		return
	}
	zero("v_proj", h.g)
	h.edit("o_proj", h.opt.H*k, func(at func(row, col int) *float32) {
		for r := range plantedD {
			for _, q := range h.queries() {
				for c := q * k; c < (q+1)*k; c++ {
					*at(r, c) = 0
				}
			}
		}
	})
}

// query sets value dim of the queries to x times value from of the stream.
func (h head) query(set func(q func(dim, from int, x float64))) {
	h.edit("q_proj", plantedD, func(at func(row, col int) *float32) {
		for _, q := range h.queries() {
			set(func(dim, from int, x float64) { *at(q*h.opt.K+dim, from) = float32(x) })
		}
	})
}

// key sets value dim of the key to x times value from of the stream.
func (h head) key(set func(k func(dim, from int, x float64))) {
	h.edit("k_proj", plantedD, func(at func(row, col int) *float32) {
		set(func(dim, from int, x float64) { *at(h.g*h.opt.K+dim, from) = float32(x) })
	})
}

// slow is the dimension of a head for value c of a code: its slowest frequencies, which hardly turn.
func (h head) slow(c int) int {
	half, pairs := h.opt.K/2, h.stream.room/2
	return c%pairs + half - pairs + c/pairs*half
}

// rest is the dimension for what is compared with codes: the slowest frequency that codes leave over.
func (h head) rest() int { return h.opt.K/2 - h.stream.room/2 - 1 }

// turn returns the angle of frequency f between neighbours.
func (h head) turn(f int) float64 {
	return math.Pow(plantedTheta, -float64(f)/float64(h.opt.K/2))
}

// previous attends to the previous token and copies a share of its code. Queries and keys are constants; with the query
// turned back by one position, the rotated score Σ_f cos(θ_f·(i−j−1)) is largest at j = i−1.
func (h head) previous(share int) {
	const freqs, sharp = 12, 10
	s, half := h.stream, h.opt.K/2
	h.query(func(q func(dim, from int, x float64)) {
		for f := range freqs {
			q(f, s.constant(), sharp*math.Cos(h.turn(f)))
			q(f+half, s.constant(), -sharp*math.Sin(h.turn(f)))
		}
	})
	h.key(func(k func(dim, from int, x float64)) {
		for f := range freqs {
			k(f, s.constant(), sharp)
		}
	})
	size := 1 / float32(share)
	h.copyValues(0, 0, s.room, s.room, size)
	if s.bos {
		h.copyValues(s.room, s.flag(), s.after(), 1, size)
	}
}

// induction attends to the position whose previous token is the current one, and copies a part of that position's code.
// The start of a sequence scores half a part less than a match.
func (h head) induction(part int) {
	s := h.stream
	h.query(func(q func(dim, from int, x float64)) {
		for c := range s.used() {
			q(h.slow(c), c, plantedMatch)
		}
		if s.bos {
			q(h.rest(), s.constant(), plantedMatch)
		}
	})
	h.key(func(k func(dim, from int, x float64)) {
		for c := range s.used() {
			k(h.slow(c), s.room+c, plantedMatch)
		}
		if s.bos {
			most := plantedMatch * (float64(s.used()) - float64(s.length)/2)
			k(h.rest(), s.flag(), most/float64(s.flagSize()))
		}
	})
	from := part * s.length
	h.copyValues(0, from, 2*s.room+from, s.length, s.writes())
}

// sink attends to the start of the sequence, which scores 20 nats or more above every other token.
func (h head) sink() {
	const sharp = 4
	h.query(func(q func(dim, from int, x float64)) { q(h.opt.K/2-1, h.stream.constant(), sharp) })
	h.key(func(k func(dim, from int, x float64)) { k(h.opt.K/2-1, h.stream.flag(), sharp) })
	h.aside()
}

// local attends to the last tokens: Σ_f cos(θ_f·(i−j)) over frequencies of periods from 60 to 2000 tokens, 5 nats each,
// is a bell of standard deviation 4 around the query, and nearly all of it lies within 32 tokens.
func (h head) local() { h.near(5, 1, 0.003, 0.12); h.aside() }

// echo attends to earlier occurrences of the current token; the token itself scores less than those by the same sum over
// the fastest frequencies.
func (h head) echo() {
	h.near(5, -1, 0.05, 1)
	h.query(func(q func(dim, from int, x float64)) {
		for c := range h.stream.used() {
			q(h.slow(c), c, plantedMatch)
		}
	})
	h.key(func(k func(dim, from int, x float64)) {
		for c := range h.stream.used() {
			k(h.slow(c), c, plantedMatch)
		}
	})
	h.aside()
}

// near adds sign·nats·Σ_f cos(θ_f·(i−j)) to the score, over the frequencies that turn by lo to hi a token.
func (h head) near(nats, sign, lo, hi float64) {
	size := math.Sqrt(nats * math.Sqrt(float64(h.opt.K)) / h.gain)
	each := func(set func(dim, from int, x float64), size float64) {
		for f := range h.opt.K / 2 {
			if a := h.turn(f); a >= lo && a <= hi {
				set(f, h.stream.constant(), size)
			}
		}
	}
	h.query(func(q func(dim, from int, x float64)) { each(q, sign*size) })
	h.key(func(k func(dim, from int, x float64)) { each(k, size) })
}

// copyValues carries n values of the stream from one place to another through values at and after dim of the head, shared
// by its query heads. Where sequences have a start, size is relative to what stands there before the norm, and values are no
// larger than those of noise, so that the other query heads of the group write no more than noise does.
func (h head) copyValues(dim, from, to, n int, size float32) {
	queries, value := h.queries(), float32(1)
	if h.stream.bos {
		value = h.opt.Noise
		size /= value * float32(math.Sqrt(h.gain))
	}
	h.edit("v_proj", plantedD, func(at func(row, col int) *float32) {
		for c := range n {
			*at(h.g*h.opt.K+dim+c, from+c) = value
		}
	})
	h.edit("o_proj", h.opt.H*h.opt.K, func(at func(row, col int) *float32) {
		for _, q := range queries {
			for c := range n {
				*at(to+c, q*h.opt.K+dim+c) = size / float32(len(queries))
			}
		}
	})
}

// aside lets the head write a random image of what it reads, of root mean square plantedAside where it reads one token:
// its values and its output are noise, of which the output is scaled.
func (h head) aside() {
	queries := h.queries()
	// The weights of values have a deviation of Noise/sqrt(D), those of the output Noise/sqrt(H·K); a sum of the output has
	// len(queries)·K terms.
	size := plantedAside * float32(math.Sqrt(float64(h.opt.H)/float64(len(queries)))) / (h.opt.Noise * h.opt.Noise)
	h.edit("o_proj", h.opt.H*h.opt.K, func(at func(row, col int) *float32) {
		for r := range plantedD {
			for _, q := range queries {
				for c := q * h.opt.K; c < (q+1)*h.opt.K; c++ {
					*at(r, c) *= size
				}
			}
		}
	})
}
