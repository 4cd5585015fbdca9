//go:build cuda

package cuda

import "cmp"

// slab is memory from the source. Its blocks are a list in the order of addresses.
type slab struct {
	addr  ptr
	bytes int64
	class int
	first *block
}

// block is a piece of a slab.
type block struct {
	slab       *slab
	addr       ptr
	bytes      int64
	prev, next *block
	used       bool
	stamp      int64 // when free: the tick of the compute stream that must be over before another stream writes here
}

const (
	classes     = 3
	blockBytes  = 512
	smallBlock  = 1 << 20
	smallSlab   = 32 << 20
	middleBlock = 128 << 20
	middleSlab  = 512 << 20
	slabBytes   = 2 << 20 // the pages of the driver
)

// join takes in the free piece that follows.
func (b *block) join(n *block) {
	b.bytes += n.bytes
	b.stamp = max(b.stamp, n.stamp)
	b.next = n.next
	if n.next != nil {
		n.next.prev = b
	}
}

func compareBlocks(x, y *block) int {
	return cmp.Or(cmp.Compare(x.slab.class, y.slab.class), cmp.Compare(x.bytes, y.bytes), cmp.Compare(x.stamp, y.stamp), cmp.Compare(x.addr, y.addr))
}

// classOf keeps pieces of very different sizes in slabs of their own: small ones that live long would hold large ones apart.
func classOf(bytes int64) int {
	switch {
	case bytes <= smallBlock:
		return 0
	case bytes <= middleBlock:
		return 1
	}
	return 2
}

func slabFor(class int, bytes int64) int64 {
	switch class {
	case 0:
		return smallSlab
	case 1:
		return middleSlab
	}
	return roundUp(bytes, slabBytes)
}

func roundUp(n, to int64) int64 { return (n + to - 1) / to * to }
