package nn

import (
	"modelpress/formats/manifest"
	"modelpress/internal/num"
)

// decodeHead is one KV head during decoding: its cache under its policy, and the query heads that read it.
type decodeHead struct {
	w       *work
	a       *AttnState
	g       int
	heads   []num.AttnHead // query heads over the window, with keys as they were computed
	pol     manifest.Policy
	cache   kvCache
	gone    *dropped
	turn    *turner
	stride  *StridePattern
	columns []*VerticalSlash // per query head
	sinks   [][]int          // per query head
	choose  *choice
	shared  [][]Span            // selections to read, by step
	offers  map[choice][][]Span // selections to make
	row     RowAttention
	q       []float32 // a query without the channels that keys have not
	pairs   int64
}

func (w *work) newDecodeHead(a *AttnState, g int) (*decodeHead, error) {
	s, e := a.Shape, &w.s.entries[w.layer].heads[g]
	d := &decodeHead{w: w, a: a, g: g, pol: w.decode[g], choose: w.choose[g],
		cache: kvCache{dim: s.K, kBits: e.kBits, vBits: e.vBits}, offers: w.offer(g)}
	for h := g * (s.H / s.G); h < (g+1)*(s.H/s.G); h++ {
		d.heads = append(d.heads, w.head(a, h, w.t))
	}
	if w.shared && d.choose != nil && w.prompt < w.t {
		var err error
		if d.shared, err = w.read(g); err != nil {
			return nil, err
		}
	}
	if e.channels != nil {
		d.q = make([]float32, s.K)
	}
	if w.s.renumbers() && (d.pol.Kind == manifest.KindStreaming || d.pol.Kind == manifest.KindTokenTopK && d.choose == nil) {
		d.turn = w.s.m.turner(s.K, w.t)
	}
	if d.pol.Compensation {
		d.gone = newDropped(s.K)
	}
	return d, nil
}

// run decodes every position after the prompt and returns the tokens held after the prompt and after each step.
func (d *decodeHead) run() (tokens []int) {
	d.learn()
	d.fill()
	tokens = append(tokens, d.tokens())
	for i := d.w.prompt; i < d.w.t; i++ {
		d.admit(i)
		tokens = append(tokens, d.tokens())
		d.attend(i)
	}
	return tokens
}

func (d *decodeHead) tokens() int {
	if d.gone != nil && d.gone.n > 0 {
		return d.cache.tokens() + 1
	}
	return d.cache.tokens()
}

// learn finds what the policy takes from the prompt's queries for all steps.
func (d *decodeHead) learn() {
	p := d.w.prompt
	switch d.pol.Kind {
	case manifest.KindLocalStride, manifest.KindPower:
		d.stride = NewStridePattern(d.pol)
	case manifest.KindVerticalSlash:
		for _, h := range d.heads {
			columns, diagonals := Estimate(h, 0, p, d.pol.LastQ)
			more := make([]float64, d.w.t-p)
			d.columns = append(d.columns, TopVerticalSlash(append(columns, more...), append(diagonals, more...),
				d.pol.Vertical, d.pol.Slash, d.pol.ForceVertical, d.pol.ForceSlash))
		}
	case manifest.KindSinkScaled:
		for _, h := range d.heads {
			d.sinks = append(d.sinks, SinkColumns(h, 0, p, d.pol.Skip, d.pol.Threshold))
		}
	}
}

// fill builds the cache of the prompt.
func (d *decodeHead) fill() {
	if d.pol.Kind == manifest.KindTokenTopK && d.pol.Selector == "snapkv" {
		votes := Votes(d.heads, d.w.prompt, d.pol.Window)
		for _, j := range SelectTokens(votes, d.pol.Budget, d.pol.Window, d.pol.Pool) {
			d.put(j)
		}
		d.leaveWindow(d.w.prompt - 1)
		return
	}
	for j := range d.w.prompt {
		d.admit(j)
	}
}

func (d *decodeHead) put(i int) {
	h := &d.heads[0]
	d.cache.put(h.K[i*h.LDK:][:h.Dim], h.V[i*h.LDV:][:h.Dim], i)
}

// admit puts position i into the cache and drops what the policy lets go.
func (d *decodeHead) admit(i int) {
	d.put(i)
	switch d.pol.Kind {
	case manifest.KindStreaming:
		if i < d.pol.Sink {
			d.cache.keep()
		}
		for d.cache.queued() > d.pol.Recent {
			k, v := d.cache.pop()
			if d.gone != nil {
				d.gone.add(k, v)
			}
		}
		return
	case manifest.KindLocalStride:
		if r := i / d.pol.Block; i%d.pol.Block == 0 { // a block that is out of sight stays so
			d.cache.sweep(func(j int) bool { return d.stride.sees(r, j/d.pol.Block) })
		}
	}
	d.leaveWindow(i)
}

// leaveWindow drops what lies outside of the layer's own window for the query after position i, or for i itself while it
// is the newest.
func (d *decodeHead) leaveWindow(i int) {
	if d.w.own > 0 {
		d.cache.dropBefore(i - d.w.own + 1)
	}
}

// attend writes the outputs of the query heads at position i.
func (d *decodeHead) attend(i int) {
	step := i - d.w.prompt
	all := d.cache.spans(nil)
	for c := range d.offers {
		d.offers[c] = append(d.offers[c], d.selects(i, &c, all))
	}
	seen := all
	switch {
	case d.shared != nil:
		seen = d.cache.rows(d.shared[step])
	case d.choose != nil:
		seen = d.cache.rows(d.selects(i, d.choose, all))
	case d.stride != nil:
		seen = d.cache.rows(d.stride.Spans(nil, i))
	}
	for n, h := range d.heads {
		if d.columns != nil {
			seen = d.cache.rows(d.columns[n].Spans(nil, i))
		}
		d.one(n, h, i, seen)
	}
}

// one writes the output of one query head over the rows that it sees.
func (d *decodeHead) one(n int, h num.AttnHead, i int, seen []Span) {
	w, c := &d.row, &d.cache
	q, out := d.query(h, i), output(d.a, d.g*len(d.heads)+n, i)
	d.pairs += int64(Covered(seen))
	if d.turn != nil {
		w.within(d.turn, q, c.k, c.dim, h.Scale, seen, c.pos, i)
	} else {
		w.scores(q, c.k, c.dim, h.Scale, seen)
	}
	mean := d.gone != nil && d.gone.n > 0
	if mean {
		d.pairs++
		d.gone.score(w, q, h.Scale)
	}
	w.soften()
	if d.sinks != nil {
		w.rescale(seen, d.sinks[n], d.pol.Scale, c.pos)
	}
	w.sum(out, c.v, c.dim, seen)
	if mean {
		d.gone.sum(w, out)
	}
}

// query returns the query at position i without the channels that cached keys lack.
func (d *decodeHead) query(h num.AttnHead, i int) []float32 {
	q := queryOf(h, i)
	if d.q == nil {
		return q
	}
	for c, kept := range d.w.s.entries[d.w.layer].heads[d.g].channels {
		if d.q[c] = 0; kept {
			d.q[c] = q[c]
		}
	}
	return d.q
}

// selects returns the positions that a choice keeps for the query at i, from the rows in all.
func (d *decodeHead) selects(i int, c *choice, all []Span) []Span {
	if !c.tokens {
		return selectBlocks(d.heads, i, c)
	}
	votes := make([]float64, Covered(all))
	for _, h := range d.heads {
		d.row.scores(d.query(h, i), d.cache.k, d.cache.dim, h.Scale, all)
		d.row.soften()
		num.AddWide(votes, d.row.p)
	}
	var rows []int
	for _, s := range all {
		for r := s.Lo; r < s.Hi; r++ {
			rows = append(rows, r)
		}
	}
	var out []Span
	for _, at := range SelectTokens(votes, c.budget, c.window, c.pool) {
		j := d.cache.pos[rows[at]]
		out = join(out, j, j+1)
	}
	return out
}
