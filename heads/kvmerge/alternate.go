package kvmerge

import "math"

// event is what happens next in an alternating tree.
type event struct {
	after int64 // by how much the duals move before
	edge  edge  // from an outer node to one that is outer too, or apart, and from then on without slack
	open  int   // or the inner blossom whose z becomes 0; -1 for an edge
}

// grow lets an alternating tree grow from a free vertex until it reaches another, and matches along the way between them.
func (m *matching) grow(root int) {
	for i := range m.nodes {
		m.nodes[i].label = apart
	}
	m.nodes[m.top[root]].label = outer
	for {
		e := m.next()
		m.move(e.after)
		if e.open >= 0 {
			m.expand(e.open)
			continue
		}
		t := m.top[e.edge.to]
		n := &m.nodes[t]
		switch {
		case n.label == outer:
			m.shrink(e.edge)
		case m.mate[n.base] < 0:
			m.augment(e.edge)
			return
		default:
			n.label, n.entry = inner, e.edge
			m.nodes[m.top[m.mate[n.base]]].label = outer
		}
	}
}

// next returns the nearest event. In a complete graph there always is one: some free vertex is apart.
func (m *matching) next() event {
	best := event{after: math.MaxInt64, open: -1}
	for i := len(m.w); i < len(m.nodes); i++ {
		if n := &m.nodes[i]; n.used && n.parent < 0 && n.label == inner && n.z < best.after {
			best = event{after: n.z, open: i}
		}
	}
	for u, row := range m.w {
		if m.nodes[m.top[u]].label != outer {
			continue
		}
		for v, w := range row {
			l := m.nodes[m.top[v]].label
			if l == inner || m.top[u] == m.top[v] {
				continue
			}
			s := 2*w - m.dual[u] - m.dual[v]
			if l == outer {
				s /= 2 // both ends move; vertices of one tree are of one parity, so s is even
			}
			if s < best.after {
				best = event{s, edge{u, v}, -1}
			}
			if s == 0 {
				return best // nothing is nearer
			}
		}
	}
	return best
}

// move raises the duals of outer nodes and lowers those of inner ones, which keeps the tree free of slack.
func (m *matching) move(by int64) {
	for v, t := range m.top {
		m.dual[v] += by * m.nodes[t].label.sign()
	}
	for i := len(m.w); i < len(m.nodes); i++ {
		if n := &m.nodes[i]; n.used && n.parent < 0 {
			n.z += by * n.label.sign()
		}
	}
}

// sign is the direction in which the dual of a node moves.
func (l label) sign() int64 {
	switch l {
	case outer:
		return 1
	case inner:
		return -1
	}
	return 0
}

// augment matches an edge from an outer node to a free one and exchanges matched and other edges from there to the root.
func (m *matching) augment(e edge) {
	for {
		m.rebase(m.top[e.to], e.to)
		m.mate[e.to] = e.from
		s := m.top[e.from]
		old := m.mate[m.nodes[s].base]
		m.rebase(s, e.from)
		m.mate[e.from] = e.to
		if old < 0 {
			return
		}
		e = m.nodes[m.top[old]].entry
	}
}
