package nn

import (
	"math"
	"sort"
	"testing"

	"modelpress/formats/manifest"
)

// serveOracle is the attention of one layer over one window under a plan, from whole float64 matrices and the text of
// docs/MANIFEST.md: what each query sees is a row of flags, made anew for every query.
type serveOracle struct {
	t             *testing.T
	m             *Model
	plan          *manifest.Plan
	prompt, total int
	chunk         int
	layer         int
	q, k, v       []float64
	h, g, dim     int
	scale         float64
	// chosen keeps what layers select, by layer and KV head and position.
	chosen map[[3]int][]bool

	prefillPairs, decodePairs int64
	held                      [][]int // [KV head][step]
}

func wide64(x []float32) []float64 {
	out := make([]float64, len(x))
	for i, v := range x {
		out[i] = float64(v)
	}
	return out
}

func (o *serveOracle) query(h, i int) []float64 { return o.q[(i*o.h+h)*o.dim:][:o.dim] }
func (o *serveOracle) key(h, j int) []float64   { return o.k[(j*o.g+h/(o.h/o.g))*o.dim:][:o.dim] }
func (o *serveOracle) value(h, j int) []float64 { return o.v[(j*o.g+h/(o.h/o.g))*o.dim:][:o.dim] }

func dot64(a, b []float64) float64 {
	s := 0.0
	for c := range a {
		s += a[c] * b[c]
	}
	return s
}

func (o *serveOracle) window() int { return o.m.Arch.Layers[o.layer].Window }

// inWindow reports whether the model itself lets i see j.
func (o *serveOracle) inWindow(i, j int) bool {
	return j <= i && (o.window() == 0 || i-j < o.window())
}

// dense returns the attention of query i over the keys that the model lets it see and that keep names.
func (o *serveOracle) dense(h, i int, keep func(j int) bool) []float64 {
	p, total := make([]float64, o.total), 0.0
	for j := range o.total {
		if o.inWindow(i, j) && keep(j) {
			p[j] = math.Exp(o.scale * dot64(o.query(h, i), o.key(h, j)))
			total += p[j]
		}
	}
	for j := range p {
		p[j] /= total
	}
	return p
}

func all(int) bool { return true }

// concrete turns an elastic policy into its sizes.
func (o *serveOracle) concrete(p manifest.Policy, decode bool) manifest.Policy {
	if p.Kind == manifest.KindElastic {
		n := o.total
		if p.Length == "prompt" {
			n = o.prompt
		}
		span := p.Span(n)
		p = manifest.Policy{Kind: manifest.KindStreaming, Sink: p.Sink, Recent: max(1, span-p.Sink)}
	}
	if p.Kind == manifest.KindStreaming && decode && o.plan.Phases.Decode.Round == "up" {
		for (p.Sink+p.Recent)%o.plan.Phases.Decode.Page != 0 {
			p.Recent++
		}
	}
	if p.Kind == manifest.KindStreaming && o.window() > 0 && o.window() <= p.Sink+p.Recent {
		return manifest.Full()
	}
	return p
}

// byPosition reports whether a policy of positions alone lets i see j, chunks aside.
func (o *serveOracle) byPosition(p manifest.Policy, i, j int) bool {
	switch p.Kind {
	case manifest.KindStreaming:
		return j < p.Sink || i-j < p.Recent
	case manifest.KindLocalStride:
		r, c := i/p.Block, j/p.Block
		return r-c < p.LocalBlocks || c >= p.Offset && (c-p.Offset)%p.VertStride == 0
	case manifest.KindPower:
		d := i/p.Block - j/p.Block
		power := false
		for x := 1; x <= d; x *= 2 {
			power = power || x == d
		}
		return j < p.Sink || d < p.LocalBlocks || power
	}
	return true
}

// vertical returns what a vertical_slash policy finds with the queries [lo, hi): flags of columns and distances.
func (o *serveOracle) vertical(p manifest.Policy, h, lo, hi int) (columns, distances []bool) {
	cs, ds := make([]float64, o.total), make([]float64, o.total)
	for i := max(lo, hi-p.LastQ); i < hi; i++ {
		for j, a := range o.dense(h, i, all) {
			if j <= i {
				cs[j] += a
				ds[i-j] += a
			}
		}
	}
	return topFlags(cs, p.Vertical, func(j int) bool { return j < p.ForceVertical }),
		topFlags(ds, p.Slash, func(j int) bool { return j < max(1, p.ForceSlash) })
}

// topFlags takes the forced ones and then the largest until count are taken.
func topFlags(scores []float64, count int, forced func(i int) bool) []bool {
	out, n := make([]bool, len(scores)), 0
	for i := range scores {
		if forced(i) {
			out[i] = true
			n++
		}
	}
	for ; n < min(count, len(scores)); n++ {
		at := -1
		for i, v := range scores {
			if !out[i] && (at < 0 || v > scores[at]) {
				at = i
			}
		}
		out[at] = true
	}
	return out
}

// blockScores scores the blocks of keys before hi for the queries [q0, q1).
func (o *serveOracle) blockScores(p manifest.Policy, h, q0, q1, hi int) []float64 {
	n := (q1 + p.Block - 1) / p.Block
	out := make([]float64, n)
	low := 0
	if o.window() > 0 {
		low = max(0, q0-o.window()+1)
	}
	if p.Selector == "mean_pool" {
		for b := range out {
			end := min((b+1)*p.Block, hi)
			for i := q0; i < q1; i++ {
				for j := b * p.Block; j < end; j++ {
					out[b] += dot64(o.query(h, i), o.key(h, j)) * o.scale / float64((q1-q0)*(end-b*p.Block))
				}
			}
			if end <= low {
				out[b] = math.Inf(-1)
			}
		}
		return out
	}
	stride := min(p.Stride, p.Block)
	groups := 0
	for a := q0; a < q1; a += stride {
		end := min(a+stride, q1)
		lowA := 0
		if o.window() > 0 {
			lowA = max(0, a-o.window()+1)
		}
		e, total := make([]float64, n), 0.0
		for b := range n {
			for k0 := b * p.Block; k0 < min((b+1)*p.Block, end); k0 += stride {
				k1 := min(k0+stride, (b+1)*p.Block)
				if k1 <= lowA {
					continue
				}
				k1 = min(k1, q1)
				s := 0.0
				for x := a; x < end; x++ {
					s += dot64(o.query(h, x), o.key(h, k1-1-(x-a)%(k1-k0)))
				}
				w := math.Exp(s * o.scale / float64(end-a))
				e[b] += w
				total += w
			}
		}
		for b := range out {
			out[b] += e[b] / total
		}
		groups++
	}
	for b := range out {
		out[b] /= float64(groups)
	}
	return out
}

// blocks returns flags of the blocks that a policy keeps, by their scores.
func chosenBlocks(p manifest.Policy, scores []float64, own int) []bool {
	forced := func(b int) bool { return b >= own }
	if p.Selector == "mean_pool" {
		return topFlags(scores, p.Blocks, forced)
	}
	total := 0.0
	for _, v := range scores {
		total += v
	}
	for n := len(scores) - own; n < len(scores); n++ {
		flags, sum := topFlags(scores, n, forced), 0.0
		for b, in := range flags {
			if in {
				sum += scores[b]
			}
		}
		if sum >= p.Threshold*total && p.Threshold < 1 {
			return flags
		}
	}
	return topFlags(scores, len(scores), forced)
}

// prefill computes the output of query i of the prompt.
func (o *serveOracle) prefill(h, i int) []float64 {
	raw, _ := o.plan.ResolveQuery(o.layer, h, manifest.Prefill, o.prompt)
	p := o.concrete(raw, false)
	chunk := o.chunk
	if chunk == 0 {
		chunk = o.prompt
	}
	lo, hi := 0, o.prompt
	ph := o.plan.Phases.Prefill
	if ph.FirstChunk == "dense" && i < chunk || p.Kind == manifest.KindTokenTopK {
		p = manifest.Full()
	}
	chunked := ph.ChunkMask == "chunk"
	if chunked {
		lo = i / chunk * chunk
		hi = min(lo+chunk, o.prompt)
	}
	seen := make([]bool, o.total)
	var columns, distances, blocks []bool
	switch p.Kind {
	case manifest.KindVerticalSlash:
		columns, distances = o.vertical(p, h, lo, hi)
	case manifest.KindBlockTopK:
		q0 := lo + (i-lo)/p.Block*p.Block
		blocks = chosenBlocks(p, o.blockScores(p, h, q0, min(q0+p.Block, hi), hi), q0/p.Block)
	}
	for j := range i + 1 {
		switch p.Kind {
		case manifest.KindStreaming, manifest.KindLocalStride, manifest.KindPower:
			seen[j] = o.byPosition(p, i, j)
			for x := lo; x < hi && chunked; x++ {
				seen[j] = seen[j] || j <= x && o.byPosition(p, x, j) && (o.inWindow(i, j) || j < p.Sink)
			}
			if p.Kind == manifest.KindStreaming {
				continue
			}
		case manifest.KindVerticalSlash:
			seen[j] = columns[j] || distances[i-j]
		case manifest.KindBlockTopK:
			seen[j] = blocks[j/p.Block]
		default:
			seen[j] = true
		}
		seen[j] = seen[j] && o.inWindow(i, j)
	}
	out, n := o.attend(h, i, p, seen, nil, lo, hi)
	o.prefillPairs += int64(n)
	return out
}

// attend computes the output of a row of flags, with what a policy does besides hiding. k, v are the cached rows, nil for
// the keys as they are.
func (o *serveOracle) attend(h, i int, p manifest.Policy, seen []bool, rows *cachedRows, lo, hi int) ([]float64, int) {
	key, value, query := func(j int) []float64 { return o.key(h, j) }, func(j int) []float64 { return o.value(h, j) }, o.query(h, i)
	if rows != nil {
		key, value, query = func(j int) []float64 { return rows.k[j] }, func(j int) []float64 { return rows.v[j] }, rows.mask(query)
	}
	n := 0
	for _, s := range seen {
		if s {
			n++
		}
	}
	if moves := p.Kind == manifest.KindStreaming || p.Kind == manifest.KindTokenTopK && p.Selector == "snapkv"; moves && o.plan.RopePositions == "within_cache" {
		place := 0
		places := make([]int, o.total)
		for j, s := range seen {
			if s {
				places[j] = place
				place++
			}
		}
		query = o.move(query, i, n-1)
		plain := key
		key = func(j int) []float64 { return o.move(plain(j), j, places[j]) }
	}
	e, total := make([]float64, o.total), 0.0
	for j, s := range seen {
		if s {
			e[j] = math.Exp(o.scale * dot64(query, key(j)))
			total += e[j]
		}
	}
	out := make([]float64, o.dim)
	if p.Compensation {
		k, v, gone := make([]float64, o.dim), make([]float64, o.dim), 0.0
		for j := range i + 1 {
			if !seen[j] {
				gone++
				for c := range k {
					k[c] += key(j)[c]
					v[c] += value(j)[c]
				}
			}
		}
		if gone > 0 {
			n++
			for c := range k {
				k[c] /= gone
				v[c] /= gone
			}
			w := gone * math.Exp(o.scale*dot64(query, k))
			total += w
			for c := range out {
				out[c] += w * v[c]
			}
			for c := range out {
				out[c] /= total
			}
		}
	}
	for j := range e {
		e[j] /= total
	}
	if p.Kind == manifest.KindSinkScaled {
		o.turnDown(p, h, e, lo, hi)
	}
	for j, s := range seen {
		if s {
			for c := range out {
				out[c] += e[j] * value(j)[c]
			}
		}
	}
	return out, n
}

// turnDown scales the weights of sinks found with the queries [lo, hi).
func (o *serveOracle) turnDown(p manifest.Policy, h int, e []float64, lo, hi int) {
	sum, seen := make([]float64, o.total), make([]float64, o.total)
	for i := lo; i < hi; i++ {
		for j, a := range o.dense(h, i, all) {
			if o.inWindow(i, j) {
				sum[j] += a
				seen[j]++
			}
		}
	}
	sink := func(j int) bool { return j >= p.Skip && seen[j] > 0 && sum[j]/seen[j] > p.Threshold }
	freed, rest := 0.0, 0.0
	for j, w := range e {
		if sink(j) {
			freed += w * (1 - p.Scale)
		} else {
			rest += w
		}
	}
	if rest <= 1e-6 {
		return
	}
	for j := range e {
		if sink(j) {
			e[j] *= p.Scale
		} else {
			e[j] += freed * e[j] / rest
		}
	}
}

// move turns a vector that was rotated for one position to another.
func (o *serveOracle) move(x []float64, from, to int) []float64 {
	out := make([]float64, len(x))
	half := len(x) / 2
	for j := range half {
		f, _ := frequency(o.m.Arch.Rope, len(x), o.total, j)
		s, c := math.Sincos(float64(to-from) * f)
		out[j], out[j+half] = x[j]*c-x[j+half]*s, x[j+half]*c+x[j]*s
	}
	return out
}

// cachedRows are the keys and values as a cache holds them.
type cachedRows struct {
	k, v     [][]float64
	channels []bool
}

func (c *cachedRows) mask(q []float64) []float64 {
	if c.channels == nil {
		return q
	}
	out := make([]float64, len(q))
	for i := range q {
		if c.channels[i] {
			out[i] = q[i]
		}
	}
	return out
}

// decode computes the outputs of every position after the prompt for the query heads of KV head g.
func (o *serveOracle) decode(g int, write func(h, i int, out []float64)) {
	raw, _ := o.plan.Resolve(o.layer, g, manifest.Decoding, o.total)
	p := o.concrete(raw, true)
	group := o.h / o.g
	rows := o.rows(g, group)
	alive := make([]bool, o.total)
	for j := range o.prompt {
		alive[j] = true
	}
	if p.Kind == manifest.KindTokenTopK && p.Selector == "snapkv" && o.prompt > 0 {
		alive = o.voted(p, g, group)
	}
	held := make([]int, 0)
	o.evict(p, alive, o.prompt-1)
	held = append(held, o.count(p, alive, o.prompt))
	for i := o.prompt; i < o.total; i++ {
		alive[i] = true
		o.evict(p, alive, i)
		held = append(held, o.count(p, alive, i+1))
		o.offer(g, i, alive, rows)
		for h := g * group; h < (g+1)*group; h++ {
			seen := make([]bool, o.total)
			for j := range i + 1 {
				seen[j] = alive[j]
			}
			sel := o.chosen[[3]int{o.layer, g, i}]
			shares := false
			for _, l := range o.plan.Layers {
				if l.Layer == o.layer && l.ShareAttentionWith != nil {
					sel, shares = o.chosen[[3]int{*l.ShareAttentionWith, g, i}], true
				}
			}
			switch {
			case shares || p.Kind == manifest.KindTokenTopK && p.Selector == "attention" || p.Kind == manifest.KindBlockTopK:
				if !shares {
					sel = o.selects(p, g, i, alive, rows)
				}
				for j := range seen {
					seen[j] = seen[j] && sel[j]
				}
			case p.Kind == manifest.KindVerticalSlash:
				c, d := o.vertical(p, h, 0, o.prompt)
				for j := range i + 1 {
					seen[j] = seen[j] && (c[j] || d[i-j])
				}
			default:
				for j := range i + 1 {
					seen[j] = seen[j] && o.byPosition(p, i, j)
				}
			}
			out, n := o.attend(h, i, p, seen, rows, 0, o.prompt)
			o.decodePairs += int64(n)
			write(h, i, out)
		}
	}
	o.held = append(o.held, held)
}

// evict drops what a policy will never let a later query see, after position i came.
func (o *serveOracle) evict(p manifest.Policy, alive []bool, i int) {
	for j := range alive {
		if !alive[j] {
			continue
		}
		needed := false
		for x := i; x < o.total; x++ {
			needed = needed || o.byPosition(p, x, j)
		}
		if i < 0 {
			continue
		}
		if p.Kind == manifest.KindLocalStride || p.Kind == manifest.KindStreaming {
			alive[j] = needed
		}
		if p.Kind != manifest.KindStreaming && !o.inWindow(i, j) {
			alive[j] = false
		}
	}
}

func (o *serveOracle) count(p manifest.Policy, alive []bool, n int) int {
	c := 0
	for j := range n {
		if alive[j] {
			c++
		}
	}
	if p.Compensation && c < n {
		return c + 1
	}
	return c
}

// voted is the choice of SnapKV.
func (o *serveOracle) voted(p manifest.Policy, g, group int) []bool {
	votes := make([]float64, o.prompt)
	for h := g * group; h < (g+1)*group; h++ {
		for i := max(0, o.prompt-p.Window); i < o.prompt; i++ {
			for j, a := range o.dense(h, i, all) {
				if j < o.prompt {
					votes[j] += a
				}
			}
		}
	}
	return append(keepTokens(votes, p), make([]bool, o.total-o.prompt)...)
}

// keepTokens takes the last window and the best of the others, max-pooled.
func keepTokens(votes []float64, p manifest.Policy) []bool {
	rest := max(0, len(votes)-p.Window)
	pooled := make([]float64, len(votes))
	for j := range rest {
		pooled[j] = votes[j]
		for x := 0; x < p.Pool; x++ {
			if y := j - p.Pool/2 + x; y >= 0 && y < rest {
				pooled[j] = math.Max(pooled[j], votes[y])
			}
		}
	}
	return topFlags(pooled, max(p.Budget, p.Window), func(j int) bool { return j >= rest })
}

// selects returns what a step selects: flags of positions.
func (o *serveOracle) selects(p manifest.Policy, g, i int, alive []bool, rows *cachedRows) []bool {
	group := o.h / o.g
	out := make([]bool, o.total)
	if p.Kind == manifest.KindBlockTopK {
		var total []float64
		for h := g * group; h < (g+1)*group; h++ {
			scores := o.blockScores(p, h, i, i+1, i+1)
			if total == nil {
				total = make([]float64, len(scores))
			}
			for b, v := range scores {
				total[b] += v
			}
		}
		for b, in := range chosenBlocks(p, total, i/p.Block) {
			for j := b * p.Block; in && j < min((b+1)*p.Block, i+1); j++ {
				out[j] = true
			}
		}
		return out
	}
	var live []int
	for j := range i + 1 {
		if alive[j] {
			live = append(live, j)
		}
	}
	votes := make([]float64, len(live))
	for h := g * group; h < (g+1)*group; h++ {
		e, total := make([]float64, len(live)), 0.0
		for n, j := range live {
			e[n] = math.Exp(o.scale * dot64(rows.mask(o.query(h, i)), rows.k[j]))
			total += e[n]
		}
		for n := range e {
			votes[n] += e[n] / total
		}
	}
	for n, in := range keepTokens(votes, p) {
		out[live[n]] = in
	}
	return out
}

// offer selects for the layers that share with this one.
func (o *serveOracle) offer(g, i int, alive []bool, rows *cachedRows) {
	for _, l := range o.plan.Layers {
		if l.ShareAttentionWith != nil && *l.ShareAttentionWith == o.layer {
			p, _ := o.plan.Resolve(l.Layer, g, manifest.Decoding, o.total)
			if p.Kind == manifest.KindFull {
				p, _ = o.plan.Resolve(o.layer, g, manifest.Decoding, o.total)
			}
			o.chosen[[3]int{o.layer, g, i}] = o.selects(p, g, i, alive, rows)
		}
	}
}

// rows returns what the cache of KV head g holds of each position.
func (o *serveOracle) rows(g, group int) *cachedRows {
	c := &cachedRows{}
	kb, vb := 0, 0
	for _, l := range o.plan.Layers {
		for _, e := range l.KVHeads {
			if l.Layer == o.layer && e.Head == g {
				if e.KVBits != nil {
					kb, vb = e.KVBits[0], e.KVBits[1]
				}
				for at := 0; e.KChannelMask != "" && at < o.dim; at++ {
					digit := sort.SearchStrings([]string{"0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "a", "b", "c", "d", "e", "f"}, e.KChannelMask[at/4:at/4+1])
					c.channels = append(c.channels, digit&(8>>(at%4)) != 0)
				}
			}
		}
	}
	for j := range o.total {
		c.k = append(c.k, levels(o.key(g*group, j), kb))
		c.v = append(c.v, levels(o.value(g*group, j), vb))
	}
	return c
}

func levels(x []float64, bits int) []float64 {
	out := append([]float64(nil), x...)
	if bits == 0 || bits > 15 {
		return out
	}
	lo, hi := math.Inf(1), math.Inf(-1)
	for _, v := range x {
		lo, hi = math.Min(lo, v), math.Max(hi, v)
	}
	step := (hi - lo) / (math.Pow(2, float64(bits)) - 1)
	for i, v := range x {
		out[i] = lo + math.RoundToEven((v-lo)/step)*step
	}
	return out
}
