package calib

// shortWord is the number of symbols up to which scanning for the best pair beats keeping a heap.
const shortWord = 40

// merger holds the scratch arrays of the merge loops.
type merger struct {
	ids   []int32
	ranks []uint64
	next  []int32
	prev  []int32
	heap  []candidate
}

// candidate is a pair that may be merged: rank<<32 | position of its left symbol. The smallest goes first, so equal
// ranks merge from left to right.
type candidate uint64

// append appends the tokens of word to dst: its smallest symbols, merged in rank order until no pair merges.
func (m *merger) append(dst []int32, b *bpe, word string) []int32 {
	m.ids = b.symbols(m.ids[:0], word)
	if len(m.ids) <= shortWord {
		return append(dst, m.mergeShort(&b.pairs)...)
	}
	return m.mergeLong(dst, &b.pairs)
}

// mergeShort repeats: find the leftmost pair of smallest rank, replace it. Quadratic, for few symbols.
func (m *merger) mergeShort(pairs *pairTable) []int32 {
	ids := m.ids
	ranks := m.ranks[:0]
	for i := 0; i+1 < len(ids); i++ {
		ranks = append(ranks, pairs.get(ids[i], ids[i+1]))
	}
	m.ranks = ranks
	for len(ranks) > 0 {
		at, best := 0, noMerge
		for i, r := range ranks {
			if r < best {
				at, best = i, r
			}
		}
		if best == noMerge {
			break
		}
		ids[at] = int32(uint32(best))
		copy(ids[at+1:], ids[at+2:])
		ids = ids[:len(ids)-1]
		copy(ranks[at:], ranks[at+1:])
		ranks = ranks[:len(ranks)-1]
		if at > 0 {
			ranks[at-1] = pairs.get(ids[at-1], ids[at])
		}
		if at < len(ranks) {
			ranks[at] = pairs.get(ids[at], ids[at+1])
		}
	}
	return ids
}

// mergeLong gives the same result in O(n log n): symbols form a linked list, candidates wait in a heap, and one whose
// pair has changed since is recognised by its rank (a rank belongs to exactly one pair) and dropped.
func (m *merger) mergeLong(dst []int32, pairs *pairTable) []int32 {
	n := len(m.ids)
	m.link(n)
	m.heap = m.heap[:0]
	for i := 0; i+1 < n; i++ {
		if v := pairs.get(m.ids[i], m.ids[i+1]); v != noMerge {
			m.heap = append(m.heap, candidate(v>>32<<32|uint64(i)))
		}
	}
	heapify(m.heap)
	for len(m.heap) > 0 {
		c := m.pop()
		at := int32(uint32(c))
		right := m.next[at]
		if m.ids[at] < 0 || right < 0 {
			continue
		}
		v := pairs.get(m.ids[at], m.ids[right])
		if v == noMerge || v>>32 != uint64(c)>>32 {
			continue
		}
		m.join(at, right, int32(uint32(v)), pairs)
	}
	for i := int32(0); i >= 0; i = m.next[i] {
		dst = append(dst, m.ids[i])
	}
	return dst
}

// link makes the list 0, 1, …, n-1; -1 stands for none.
func (m *merger) link(n int) {
	if cap(m.next) < n {
		m.next, m.prev = make([]int32, n), make([]int32, n)
	}
	m.next, m.prev = m.next[:n], m.prev[:n]
	for i := range m.next {
		m.next[i], m.prev[i] = int32(i+1), int32(i-1)
	}
	m.next[n-1] = -1
}

// join replaces the symbols at and right by id and queues the pairs that this makes.
func (m *merger) join(at, right, id int32, pairs *pairTable) {
	m.ids[at], m.ids[right] = id, -1
	after := m.next[right]
	m.next[at] = after
	if after >= 0 {
		m.prev[after] = at
		if v := pairs.get(id, m.ids[after]); v != noMerge {
			m.push(candidate(v>>32<<32 | uint64(at)))
		}
	}
	if before := m.prev[at]; before >= 0 {
		if v := pairs.get(m.ids[before], id); v != noMerge {
			m.push(candidate(v>>32<<32 | uint64(before)))
		}
	}
}

func (m *merger) trim() {
	if cap(m.ids) > keepScratch {
		*m = merger{}
	}
}
