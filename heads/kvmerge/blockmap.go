package kvmerge

import "modelpress/internal/arch"

// mapKind names one of the maps of a KV head.
type mapKind uint8

const (
	noMap mapKind = iota // the block as it is
	keyEncode
	keyDecode
	valueEncode
	valueDecode
)

// summand is an old block under a map of a KV head.
type summand struct {
	block int
	head  int
	kind  mapKind
}

// matrix returns the map [K, K], nil where the block stays as it is, and whether it encodes. To the right of a block
// stands Encodeᵀ or Decode, to the left Encode or Decodeᵀ, whichever projection it is: what is encoded is an output
// y' = E·y, and both q' = Dᵀ·q and W' = W·D decode.
func (s summand) matrix(m *Maps) (a []float64, encodes bool) {
	switch s.kind {
	case keyEncode:
		return m.Key.Encode[s.head], true
	case keyDecode:
		return m.Key.Decode[s.head], false
	case valueEncode:
		return m.Value.Encode[s.head], true
	case valueDecode:
		return m.Value.Decode[s.head], false
	}
	return nil, false
}

// blockMap says what becomes of the outputs of a projection, or of the inputs of the one after attention, in blocks of K: new
// block i is the sum of blocks[at[i]]. Copies follow one another.
type blockMap struct {
	blocks [][]summand
	at     []int
	old    int // blocks before
}

// newBlockMap returns what l does to a projection of a: to the outputs of q, k and v, to the inputs of o.
func newBlockMap(l Layer, a *arch.Layer, role arch.Role) blockMap {
	switch role {
	case arch.K:
		return l.shared(a.G, keyEncode)
	case arch.V:
		return l.shared(a.G, valueEncode)
	case arch.Q:
		return l.reordered(a.H, a.H/a.G, keyDecode)
	}
	return l.reordered(a.H, a.H/a.G, valueDecode)
}

// shared adds up the members of each group of g KV heads.
func (l Layer) shared(g int, kind mapKind) blockMap {
	groups := l.Groups
	if !l.merges() {
		groups, kind = Contiguous(g, 1), noMap
	}
	m := blockMap{old: g}
	for i, members := range groups {
		var sum []summand
		for _, h := range members {
			sum = append(sum, summand{h, h, kind})
		}
		m.blocks = append(m.blocks, sum)
		for range l.copies() {
			m.at = append(m.at, i)
		}
	}
	return m
}

// reordered has the h query heads follow their KV heads, n of which read each.
func (l Layer) reordered(h, n int, kind mapKind) blockMap {
	m := blockMap{old: h}
	for _, members := range l.Groups {
		for _, g := range members {
			for q := range n {
				m.at = append(m.at, len(m.blocks))
				m.blocks = append(m.blocks, []summand{{g*n + q, g, kind}})
			}
		}
	}
	return m
}

// join appends the blocks of another projection, which follow those of m in the same tensor.
func (m *blockMap) join(o blockMap) {
	first := len(m.blocks)
	for _, sum := range o.blocks {
		moved := make([]summand, len(sum))
		for i, s := range sum {
			moved[i] = summand{m.old + s.block, s.head, s.kind}
		}
		m.blocks = append(m.blocks, moved)
	}
	for _, b := range o.at {
		m.at = append(m.at, first+b)
	}
	m.old += o.old
}

// mapped reports whether any block needs a map.
func (m *blockMap) mapped() bool {
	for _, sum := range m.blocks {
		for _, s := range sum {
			if s.kind != noMap {
				return true
			}
		}
	}
	return false
}
