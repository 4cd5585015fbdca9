package nn

import (
	"math"
	"sort"
)

// kvCache holds the keys and values of one KV head that a runtime would hold: rows in the order of their positions. Rows
// [front, fixed) and [tail, len) are live; the first part stays while the second is a queue. What is dropped is
// overwritten once it outnumbers what is live, so that memory is at most twice the largest occupancy, and 64 rows.
type kvCache struct {
	dim, kBits, vBits  int // bits below 16 round what is put in
	k, v               []float32
	pos                []int
	front, fixed, tail int
}

// put appends the key and value of a position later than all before.
func (c *kvCache) put(k, v []float32, pos int) {
	n := len(c.k)
	c.k, c.v = append(c.k, k...), append(c.v, v...)
	roundBits(c.k[n:], c.kBits)
	roundBits(c.v[n:], c.vBits)
	c.pos = append(c.pos, pos)
}

// keep makes all that is live fixed.
func (c *kvCache) keep() {
	if c.fixed != c.tail {
		c.compact()
	}
	c.fixed, c.tail = len(c.pos), len(c.pos)
}

// spans returns the live rows.
func (c *kvCache) spans(dst []Span) []Span {
	return join(join(dst, c.front, c.fixed), c.tail, len(c.pos))
}

// tokens returns the number of live rows.
func (c *kvCache) tokens() int { return c.fixed - c.front + len(c.pos) - c.tail }

// queued returns the number of rows that are not fixed.
func (c *kvCache) queued() int { return len(c.pos) - c.tail }

// pop drops the oldest row of the queue and returns its key and value, valid until the next put.
func (c *kvCache) pop() (k, v []float32) {
	r := c.tail
	c.tail++
	k, v = c.row(r)
	if c.tail-c.fixed+c.front > c.tokens()+64 {
		k, v = append([]float32(nil), k...), append([]float32(nil), v...)
		c.compact()
	}
	return k, v
}

func (c *kvCache) row(r int) (k, v []float32) {
	return c.k[r*c.dim:][:c.dim], c.v[r*c.dim:][:c.dim]
}

// dropBefore drops rows of positions before low.
func (c *kvCache) dropBefore(low int) {
	for c.front < c.fixed && c.pos[c.front] < low {
		c.front++
	}
	for c.tail < len(c.pos) && c.pos[c.tail] < low {
		c.pop()
	}
}

// sweep drops the rows that need does not name.
func (c *kvCache) sweep(need func(pos int) bool) {
	n := 0
	for _, s := range c.spans(nil) {
		for r := s.Lo; r < s.Hi; r++ {
			if need(c.pos[r]) {
				c.move(n, r)
				n++
			}
		}
	}
	c.cut(n)
	c.front, c.fixed, c.tail = 0, 0, 0
}

// compact moves live rows to the front.
func (c *kvCache) compact() {
	n, fixed := 0, c.fixed-c.front
	for _, s := range c.spans(nil) {
		for r := s.Lo; r < s.Hi; r++ {
			c.move(n, r)
			n++
		}
	}
	c.cut(n)
	c.front, c.fixed, c.tail = 0, fixed, fixed
}

func (c *kvCache) move(to, from int) {
	if to == from {
		return
	}
	copy(c.k[to*c.dim:][:c.dim], c.k[from*c.dim:][:c.dim])
	copy(c.v[to*c.dim:][:c.dim], c.v[from*c.dim:][:c.dim])
	c.pos[to] = c.pos[from]
}

func (c *kvCache) cut(n int) { c.k, c.v, c.pos = c.k[:n*c.dim], c.v[:n*c.dim], c.pos[:n] }

// rows returns the live rows whose positions lie in the given spans, which are sorted.
func (c *kvCache) rows(positions []Span) []Span {
	var out []Span
	for _, part := range c.spans(nil) {
		pos := c.pos[part.Lo:part.Hi]
		for _, s := range positions {
			out = join(out, part.Lo+sort.SearchInts(pos, s.Lo), part.Lo+sort.SearchInts(pos, s.Hi))
		}
	}
	return out
}

// roundBits rounds a key or value to 2^bits levels between its least and largest component; 16 bits and more leave it as
// it is, and 0 means 16.
func roundBits(x []float32, bits int) {
	if bits <= 0 || bits >= 16 {
		return
	}
	lo, hi := x[0], x[0]
	for _, v := range x {
		lo, hi = min(lo, v), max(hi, v)
	}
	step := (float64(hi) - float64(lo)) / float64(int(1)<<bits-1)
	if step == 0 {
		return
	}
	for i, v := range x {
		x[i] = float32(float64(lo) + float64(math.RoundToEven((float64(v)-float64(lo))/step)*step))
	}
}

// rowBytes returns the bytes of a key or value of n components in a number of bits each, or of elementBytes where bits
// are 0. Below 16 bits each row has its least component and its step besides, of 2 bytes each.
func rowBytes(n, bits, elementBytes int) int64 {
	switch {
	case bits == 0:
		return int64(n) * int64(elementBytes)
	case bits < 16:
		return (int64(n)*int64(bits)+7)/8 + 4
	}
	return (int64(n)*int64(bits) + 7) / 8
}
