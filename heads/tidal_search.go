package heads

import (
	"math"
	"sort"

	"modelpress/formats/manifest"
	"modelpress/internal/arch"
)

// choose fills in Source, Least and Mean for the layers that may select or share.
func (t *Tidal) choose(layers []int) {
	for l := range t.Source {
		t.Source[l] = -1
	}
	s := newTidalSearch(t.Recall, layers)
	picks := s.best(min(t.opt.Selections, len(layers)), t.opt.Mean)
	t.Least, t.Mean = 1, 0
	n := 0
	for i, from := 0, 0; i < len(layers); i++ {
		if len(picks) > 0 && picks[0] == i {
			from, picks = i, picks[1:]
			t.Source[layers[i]] = layers[i]
			continue
		}
		if s.recall[from][i] < 0 {
			continue // no selection that it could use
		}
		t.Source[layers[i]] = layers[from]
		r := t.Recall[layers[from]][layers[i]]
		t.Least = math.Min(t.Least, r)
		t.Mean += r
		n++
	}
	if t.Mean /= float64(max(1, n)); n == 0 {
		t.Mean = 1
	}
}

// tidalSearch chooses selecting layers. Recalls are whole millionths, so that sums are exact and ties are ties.
type tidalSearch struct {
	recall [][]int64 // [selector][user], −1 where that cannot be
}

func newTidalSearch(recall [][]float64, layers []int) *tidalSearch {
	s := &tidalSearch{}
	for i, a := range layers {
		row := make([]int64, len(layers))
		for j, b := range layers {
			row[j] = int64(math.Round(recall[a][b] * 1e6))
			if j > i && recall[a][b] == 0 {
				row[j] = -1
			}
		}
		s.recall = append(s.recall, row)
	}
	return s
}

// tidalCost is what a choice is judged by: fewer layers that must stay full, then a larger sum of recalls.
type tidalCost struct {
	full int
	sum  int64
	ok   bool
}

func (c tidalCost) beats(d tidalCost) bool {
	return c.ok && (!d.ok || c.full < d.full || c.full == d.full && c.sum > d.sum)
}

// best returns n places, the first of which is 0, ascending: those with the fewest layers left full, then the largest least
// recall unless mean is set, then the largest sum; of equals the earliest.
func (s *tidalSearch) best(n int, mean bool) []int {
	picks, cost := s.under(n, 0)
	if mean {
		return picks
	}
	var levels []int64
	for i, row := range s.recall {
		levels = append(levels, row[i+1:]...)
	}
	sort.Slice(levels, func(i, j int) bool { return levels[i] < levels[j] })
	// Whether a least recall can be had falls once: search the last level at which it can.
	at := sort.Search(len(levels), func(i int) bool {
		_, c := s.under(n, levels[i])
		return !c.ok || c.full > cost.full
	})
	if at > 0 {
		picks, _ = s.under(n, levels[at-1])
	}
	return picks
}

// under returns the best n places among those with no recall below least, by dynamic programming from the last layer.
func (s *tidalSearch) under(n int, least int64) ([]int, tidalCost) {
	size := len(s.recall)
	cost := make([][]tidalCost, n) // [selections still to come][place of a selection], from there to the end
	next := make([][]int, n)
	for k := range cost {
		cost[k], next[k] = make([]tidalCost, size), make([]int, size)
		for i := range size {
			run := tidalCost{ok: true} // layers i+1 … j−1 use place i
			for j := i + 1; j <= size; j++ {
				var c tidalCost
				if k == 0 && j == size {
					c = run
				} else if k > 0 && j < size {
					rest := cost[k-1][j]
					c = tidalCost{run.full + rest.full, run.sum + rest.sum, run.ok && rest.ok}
				}
				if c.beats(cost[k][i]) {
					cost[k][i], next[k][i] = c, j
				}
				if j < size {
					run = run.add(s.recall[i][j], least)
				}
			}
		}
	}
	picks := []int{0}
	for k, i := n-1, 0; k > 0; k-- {
		i = next[k][i]
		picks = append(picks, i)
	}
	return picks, cost[n-1][0]
}

func (c tidalCost) add(recall, least int64) tidalCost {
	switch {
	case recall < 0:
		c.full++
	case recall < least:
		c.ok = false
	default:
		c.sum += recall
	}
	return c
}

// Write lets the chosen layers select tokens in decoding under full attention, and the layers that share attend to these;
// prefill stays full. The evidence is the recall of each layer under its source, 1 where it stays full.
func (t *Tidal) Write(p *manifest.Plan, m *arch.Model, from Record) error {
	w, err := newWriter(p, m)
	if err != nil {
		return err
	}
	const id = "tidal"
	pol := manifest.Policy{Kind: manifest.KindTokenTopK, Selector: "attention", Budget: t.opt.Budget, Window: t.opt.Window}
	if err := w.policy(id, pol); err != nil {
		return err
	}
	e := manifest.Evidence{Method: "tidal", Unit: "recall of attention mass", Samples: t.Windows, Seed: from.Seed, DataDigest: from.Digest, Per: "layer"}
	for l, source := range t.Source {
		recall := 1.0
		switch {
		case source == l:
			p.Layers[l].Select = "tokens"
		case source >= 0:
			recall = t.Recall[source][l]
			p.Layers[l].ShareAttentionWith = &source
			for g := range p.Layers[l].KVHeads {
				w.head(l, g).Decode = manifest.Always(id)
			}
		}
		e.Scores = append(e.Scores, []float64{Round(recall)})
	}
	w.evidence(e)
	w.finish()
	return nil
}
