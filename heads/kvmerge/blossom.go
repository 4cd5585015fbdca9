package kvmerge

import "slices"

// blossom is a vertex of a matching, or an odd cycle of smaller nodes that acts as one.
type blossom struct {
	used   bool
	parent int // the blossom that it is part of, -1 for an outermost node
	base   int // the vertex whose mate is outside, or that is free
	z      int64
	label  label
	entry  edge // of an inner node: the edge that reached it, from an outer node
	// The cycle: links[i] leads from kids[i] to kids[i+1], the last to kids[0], which holds the base. Kids 1 and 2, 3 and 4, … are matched.
	kids  []int
	links []edge
}

// edge joins two vertices.
type edge struct{ from, to int }

func (e edge) back() edge { return edge{e.to, e.from} }

// label is the place of an outermost node in the alternating tree.
type label uint8

const (
	apart label = iota // not in the tree
	outer              // at an even distance from the root
	inner              // at an odd distance
)

// kidOf returns the part of blossom b that holds vertex v.
func (m *matching) kidOf(b, v int) int {
	for m.nodes[v].parent != b {
		v = m.nodes[v].parent
	}
	return v
}

// up returns the edge from a node of the tree towards the root, and false for the root.
func (m *matching) up(x int) (edge, bool) {
	n := &m.nodes[x]
	if n.label == inner {
		return n.entry.back(), true
	}
	return edge{n.base, m.mate[n.base]}, m.mate[n.base] >= 0
}

// path returns the nodes of the tree from x to the root.
func (m *matching) path(x int) []int {
	out := []int{x}
	for {
		e, ok := m.up(x)
		if !ok {
			return out
		}
		x = m.top[e.to]
		out = append(out, x)
	}
}

// shrink makes a blossom of the cycle that an edge between two outer nodes closes.
func (m *matching) shrink(e edge) {
	left, right := m.path(m.top[e.from]), m.path(m.top[e.to])
	root := -1
	for len(left) > 0 && len(right) > 0 && left[len(left)-1] == right[len(right)-1] {
		root = left[len(left)-1]
		left, right = left[:len(left)-1], right[:len(right)-1]
	}
	kids, links := []int{root}, []edge(nil)
	for _, x := range slices.Backward(left) {
		u, _ := m.up(x)
		kids, links = append(kids, x), append(links, u.back())
	}
	links = append(links, e)
	for _, x := range right {
		u, _ := m.up(x)
		kids, links = append(kids, x), append(links, u)
	}
	b := m.spare[len(m.spare)-1]
	m.spare = m.spare[:len(m.spare)-1]
	m.nodes[b] = blossom{used: true, parent: -1, base: m.nodes[root].base, label: outer, kids: kids, links: links}
	for _, x := range kids {
		m.nodes[x].parent = b
	}
	for v, t := range m.top {
		if m.nodes[t].parent == b {
			m.top[v] = b
		}
	}
}

// expand dissolves an inner blossom of z = 0. Those of its parts that lie between its entry and its base, the even way, stay in the tree.
func (m *matching) expand(b int) {
	n := m.nodes[b]
	at := slices.Index(n.kids, m.kidOf(b, n.entry.to))
	for v, t := range m.top {
		if t == b {
			m.top[v] = m.kidOf(b, v)
		}
	}
	for _, x := range n.kids {
		m.nodes[x].parent, m.nodes[x].label = -1, apart
	}
	e := n.entry
	for i := at; ; {
		x := &m.nodes[n.kids[i]]
		x.label, x.entry = inner, e
		if i == 0 {
			break
		}
		// Its mate is the next on the way, and outer; the link after that reaches the next inner one.
		if i%2 == 0 {
			m.nodes[n.kids[i-1]].label = outer
			e, i = n.links[i-2].back(), i-2
		} else {
			m.nodes[n.kids[i+1]].label = outer
			e, i = n.links[i+1], (i+2)%len(n.kids)
		}
	}
	m.nodes[b] = blossom{parent: -1}
	m.spare = append(m.spare, b)
}

// rebase changes the matching within a node such that v becomes its base.
func (m *matching) rebase(b, v int) {
	n := &m.nodes[b]
	if n.kids == nil {
		return
	}
	kid := m.kidOf(b, v)
	m.rebase(kid, v)
	at := slices.Index(n.kids, kid)
	// Every second link of the even way from there to the old base becomes matched.
	lo, hi := 0, at
	if at%2 == 1 {
		lo, hi = at+1, len(n.kids)
	}
	for i := lo; i < hi; i += 2 {
		e := n.links[i]
		m.rebase(n.kids[i], e.from)
		m.rebase(n.kids[(i+1)%len(n.kids)], e.to)
		m.mate[e.from], m.mate[e.to] = e.to, e.from
	}
	n.kids = slices.Concat(n.kids[at:], n.kids[:at])
	n.links = slices.Concat(n.links[at:], n.links[:at])
	n.base = v
}
