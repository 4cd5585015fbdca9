package manifest

import (
	"errors"
	"fmt"
	"strconv"
)

// ErrMapping says that a plan cannot be carried over to a changed model, as it was changed.
var ErrMapping = errors.New("the plan cannot be mapped")

// mapping carries a plan over to a model of other heads: for each new layer, the old one and the old KV heads that each new KV head
// was made from.
type mapping struct {
	p       *Plan
	out     *Plan
	layers  []int     // old layer
	groups  [][][]int // [new layer][new KV head] old KV heads
	copies  []int     // [new layer] new KV heads in a row that are copies of one; nil where none are
	qHeads  []int     // of each old layer
	kvHeads []int
	entries [][]*KVHead
	by      map[int]*Layer
}

// newMapping copies what does not depend on heads. What was measured of the old model does not hold for the new one: digests are
// left empty for the caller to fill in, budget and quality go.
func (p *Plan) newMapping(layers []int) (*mapping, error) {
	if faults := p.Validate(); len(faults) > 0 {
		return nil, &FaultsError{faults}
	}
	m := &mapping{p: p, layers: layers, by: map[int]*Layer{}}
	var err error
	if m.qHeads, m.kvHeads, err = headCounts(p); err != nil {
		return nil, err
	}
	m.entries = make([][]*KVHead, len(m.kvHeads))
	for l, g := range m.kvHeads {
		m.entries[l] = make([]*KVHead, g)
	}
	for i := range p.Layers {
		l := &p.Layers[i]
		m.by[l.Layer] = l
		for j := range l.KVHeads {
			m.entries[l.Layer][l.KVHeads[j].Head] = &l.KVHeads[j]
		}
	}
	out := *p
	out.Model.WeightsDigest, out.Model.HeadersDigest, out.Model.ConfigDigest = "", "", ""
	out.Budget, out.Quality, out.Evidence, out.Layers = nil, nil, nil, nil
	out.Model.Layers = len(layers)
	m.out = &out
	return m, nil
}

// finish builds the new layers, the permutation and the evidence, and checks the result but for its digests.
func (m *mapping) finish(permuted bool) (*Plan, error) {
	for n := range m.layers {
		l, err := m.layer(n)
		if err != nil {
			return nil, err
		}
		m.out.Layers = append(m.out.Layers, l)
	}
	m.counts()
	if permuted || m.p.Model.Permutation != nil {
		m.out.Model.Permutation = m.permutation() // nil where it cannot be recorded
	}
	for i := range m.p.Evidence {
		m.out.Evidence = append(m.out.Evidence, m.evidence(&m.p.Evidence[i]))
	}
	m.out.Requires = merged(m.p.Requires, m.p.Needs(), m.out.Needs())
	var faults []Fault
	for _, f := range m.out.Validate() {
		if f.Path != "model.weights_digest" {
			faults = append(faults, f)
		}
	}
	if len(faults) > 0 {
		return nil, &FaultsError{faults}
	}
	return m.out, nil
}

// merged returns the features that are needed now, after those of old that were listed without need.
func merged(old, needed, now []string) []string {
	out := []string{}
	for _, f := range old {
		if !contains(needed, f) {
			out = append(out, f)
		}
	}
	return append(out, now...)
}

// newHeads returns the query heads and KV heads of a new layer; each KV head has those of all its origins, or its share of them.
func (m *mapping) newHeads(n int) (heads, kvHeads int) {
	for g, from := range m.groups[n] {
		lo, hi := m.share(n, g)
		heads += len(from) * (hi - lo)
	}
	return heads, len(m.groups[n])
}

// times returns how many KV heads in a row of a new layer are copies of one.
func (m *mapping) times(n int) int {
	if m.copies == nil {
		return 1
	}
	return m.copies[n]
}

// share returns which query heads of each of its origins a new KV head has, counted from the origin's first.
func (m *mapping) share(n, g int) (lo, hi int) {
	old := m.layers[n]
	each := m.qHeads[old] / m.kvHeads[old] / m.times(n)
	lo = g % m.times(n) * each
	return lo, lo + each
}

// counts states the head counts of the model, and those of layers that differ.
func (m *mapping) counts() {
	first := true
	for n := range m.layers {
		if h, g := m.newHeads(n); g > 0 && first {
			m.out.Model.Heads, m.out.Model.KVHeads, first = h, g, false
		}
	}
	for n := range m.layers {
		l := &m.out.Layers[n]
		h, g := m.newHeads(n)
		l.Heads, l.KVHeadCount, l.NoAttention = 0, 0, g == 0
		if g > 0 && (h != m.out.Model.Heads || g != m.out.Model.KVHeads) {
			l.Heads, l.KVHeadCount = h, g
		}
	}
}

func (m *mapping) layer(n int) (Layer, error) {
	old := m.layers[n]
	l := Layer{Layer: n, Select: "none", KVHeads: []KVHead{}}
	if from := m.by[old]; from != nil {
		l.SourceLayer, l.Select = from.SourceLayer, from.Select
		if s := from.ShareAttentionWith; s != nil {
			to := m.newLayer(*s)
			if to < 0 {
				return l, fmt.Errorf("manifest: layer %d shares the attention of layer %d, which is dropped: %w", old, *s, ErrMapping)
			}
			l.ShareAttentionWith = &to
		}
	}
	if l.SourceLayer == nil && old != n {
		l.SourceLayer = &old
	}
	first := 0 // query head of the new layer
	for g, from := range m.groups[n] {
		h, err := m.head(n, g, first, from)
		if err != nil {
			return l, err
		}
		l.KVHeads = append(l.KVHeads, h)
		lo, hi := m.share(n, g)
		first += len(from) * (hi - lo)
	}
	return l, nil
}

// newLayer returns the new index of a layer, -1 where it is dropped.
func (m *mapping) newLayer(old int) int {
	for n, l := range m.layers {
		if l == old {
			return n
		}
	}
	return -1
}

// head makes a KV head from old ones: in decoding the widest of their rules, in prefill what each query head had, the largest
// score and the most bits.
func (m *mapping) head(layer, g, first int, from []int) (KVHead, error) {
	h := KVHead{Head: g}
	var rules []Rules
	var prefill []string
	was := m.layers[layer]
	n := m.qHeads[was] / m.kvHeads[was]
	lo, hi := m.share(layer, g)
	for _, i := range from {
		old := m.entries[was][i]
		rules = append(rules, m.p.rules(old))
		for q := i*n + lo; q < i*n+hi; q++ {
			prefill = append(prefill, m.p.prefillID(old, q))
		}
		if old == nil {
			continue
		}
		if old.Score != nil && (h.Score == nil || *old.Score > *h.Score) {
			h.Score = old.Score
		}
		h.KVBits = mostBits(h.KVBits, old.KVBits, len(rules) == 1)
		if len(from) == 1 {
			h.KChannelMask = old.KChannelMask
		}
	}
	setPrefill(&h, first, prefill)
	if len(rules) == 1 {
		h.Decode = rules[0]
		return h, nil
	}
	var err error
	h.Decode, err = widestFull(m.out.Policies, rules)
	return h, err
}

// mostBits returns the larger of two numbers of bits, nil where one is not stated.
func mostBits(a, b []int, first bool) []int {
	if first {
		return b
	}
	if a == nil || b == nil {
		return nil
	}
	return []int{max(a[0], b[0]), max(a[1], b[1])}
}

// widestFull is widest for heads of any kinds: where they differ and the size of one is known at run time only, or is the whole
// cache, the merged head is full.
func widestFull(policies map[string]Policy, members []Rules) (Rules, error) {
	same := true
	for _, r := range members {
		same = same && sameRules(r, members[0])
	}
	if same {
		return members[0], nil
	}
	full := fullID(policies)
	replaced := make([]Rules, len(members))
	for i, rules := range members {
		replaced[i] = append(Rules{}, rules...)
		for j, r := range rules {
			if pol := policies[r.Use]; pol.size() == (size{b: 1}) && full != "" {
				replaced[i][j].Use = full
			}
		}
	}
	return widest(policies, replaced)
}

// fullID returns the first id of a full policy, "" where the document has none.
func fullID(policies map[string]Policy) string {
	for _, id := range sortedKeys(policies) {
		if policies[id].Kind == KindFull {
			return id
		}
	}
	return ""
}

// prefillID returns the prefill policy of a query head whose KV head has this entry, nil for none.
func (p *Plan) prefillID(h *KVHead, query int) string {
	if h != nil {
		if own, ok := h.QHeads[strconv.Itoa(query)]; ok {
			return own.Prefill
		}
		if h.Prefill != "" {
			return h.Prefill
		}
	}
	return p.Defaults.Prefill
}

// permutation returns where the heads come from, in terms of the model that the old plan's permutation speaks of. Copies share the
// entries of their original out, as they do its query heads; nil where they do not divide them.
func (m *mapping) permutation() *Permutation {
	out := &Permutation{KVHeads: make([][]int, len(m.layers))}
	for n, old := range m.layers {
		row := []int{}
		for g, from := range m.groups[n] {
			if g%m.times(n) > 0 {
				continue
			}
			for _, i := range from {
				if p := m.p.Model.Permutation; p != nil {
					per := len(p.KVHeads[old]) / m.kvHeads[old]
					row = append(row, p.KVHeads[old][i*per:(i+1)*per]...)
				} else {
					row = append(row, i)
				}
			}
		}
		if g := len(m.groups[n]); g > 0 && len(row)%g != 0 {
			return nil
		}
		out.KVHeads[n] = row
	}
	return out
}

// evidence carries scores over: those of query heads move with them, those of merged KV heads become the largest, and copies have
// that of their original.
func (m *mapping) evidence(e *Evidence) Evidence {
	out := *e
	if len(e.Scores) == 0 {
		return out
	}
	out.Scores = make([][]float64, len(m.layers))
	for n, old := range m.layers {
		row := e.Scores[old]
		out.Scores[n] = []float64{}
		if len(row) == 0 {
			continue
		}
		if e.per() == PerLayer {
			out.Scores[n] = row
			continue
		}
		per := len(row) / m.kvHeads[old] // scores of each KV head
		for g, from := range m.groups[n] {
			lo, hi := 0, per
			if e.per() == PerQHead {
				lo, hi = m.share(n, g)
			}
			var of []float64
			for _, i := range from {
				of = append(of, row[i*per+lo:i*per+hi]...)
			}
			if e.per() == PerKVHead {
				for _, v := range of {
					of[0] = max(of[0], v)
				}
				of = of[:1]
			}
			out.Scores[n] = append(out.Scores[n], of...)
		}
	}
	return out
}
