//go:build cuda

package cuda

import (
	"fmt"
	"slices"
)

// source is where an arena gets slabs from.
type source interface {
	alloc(bytes int64) (ptr, error)
	free(p ptr) error
}

// arena hands out pieces of slabs, which it gets from the driver and keeps. It is not safe for concurrent use.
//
// A piece is a multiple of 512 bytes. Pieces of up to 1 MiB come from slabs of 32 MiB, those of up to 128 MiB from slabs of 512 MiB,
// larger ones from slabs of their own, in multiples of 2 MiB. The smallest free piece that fits is taken, of equals the one that has
// been free for longest; neighbours that are free become one. Where the budget or the driver has no room for a slab, those without a
// piece go back and it is tried again, then one of the piece's own size, then a free piece of any slab.
//
// Memory held is at most the budget. A request of n bytes is refused only where n, rounded up to 2 MiB, is more than the budget less
// the slabs with a piece in use (or than the driver has), and no slab has a free piece as large.
type arena struct {
	src    source
	budget int64
	apart  bool // each piece is a slab of just its size, which goes back with it: for tests, whose driver watches the ends of its memory

	slabs []*slab
	free  []*block // by class, size, stamp and address
	held  int64    // bytes of all slabs
	used  int64    // bytes of all pieces in use
	peak  int64    // the most that used has been
}

func newArena(src source, budget int64) *arena {
	return &arena{src: src, budget: budget}
}

// alloc returns a piece of at least that many bytes, which may be 0.
func (a *arena) alloc(bytes int64) (*block, error) {
	if bytes < 0 || bytes > 1<<60 {
		return nil, fmt.Errorf("cuda: a piece of %d bytes", bytes)
	}
	if a.apart {
		return a.single(max(bytes, 1))
	}
	bytes = roundUp(max(bytes, 1), blockBytes)
	class := classOf(bytes)
	b := a.fit(class, bytes)
	if b == nil {
		err := a.grow(class, bytes)
		for c := 0; c < classes && b == nil; c++ {
			b = a.fit((class+c)%classes, bytes)
		}
		if b == nil {
			return nil, err
		}
	}
	a.take(b, bytes)
	return b, nil
}

// single is alloc where pieces are apart.
func (a *arena) single(bytes int64) (*block, error) {
	if a.held+bytes > a.budget {
		return nil, noRoom(bytes, a.used, a.budget)
	}
	if err := a.add(classes, bytes); err != nil {
		return nil, err
	}
	b := a.slabs[len(a.slabs)-1].first
	a.take(b, bytes)
	return b, nil
}

// release gives a piece back. Work up to the stamp may still use it.
func (a *arena) release(b *block, stamp int64) {
	if !b.used {
		panic("cuda: memory released twice")
	}
	b.used, b.stamp = false, stamp
	a.used -= b.bytes
	if b.slab.class == classes {
		a.slabs = slices.DeleteFunc(a.slabs, func(s *slab) bool { return s == b.slab })
		a.held -= b.bytes
		_ = a.src.free(b.addr)
		return
	}
	if n := b.next; n != nil && !n.used {
		a.drop(n)
		b.join(n)
	}
	if p := b.prev; p != nil && !p.used {
		a.drop(p)
		p.join(b)
		b = p
	}
	a.insert(b)
}

// trim returns all slabs without a piece to the source.
func (a *arena) trim() error {
	var err error
	a.slabs = slices.DeleteFunc(a.slabs, func(s *slab) bool {
		if err != nil || s.first.used || s.first.bytes < s.bytes {
			return false
		}
		a.drop(s.first)
		a.held -= s.bytes
		err = a.src.free(s.addr)
		return true
	})
	return err
}

// close returns all slabs, whatever is in use.
func (a *arena) close() {
	for _, s := range a.slabs {
		_ = a.src.free(s.addr)
	}
	a.slabs, a.free, a.held, a.used = nil, nil, 0, 0
}

// grow gets a slab that holds a piece of so many bytes.
func (a *arena) grow(class int, bytes int64) error {
	wish := slabFor(class, bytes)
	if a.held+wish <= a.budget && a.add(class, wish) == nil {
		return nil
	}
	if err := a.trim(); err != nil {
		return err
	}
	if a.held+wish <= a.budget && a.add(class, wish) == nil {
		return nil
	}
	least := roundUp(bytes, slabBytes)
	if a.held+least > a.budget {
		return noRoom(bytes, a.used, a.budget)
	}
	return a.add(class, least)
}

func noRoom(bytes, used, budget int64) error {
	return &Error{Op: "cuMemAlloc", Code: codeNoMemory, Detail: fmt.Sprintf("%d bytes where %d of a budget of %d are in use", bytes, used, budget)}
}

func (a *arena) add(class int, bytes int64) error {
	addr, err := a.src.alloc(bytes)
	if err != nil {
		return err
	}
	s := &slab{addr: addr, bytes: bytes, class: class}
	s.first = &block{slab: s, addr: addr, bytes: bytes}
	a.slabs = append(a.slabs, s)
	a.held += bytes
	a.insert(s.first)
	return nil
}

// fit returns the free piece to take, nil where none is large enough.
func (a *arena) fit(class int, bytes int64) *block {
	i, _ := slices.BinarySearchFunc(a.free, &block{slab: &slab{class: class}, bytes: bytes, stamp: -1 << 62}, compareBlocks)
	if i < len(a.free) && a.free[i].slab.class == class {
		return a.free[i]
	}
	return nil
}

// take puts a free piece to use, and leaves what it has beyond the bytes free.
func (a *arena) take(b *block, bytes int64) {
	a.drop(b)
	if rest := b.bytes - bytes; rest > 0 {
		n := &block{slab: b.slab, addr: b.addr + ptr(bytes), bytes: rest, prev: b, next: b.next, stamp: b.stamp}
		if n.next != nil {
			n.next.prev = n
		}
		b.next, b.bytes = n, bytes
		a.insert(n)
	}
	b.used = true
	a.used += b.bytes
	a.peak = max(a.peak, a.used)
}

func (a *arena) insert(b *block) {
	i, _ := slices.BinarySearchFunc(a.free, b, compareBlocks)
	a.free = slices.Insert(a.free, i, b)
}

func (a *arena) drop(b *block) {
	i, found := slices.BinarySearchFunc(a.free, b, compareBlocks)
	if !found {
		panic("cuda: a free piece of memory is not listed")
	}
	a.free = slices.Delete(a.free, i, i+1)
}
