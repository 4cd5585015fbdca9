package kvmerge

import (
	"math/rand/v2"
	"slices"
	"testing"
)

// certify checks the proof that a matching is of least weight: whole, feasible duals, and complementary slackness.
func certify(t *testing.T, m *matching) {
	t.Helper()
	for u, v := range m.mate {
		if v < 0 || v == u || m.mate[v] != u {
			t.Fatalf("vertex %d is matched with %d", u, v)
		}
		if s := m.slack(u, v); s != 0 {
			t.Fatalf("matched edge %d-%d has slack %d", u, v, s)
		}
	}
	inside := make([][]int, len(m.nodes)) // the vertices of each blossom
	for v := range m.w {
		for b := m.nodes[v].parent; b >= 0; b = m.nodes[b].parent {
			inside[b] = append(inside[b], v)
		}
		for u := range m.w {
			if u != v && m.slack(u, v) < 0 {
				t.Fatalf("edge %d-%d has slack %d", u, v, m.slack(u, v))
			}
		}
	}
	bound := int64(0) // Σ y + Σ z
	for _, y := range m.dual {
		bound += y
	}
	for b := len(m.w); b < len(m.nodes); b++ {
		if !m.nodes[b].used {
			continue
		}
		z := m.nodes[b].z
		if z < 0 || len(inside[b])%2 == 0 {
			t.Fatalf("blossom of %d vertices has z = %d", len(inside[b]), z)
		}
		bound -= z * int64(len(inside[b])-1) // its z is part of that many duals, and counts once
		cut := 0
		for _, v := range inside[b] {
			if !slices.Contains(inside[b], m.mate[v]) {
				cut++
			}
		}
		if z > 0 && cut != 1 {
			t.Fatalf("%d edges leave a blossom of z = %d", cut, z)
		}
	}
	if 2*m.weight() != bound {
		t.Fatalf("weight %d, twice the bound %d", m.weight(), bound)
	}
}

func randomWeights(rng *rand.Rand, n int, kinds int64) [][]int64 {
	w := make([][]int64, n)
	for i := range w {
		w[i] = make([]int64, n)
		for j := range i {
			w[i][j] = rng.Int64N(kinds) - kinds/3
			w[j][i] = w[i][j]
		}
	}
	return w
}

// The duals prove every result; few kinds of weights make many ties and blossoms in blossoms, odd cliques of cheap edges force them.
func TestMatchingIsProved(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	nested, blossoms := 0, 0
	for trial := range 600 {
		n := 2 * (1 + rng.IntN(32))
		w := randomWeights(rng, n, []int64{2, 5, 100, 1e9, 1 << 40}[trial%5])
		if trial%3 == 0 {
			part := make([]int, n)
			for i := range part {
				part[i] = rng.IntN(1 + n/3)
			}
			for i := range w {
				for j := range w {
					if part[i] != part[j] {
						w[i][j] += 1 << 32
					}
				}
			}
		}
		m := newMatching(w)
		m.solve()
		certify(t, m)
		for b := n; b < len(m.nodes); b++ {
			if m.nodes[b].used {
				blossoms++
				if m.nodes[b].parent >= 0 {
					nested++
				}
			}
		}
	}
	if blossoms < 100 || nested < 10 {
		t.Errorf("only %d blossoms, %d of them in others: the instances are too easy", blossoms, nested)
	}
}

// leastMatching finds the lexicographically smallest best matching by recursion over sets of vertices.
func leastMatching(w [][]int64) (int64, []int) {
	n := len(w)
	best := make([]int64, 1<<n)
	with := make([]int, 1<<n)
	for left := 1; left < 1<<n; left++ {
		i := 0
		for left>>i&1 == 0 {
			i++
		}
		best[left] = 1 << 60
		for j := i + 1; j < n; j++ {
			if left>>j&1 == 1 {
				if v := w[i][j] + best[left&^(1<<i|1<<j)]; v < best[left] {
					best[left], with[left] = v, j
				}
			}
		}
	}
	mate := make([]int, n)
	for left := 1<<n - 1; left > 0; {
		i := 0
		for left>>i&1 == 0 {
			i++
		}
		j := with[left]
		mate[i], mate[j] = j, i
		left &^= 1<<i | 1<<j
	}
	return best[1<<n-1], mate
}

func TestMatchingAgainstDynamicProgram(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for trial := range 1500 {
		n := 2 * (1 + rng.IntN(6))
		if trial%100 == 0 {
			n = 16
		}
		w := randomWeights(rng, n, []int64{1, 2, 3, 10, 1e9}[trial%5])
		want, mate := leastMatching(w)
		got := smallestMatching(w)
		if !slices.Equal(got, mate) {
			t.Fatalf("trial %d, %d vertices: mates %v, want %v of weight %d", trial, n, got, mate, want)
		}
	}
}

func BenchmarkMatching(b *testing.B) {
	w := randomWeights(rand.New(rand.NewPCG(5, 6)), 64, 1e9)
	for b.Loop() {
		newMatching(w).solve()
	}
}
