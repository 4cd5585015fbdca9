package kvmerge

import "fmt"

// Shape is the head layout of one layer before its KV heads are merged.
type Shape struct {
	H, G, K int     // query heads, KV heads, head dim
	Rotary  int     // leading dimensions of a head that the rotary embedding turns, even; 0 where positions are not rotary
	Pairs   Pairing // which two of them turn together
}

// Pairing says which dimensions of a head a rotary embedding turns together.
type Pairing uint8

// The layouts of rotary embeddings in use.
const (
	HalfSplit   Pairing = iota // (j, j+Rotary/2): Hugging Face's
	Interleaved                // (2j, 2j+1): GPT-J's and Meta's
)

// Frequencies is the number of pairs.
func (s Shape) Frequencies() int { return s.Rotary / 2 }

// Pair returns the dimensions of pair j.
func (s Shape) Pair(j int) (re, im int) {
	if s.Pairs == Interleaved {
		return 2 * j, 2*j + 1
	}
	return j, j + s.Rotary/2
}

// Queries is the number of query heads that read one KV head; those of KV head g are [g·Queries, (g+1)·Queries).
func (s Shape) Queries() int { return s.H / s.G }

// check panics where the numbers contradict each other: they come from a verified model.
func (s Shape) check() {
	if s.G < 1 || s.H < s.G || s.H%s.G != 0 || s.K < 1 || s.Rotary < 0 || s.Rotary > s.K || s.Rotary%2 != 0 {
		panic(fmt.Sprintf("kvmerge: a layer of %d query heads, %d KV heads, head dim %d, %d of it rotary", s.H, s.G, s.K, s.Rotary))
	}
}

// Groups says which KV heads share: Groups[i] lists those that become KV head i. Query heads follow their KV heads, in this
// order.
type Groups [][]int

// Contiguous returns the groups of t neighbours each of n heads.
func Contiguous(n, t int) Groups {
	out := make(Groups, n/t)
	for i := range n / t * t {
		out[i/t] = append(out[i/t], i)
	}
	return out
}

// Check returns an error unless every one of n heads is in one group and all groups have one size.
func (g Groups) Check(n int) error {
	seen := make([]bool, n)
	count := 0
	for i, members := range g {
		if len(members) == 0 || len(members) != len(g[0]) {
			return fmt.Errorf("kvmerge: group %d has %d heads, group 0 has %d", i, len(members), len(g[0]))
		}
		for _, h := range members {
			if h < 0 || h >= n || seen[h] {
				return fmt.Errorf("kvmerge: group %d: head %d is none of %d, or stands twice", i, h, n)
			}
			seen[h] = true
			count++
		}
	}
	if count != n {
		return fmt.Errorf("kvmerge: %d of %d heads are in a group", count, n)
	}
	return nil
}

// Trivial reports whether every head stays by itself, in its place.
func (g Groups) Trivial() bool {
	for i, members := range g {
		if len(members) != 1 || members[0] != i {
			return false
		}
	}
	return true
}
