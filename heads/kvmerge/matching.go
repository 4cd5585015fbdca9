package kvmerge

import "slices"

// matched joins sets of heads in pairs such that the unions cost least: the lexicographically smallest minimum-weight perfect matching.
// The number of sets is even.
//
// Memory: 24·n² bytes for n sets.
func (g Grouping) matched(c *groupCosts, sets [][]int) Groups {
	var unions [][]int
	for i := range sets {
		for j := i + 1; j < len(sets); j++ {
			u := slices.Concat(sets[i], sets[j])
			slices.Sort(u)
			unions = append(unions, u)
		}
	}
	weight := g.weights(c, unions)
	w := make([][]int64, len(sets))
	for i := range w {
		w[i] = make([]int64, len(sets))
	}
	k := 0
	for i := range w {
		for j := i + 1; j < len(w); j++ {
			w[i][j], w[j][i] = weight[k], weight[k]
			k++
		}
	}
	var out Groups
	for i, j := range smallestMatching(w) {
		if i < j {
			out = append(out, slices.Concat(sets[i], sets[j]))
		}
	}
	return canonical(out)
}

// smallestMatching returns the mate of each of an even number of vertices under the minimum-weight perfect matching of a complete
// graph; of several, the lexicographically smallest. Every best matching uses edges without slack only (complementary slackness),
// so only these are tried.
func smallestMatching(w [][]int64) []int {
	m := newMatching(w)
	m.solve()
	mate, total := m.mate, m.weight()
	rest := make([]int, len(w))
	for i := range rest {
		rest[i] = i
	}
	for len(rest) > 0 {
		i := rest[0]
		for k := 1; rest[k] != mate[i]; k++ {
			j := rest[k]
			if !m.tight(i, j) {
				continue
			}
			others := slices.Delete(slices.Clone(rest[1:]), k-1, k)
			s := newMatching(restricted(w, others))
			s.solve()
			if w[i][j]+s.weight() == total {
				mate[i], mate[j] = j, i
				for a, b := range s.mate {
					mate[others[a]] = others[b]
				}
				break
			}
		}
		total -= w[i][mate[i]]
		rest = slices.DeleteFunc(rest, func(v int) bool { return v == i || v == mate[i] })
	}
	return mate
}

// restricted returns the weights among some vertices.
func restricted(w [][]int64, to []int) [][]int64 {
	out := make([][]int64, len(to))
	for a, i := range to {
		for _, j := range to {
			out[a] = append(out[a], w[i][j])
		}
	}
	return out
}

// matching is a minimum-weight perfect matching of a complete graph by Edmonds' blossom method ("Maximum matching and a polyhedron
// with 0,1-vertices", 1965), primal-dual:
//
//	maximise Σ_v y_v + Σ_B z_B  subject to  y_u + y_v + Σ_{B cuts uv} z_B ≤ 2·w_uv,  z_B ≥ 0
//
// over odd sets B. A matching of edges without slack that leaves every B of positive z_B by one edge is of least weight. Weights are
// doubled so that all duals stay whole. An alternating tree grows from one free vertex at a time; each of its O(n) events is looked
// for among all edges, which is O(n⁴) in all and takes less than a millisecond for 64 random weights.
type matching struct {
	w     [][]int64
	dual  []int64 // of each vertex v: y_v + Σ_{B∋v} z_B, so that the slack of an edge between outermost nodes needs no more
	mate  []int   // of each vertex, -1 where free
	top   []int   // outermost node of each vertex
	nodes []blossom
	spare []int // nodes not in use
}

func newMatching(w [][]int64) *matching {
	n := len(w)
	m := &matching{w: w, dual: make([]int64, n), mate: make([]int, n), top: make([]int, n)}
	for v := range w {
		m.mate[v], m.top[v] = -1, v
		m.nodes = append(m.nodes, blossom{parent: -1, base: v, used: true})
		least := w[v][(v+1)%n]
		for u, x := range w[v] {
			if u != v {
				least = min(least, x)
			}
		}
		m.dual[v] = least // y_u + y_v ≤ 2·w_uv
	}
	// Blossoms are disjoint or nested, and odd: there are never n/2 of them.
	for range n / 2 {
		m.spare = append(m.spare, len(m.nodes))
		m.nodes = append(m.nodes, blossom{parent: -1})
	}
	return m
}

// solve matches all vertices.
func (m *matching) solve() {
	for v := range m.w {
		if m.mate[v] < 0 {
			m.grow(v)
		}
	}
}

// weight is the sum over the matched edges.
func (m *matching) weight() int64 {
	var sum int64
	for u, v := range m.mate {
		if u < v {
			sum += m.w[u][v]
		}
	}
	return sum
}

// slack is what the dual constraint of an edge leaves.
func (m *matching) slack(u, v int) int64 {
	s := 2*m.w[u][v] - m.dual[u] - m.dual[v]
	for a := m.nodes[u].parent; a >= 0; a = m.nodes[a].parent {
		for b := m.nodes[v].parent; b >= 0; b = m.nodes[b].parent {
			if a == b {
				s += 2 * m.nodes[a].z // counted in both duals, and not cut
			}
		}
	}
	return s
}

func (m *matching) tight(u, v int) bool { return m.slack(u, v) == 0 }
