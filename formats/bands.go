package formats

import "sync"

const (
	bandCodes  = 4 << 20  // of a band, where 32 rows are not more
	cacheBytes = 32 << 20 // of the bands that are kept
)

// Readers is how many goroutines may read different parts of weights at once: more than those push each other's bands out of what is kept,
// so that bands are read again and again.
func (v *Grids) Readers() int { return cacheBytes / bandCodes * 3 / 4 } // with room for scales, and for bands that come to their end

// bandRows returns the rows of a band: a multiple of 32, so that words which hold several rows are in one band.
func (g *Grid) bandRows() int {
	if g.Transposed {
		return g.Out
	}
	return max(32, bandCodes/g.In/32*32)
}

// bandKey names a band of a weight.
type bandKey struct {
	grid  *Grid
	index int
}

// band is a part of a weight that is read once, whoever asks for it first.
type band struct {
	key  bandKey
	load func() (*Affine, error)
	size int
}

// bandCache keeps the bands that were used last. It is safe for concurrent use: readers of one band wait for the first of them, those of
// others do not.
type bandCache struct {
	mu   sync.Mutex
	list []*band // used last first
}

// band returns the rows of one band of a weight.
func (v *Grids) band(g *Grid, index int) (*Affine, error) {
	b := v.cache.get(bandKey{g, index})
	m, err := b.load()
	if err != nil {
		v.cache.drop(b)
	}
	return m, err
}

// get returns a band, and forgets those used longest ago.
func (c *bandCache) get(key bandKey) *band {
	c.mu.Lock()
	defer c.mu.Unlock()
	var b *band
	for i, have := range c.list {
		if have.key == key {
			b = have
			copy(c.list[1:i+1], c.list[:i])
			c.list[0] = b
			return b
		}
	}
	g := key.grid
	first := key.index * g.bandRows()
	n := min(g.bandRows(), g.Out-first)
	groups := 1
	if g.Storage.Group > 0 {
		groups = g.In / g.Storage.Group
	}
	b = &band{key: key, size: n * (g.In + 5*groups), load: sync.OnceValues(func() (*Affine, error) { return g.Rows(first, n) })}
	c.list = append([]*band{b}, c.list...)
	for total, i := 0, 0; i < len(c.list); i++ {
		if total += c.list[i].size; total > cacheBytes && i > 0 {
			clear(c.list[i:])
			c.list = c.list[:i]
		}
	}
	return b
}

// drop forgets a band that could not be read, so that the next reader tries again.
func (c *bandCache) drop(b *band) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, have := range c.list {
		if have == b {
			c.list = append(c.list[:i], c.list[i+1:]...)
			return
		}
	}
}
