package testmodel

import "math"

// The scores of heads that attend sharply, in nats. They are no larger than it takes, since weights below e^-87 are
// subnormal numbers, which are slow.
const (
	plantedMatch  = 60 // the codes of two equal tokens
	plantedStart  = 20 // the start of a sequence, for a sink head
	plantedBefore = 14 // each frequency of a previous-token head
)

const plantedAside = 0.005 // what heads that are not needed write, root mean square

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

// size is the factor of queries and of keys that makes a product of 1 in the stream a score of nats.
func (h head) size(nats float64) float64 {
	return math.Sqrt(nats * math.Sqrt(float64(h.opt.K)) / h.gain)
}

// match is the factor of queries and keys of a code.
func (h head) match() float64 {
	if !h.stream.bos {
		return 3
	}
	return h.size(plantedMatch / float64(h.stream.used()))
}

// previous attends to the previous token and copies a share of its code. Queries and keys are constants; with the query
// turned back by one position, the rotated score Σ_f cos(θ_f·(i−j−1)) is largest at j = i−1.
func (h head) previous(share int) {
	s, half := h.stream, h.opt.K/2
	freqs, sharp := 12, 10.
	if s.bos {
		freqs, sharp = 6, h.size(plantedBefore)
	}
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
	s, match := h.stream, h.match()
	h.query(func(q func(dim, from int, x float64)) {
		for c := range s.used() {
			q(h.slow(c), c, match)
		}
		if s.bos {
			q(h.rest(), s.constant(), match)
		}
	})
	h.key(func(k func(dim, from int, x float64)) {
		for c := range s.used() {
			k(h.slow(c), s.room+c, match)
		}
		if s.bos {
			most := match * (float64(s.used()) - float64(s.length)/2)
			k(h.rest(), s.flag(), most/float64(s.flagSize()))
		}
	})
	from := part * s.length
	h.copyValues(0, from, 2*s.room+from, s.length, s.writes())
}

// sink attends to the start of the sequence; every other token scores nothing.
func (h head) sink() {
	sharp := h.size(plantedStart / float64(h.stream.flagSize()))
	h.query(func(q func(dim, from int, x float64)) { q(h.opt.K/2-1, h.stream.constant(), sharp) })
	h.key(func(k func(dim, from int, x float64)) { k(h.opt.K/2-1, h.stream.flag(), sharp) })
	h.aside()
}

// local attends to the last tokens: Σ_f cos(θ_f·(i−j)) over frequencies of periods from 60 to 2000 tokens, 5 nats each,
// is a bell of standard deviation 4 around the query, and nearly all of it lies within 32 tokens.
func (h head) local() {
	h.near(5, 1, 0.003, 0.12)
	h.aside()
}

// echo attends to earlier occurrences of the current token; the token itself scores less than those by the same sum over
// the fastest frequencies.
func (h head) echo() {
	h.near(5, -1, 0.05, 1)
	match := h.match()
	h.query(func(q func(dim, from int, x float64)) {
		for c := range h.stream.used() {
			q(h.slow(c), c, match)
		}
	})
	h.key(func(k func(dim, from int, x float64)) {
		for c := range h.stream.used() {
			k(h.slow(c), c, match)
		}
	})
	h.aside()
}

// near adds sign·nats·Σ_f cos(θ_f·(i−j)) to the score, over the frequencies that turn by lo to hi a token.
func (h head) near(nats, sign, lo, hi float64) {
	size := h.size(nats)
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
