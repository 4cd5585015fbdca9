package quantize

import (
	"encoding/binary"
	"math"
	"slices"
	"strings"
	"sync"

	"modelpress/formats"
)

// rotated is a source in which some tensors are made by recipes.
type rotated struct {
	src     formats.Source
	infos   []formats.TensorInfo
	recipes map[string]*recipe
	cache   blockCache
	par     Par
}

func newRotated(src formats.Source, recipes map[string]*recipe, par Par) *rotated {
	v := &rotated{src: src, recipes: recipes, par: par, cache: blockCache{par: par}}
	for _, t := range src.Tensors() {
		if recipes[t.Name] == nil {
			v.infos = append(v.infos, t)
		}
	}
	for _, t := range recipes {
		t.check()
		v.infos = append(v.infos, t.info)
	}
	slices.SortFunc(v.infos, func(a, b formats.TensorInfo) int { return strings.Compare(a.Name, b.Name) })
	return v
}

// Tensors implements [formats.Source].
func (v *rotated) Tensors() []formats.TensorInfo { return v.infos }

// Lookup implements [formats.Source].
func (v *rotated) Lookup(name string) (formats.TensorInfo, bool) {
	if t := v.recipes[name]; t != nil {
		return t.info, true
	}
	return v.src.Lookup(name)
}

// rowChunk bounds the values made at once where rows are independent.
const rowChunk = 1 << 18

// ReadAt implements [formats.Source].
func (v *rotated) ReadAt(name string, p []byte, off int64) error {
	t := v.recipes[name]
	if t == nil {
		return v.src.ReadAt(name, p, off)
	}
	size, err := t.info.Bytes()
	if err != nil || off < 0 || int64(len(p)) > size-off {
		return formats.Errorf("", name, "read of bytes [%d, %d+%d) of %d", off, off, len(p), size)
	}
	rows, cols := t.size()
	unit := t.blockRows() // whole units of rows are made at a time
	if unit == 1 {
		unit = max(1, rowChunk/max(1, cols))
	}
	row := 4 * int64(cols)
	for len(p) > 0 {
		first := int(off / row)
		var n int
		var w []float32
		if t.left != nil {
			first -= first % unit
			n = unit
			w, err = v.cache.get(t, v.src, first, n)
		} else {
			last := (off + int64(len(p)) + row - 1) / row
			n = min(unit, int(last)-first, rows-first)
			w, err = t.compute(v.src, first, n, v.par)
		}
		if err != nil {
			return err
		}
		skip := off - int64(first)*row
		c := copyFloats(p, w, skip)
		if t.left != nil && skip+int64(c) == int64(n)*row {
			v.cache.drop(t, first)
		}
		p, off = p[c:], off+int64(c)
	}
	return nil
}

// copyFloats copies the little-endian bytes of w from byte offset off on into p and returns how many.
func copyFloats(p []byte, w []float32, off int64) int {
	n := min(len(p), 4*len(w)-int(off))
	if off%4 == 0 && n%4 == 0 {
		if err := formats.Encode(p[:n], w[off/4:][:n/4], formats.F32); err != nil {
			panic(err) // the lengths agree
		}
		return n
	}
	for i := 0; i < n; {
		at := int(off) + i
		if at%4 == 0 && n-i >= 4 {
			binary.LittleEndian.PutUint32(p[i:], math.Float32bits(w[at/4]))
			i += 4
			continue
		}
		p[i] = byte(math.Float32bits(w[at/4]) >> (8 * (at % 4)))
		i++
	}
	return n
}

// blockCache keeps the few blocks that readers are in the middle of: a block takes all of its rows to make, and readers
// come for it piece by piece. One that has been read to its end is let go.
type blockCache struct {
	par     Par
	mu      sync.Mutex
	entries []*cacheEntry
}

type cacheEntry struct {
	recipe *recipe
	first  int
	once   sync.Once
	w      []float32
	err    error
}

// cacheEntries is how many blocks are kept: one for each of a few concurrent readers.
const cacheEntries = 4

func (c *blockCache) get(t *recipe, src formats.Source, first, n int) ([]float32, error) {
	c.mu.Lock()
	i := c.index(t, first)
	if i < 0 {
		if len(c.entries) == cacheEntries {
			c.entries = slices.Delete(c.entries, 0, 1)
		}
		c.entries = append(c.entries, &cacheEntry{recipe: t, first: first})
		i = len(c.entries) - 1
	}
	e := c.entries[i]
	c.mu.Unlock()
	e.once.Do(func() { e.w, e.err = t.compute(src, first, n, c.par) })
	if e.err != nil {
		c.drop(t, first)
	}
	return e.w, e.err
}

func (c *blockCache) drop(t *recipe, first int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if i := c.index(t, first); i >= 0 {
		c.entries = slices.Delete(c.entries, i, i+1)
	}
}

func (c *blockCache) index(t *recipe, first int) int {
	return slices.IndexFunc(c.entries, func(e *cacheEntry) bool { return e.recipe == t && e.first == first })
}

// Prefetch asks for the tensors that the named ones are made from.
func (v *rotated) Prefetch(names []string) {
	from := make([]string, len(names))
	for i, name := range names {
		from[i] = name
		if t := v.recipes[name]; t != nil {
			from[i] = t.from
		}
	}
	formats.Prefetch(v.src, from)
}
