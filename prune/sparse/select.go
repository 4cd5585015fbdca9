package sparse

import "math"

// key orders scores: of two that are not negative, the smaller one has the smaller key. NaN comes last.
func key(score float32) uint32 { return math.Float32bits(score) &^ (1 << 31) }

// The marks that markLeast leaves.
const (
	stays uint32 = iota
	goes
)

// markLeast overwrites keys by goes for the k least of them and by stays for the others; of equal ones those that come first
// go. It takes time in proportion to the number of keys and no memory that grows.
func markLeast(keys []uint32, k int) {
	limit, ties := kth(func(see func(keys []uint32)) { see(keys) }, k)
	mark(keys, limit, ties)
}

// mark overwrites keys by goes for those below limit and the first ties of those that equal it, and by stays for the others. It
// returns what is left of ties.
func mark(keys []uint32, limit uint32, ties int) int {
	for i, v := range keys {
		switch {
		case v < limit:
			keys[i] = goes
		case v == limit && ties > 0:
			keys[i] = goes
			ties--
		default:
			keys[i] = stays
		}
	}
	return ties
}

// kth returns the k-th smallest key, and how many keys of its value are among the k. all shows the keys part by part, three times
// over: digits of 11 bits are counted, from the highest.
func kth(all func(see func(keys []uint32)), k int) (limit uint32, ties int) {
	if k <= 0 {
		return 0, 0
	}
	var known uint32
	for _, shift := range [...]uint{22, 11, 0} {
		const digit = 1<<11 - 1
		var count [digit + 1]int
		all(func(keys []uint32) {
			for _, v := range keys {
				if v&known == limit {
					count[v>>shift&digit]++
				}
			}
		})
		d := uint32(0)
		for ; count[d] < k; d++ {
			k -= count[d]
		}
		limit |= d << shift
		known |= digit << shift
	}
	return limit, k
}

// markGroup is markLeast for the keys of a group, which are few as a rule.
func markGroup(marks, keys []uint32, k int) {
	const few = 32
	if len(keys) > few {
		copy(marks, keys)
		markLeast(marks[:len(keys)], k)
		return
	}
	for i, v := range keys {
		before := 0
		for j, o := range keys {
			if o < v || o == v && j < i {
				before++
			}
		}
		marks[i] = stays
		if before < k {
			marks[i] = goes
		}
	}
}
