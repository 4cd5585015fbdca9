package calib

// DefaultSpan is the number of equal consecutive tokens from which two windows count as overlapping. Short idioms and
// file headers repeat everywhere; 64 tokens in a row are copied text.
const DefaultSpan = 64

// spans is a set of hashes of all runs of n tokens of some windows. The hash is a polynomial in the ids modulo 2^64,
// mixed at the end, so that each run costs one step.
type spans struct {
	n    int
	drop uint64 // spanBase^(n-1): the weight of the token that leaves
	seen map[uint64]struct{}
}

// spanBase is odd and has no small order modulo 2^64 (it is 5 modulo 8). From Knuth's MMIX generator.
const spanBase = 6364136223846793005

func newSpans(n int) *spans {
	s := &spans{n: n, drop: 1, seen: map[uint64]struct{}{}}
	for range n - 1 {
		s.drop *= spanBase
	}
	return s
}

// each calls f with the hash of every run of n tokens of ids until f returns false. Shorter windows count as one run.
func (s *spans) each(ids []int32, f func(h uint64) bool) {
	var h uint64
	for i, v := range ids {
		if i >= s.n {
			h -= token(ids[i-s.n]) * s.drop
		}
		h = h*spanBase + token(v)
		if i >= s.n-1 && !f(mix(h)) {
			return
		}
	}
	if len(ids) < s.n {
		f(mix(h ^ uint64(len(ids))))
	}
}

func (s *spans) add(ids []int32) {
	s.each(ids, func(h uint64) bool { s.seen[h] = struct{}{}; return true })
}

// shares reports whether ids has a run that was added.
func (s *spans) shares(ids []int32) bool {
	found := false
	s.each(ids, func(h uint64) bool { _, found = s.seen[h]; return !found })
	return found
}

// token spreads an id over 64 bits, so that runs of small ids do not hash to small numbers.
func token(v int32) uint64 { return mix(uint64(uint32(v)) + 0x9e3779b97f4a7c15) }

// mix is the finalizer of SplitMix64 (Steele, Lea, Flood 2014).
func mix(z uint64) uint64 {
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}
