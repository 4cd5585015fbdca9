package manifest

import (
	"fmt"
	"math"
	"sort"
)

// maxMembers bounds the policies that widest compares; it looks at every pair of them.
const maxMembers = 64

// size is the cache of a policy as a function of the length n: min(n, max(a + b·n, floor)), but for the rounding to blocks.
type size struct{ a, b, floor float64 }

func (s size) at(n float64) float64 { return math.Min(n, math.Max(s.a+float64(s.b*n), s.floor)) }

// size returns what a policy keeps. One whose cache is known at run time only counts as keeping everything.
func (p *Policy) size() size {
	switch p.Kind {
	case KindStreaming:
		return size{a: float64(p.Sink + p.Recent)}
	case KindElastic:
		return size{p.Alpha, p.Beta, float64(p.Min)}
	case KindTokenTopK:
		if p.Selector == SelectSnapKV {
			return size{a: float64(max(p.Budget, p.Window))}
		}
	}
	return size{b: 1}
}

// widest returns the rules by which a cache that several heads share keeps as much as the head that keeps most, at every length.
// Full wins over every other policy that keeps all tokens, then the one that is named first. Rules change at the lengths where
// one policy overtakes another.
func widest(policies map[string]Policy, members []Rules) (Rules, error) {
	var sizes []size
	cuts := map[int]bool{}
	seen := map[string]bool{}
	for _, rules := range members {
		for _, r := range rules {
			cuts[r.MaxLen] = true
			if !seen[r.Use] {
				pol := policies[r.Use]
				sizes, seen[r.Use] = append(sizes, pol.size()), true
			}
		}
	}
	if len(seen) == 1 {
		return Always(members[0][0].Use), nil
	}
	if len(seen) > maxMembers {
		return nil, fmt.Errorf("manifest: %d policies share a cache, at most %d are compared: %w", len(seen), maxMembers, ErrUnfit)
	}
	crossings(sizes, cuts)
	delete(cuts, 0)
	ends := make([]int, 0, len(cuts)+1)
	for n := range cuts {
		ends = append(ends, n)
	}
	sort.Ints(ends)
	ends = append(ends, maxTokens)
	var out Rules
	for i := len(ends) - 1; i >= 0; i-- {
		first := 1
		if i > 0 {
			first = ends[i-1] + 1
		}
		prefer := ""
		if out != nil {
			prefer = out[0].Use
		}
		use := mostAt(policies, members, first, ends[i], prefer)
		if use == prefer {
			continue
		}
		end := ends[i]
		if out == nil {
			end = 0
		}
		out = append(Rules{{MaxLen: end, Use: use}}, out...)
	}
	return out, nil
}

// crossings adds the lengths at which the order of two sizes may change. They are lines in pieces: a + b·n, the floor, and n.
func crossings(sizes []size, cuts map[int]bool) {
	lines := [][2]float64{{0, 1}}
	have := map[[2]float64]bool{lines[0]: true}
	for _, s := range sizes {
		for _, line := range [][2]float64{{s.a, s.b}, {s.floor, 0}} {
			if !have[line] {
				lines, have[line] = append(lines, line), true
			}
		}
	}
	for i, p := range lines {
		for _, q := range lines[:i] {
			if p[1] == q[1] {
				continue
			}
			if n := math.Floor((p[0] - q[0]) / (q[1] - p[1])); n >= 1 && n < maxTokens {
				cuts[int(n)] = true
			}
		}
	}
}

// mostAt returns the policy that keeps most in lengths from first to last, in which the order of sizes does not change.
func mostAt(policies map[string]Policy, members []Rules, first, last int, prefer string) string {
	mid := float64(first) + float64(last-first)/2
	use, most, full := "", -1.0, false
	for _, rules := range members {
		id := rules.at(last)
		pol := policies[id]
		n := pol.size().at(mid)
		isFull := pol.Kind == KindFull && n >= most
		if n > most || n == most && (isFull && !full || id == prefer && !full) {
			use, most, full = id, n, isFull
		}
	}
	return use
}
