package calib

import "math/bits"

// pairTable maps a pair of adjacent token ids to the rank of its merge and the id of the result. It is an open-addressing
// hash table with linear probing, filled to at most a half: about three times as fast as a Go map for this use.
type pairTable struct {
	keys  []uint64 // left<<32 | right + 1 in each half; 0 marks an empty slot
	vals  []uint64 // rank<<32 | id
	shift uint
}

// noMerge is what get returns for a pair that does not merge; it is larger than every rank.
const noMerge = ^uint64(0)

func newPairTable(n int) pairTable {
	logSize := bits.Len(uint(2*n + 1))
	return pairTable{keys: make([]uint64, 1<<logSize), vals: make([]uint64, 1<<logSize), shift: uint(64 - logSize)}
}

func pairKey(left, right int32) uint64 { return uint64(left+1)<<32 | uint64(uint32(right+1)) }

// slot returns the first slot to probe (Fibonacci hashing: the high bits of the product depend on all bits of the key).
func (p *pairTable) slot(key uint64) uint64 { return (key * 0x9E3779B97F4A7C15) >> p.shift }

// put stores a merge; a pair that is there already gets the new rank, as in the Hugging Face library.
func (p *pairTable) put(left, right int32, rank uint32, id int32) {
	key, mask := pairKey(left, right), uint64(len(p.keys)-1)
	i := p.slot(key)
	for p.keys[i] != 0 && p.keys[i] != key {
		i = (i + 1) & mask
	}
	p.keys[i], p.vals[i] = key, uint64(rank)<<32|uint64(uint32(id))
}

// get returns rank<<32|id of the merge of left and right, or noMerge.
func (p *pairTable) get(left, right int32) uint64 {
	key, mask := pairKey(left, right), uint64(len(p.keys)-1)
	for i := p.slot(key); ; i = (i + 1) & mask {
		switch p.keys[i] {
		case key:
			return p.vals[i]
		case 0:
			return noMerge
		}
	}
}
