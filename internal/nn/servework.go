package nn

import (
	"modelpress/formats/manifest"
	"modelpress/internal/device"
	"modelpress/internal/num"
)

// work is one layer over one window under the policies that are in force there.
type work struct {
	s             *Server
	layer, window int
	prompt, t     int               // tokens of the prompt, and of the window
	own           int               // the layer's sliding window, 0 for none
	prefill       []manifest.Policy // [H]
	decode        []manifest.Policy // [G]
	// choose is what each KV head selects by at each step, nil where it sees all that it keeps; shared ones are read from
	// the layer that selects. offers are the selections that a KV head makes for later layers.
	choose []*choice // [G]
	shared bool
	offers [][]choice // [G]
}

// work resolves the plan for a layer and window.
func (s *Server) work(l, window int) (*work, error) {
	a, sw := &s.m.Arch.Layers[l], &s.stats.Windows[window]
	w := &work{s: s, layer: l, window: window, prompt: sw.Prompt, t: sw.Tokens, own: a.Window}
	if !a.HasAttention() {
		return w, nil
	}
	w.prefill, w.decode = make([]manifest.Policy, a.H), make([]manifest.Policy, a.G)
	w.choose, w.offers = make([]*choice, a.G), make([][]choice, a.G)
	var err error
	for h := range w.prefill {
		if w.prefill[h], err = s.policy(l, h/(a.H/a.G), h, window, w.prompt); err != nil {
			return nil, err
		}
		if w.promptIsDense(&w.prefill[h]) {
			w.prefill[h] = manifest.Full()
		}
	}
	for g := range w.decode {
		if w.decode[g], err = s.policy(l, g, -1, window, w.t); err != nil {
			return nil, err
		}
		if err = w.selection(g); err != nil {
			return nil, err
		}
	}
	return w, nil
}

// promptIsDense reports whether the whole prompt is one chunk and that hides nothing.
func (w *work) promptIsDense(p *manifest.Policy) bool {
	if w.s.opt.Plan == nil || w.s.opt.Chunk > 0 && w.s.opt.Chunk < w.prompt {
		return false
	}
	phase := w.s.opt.Plan.Phases.Prefill
	byPosition := p.Kind == manifest.KindStreaming && w.own == 0 || p.Kind == manifest.KindLocalStride || p.Kind == manifest.KindPower
	return phase.FirstChunk == "dense" || phase.ChunkMask == "chunk" && byPosition
}

// begin sets what is known of the counts without running anything.
func (w *work) begin() {
	a, st := &w.s.m.Arch.Layers[w.layer], w.stats()
	*st = ServeLayer{KVTokens: make([]int, a.G), KVBytes: make([]int64, a.G)}
	tokens := w.t
	if w.own > 0 {
		tokens = min(tokens, w.own)
	}
	st.DenseKVBytes = int64(w.s.pages(tokens)) * 2 * int64(a.K) * int64(w.s.opt.ElementBytes)
	st.Prefill.Dense = int64(a.H) * seenBy(0, w.prompt, w.own)
	st.Decode.Dense = int64(a.H) * seenBy(w.prompt, w.t, w.own)
}

func (w *work) stats() *ServeLayer { return &w.s.stats.Windows[w.window].Layers[w.layer] }

// masks returns one mask per KV head where these masks give both phases and the caches are as large as they say.
func (w *work) masks() ([]device.Mask, bool) {
	out := make([]device.Mask, len(w.decode))
	for g := range out {
		before, isMask := w.before(g)
		after, counts := w.after(g)
		if !counts || w.s.opt.stepwise {
			return nil, false
		}
		switch {
		case w.prompt == 0 || isMask && before == after:
			out[g] = after
		case w.prompt == w.t && isMask:
			out[g] = before
		case isMask && w.open(before) && w.open(after):
			out[g] = after
		default:
			return nil, false
		}
	}
	return out, true
}

// open reports whether a mask hides nothing from the queries of the prompt.
func (w *work) open(m device.Mask) bool { return m.Full() || m.Sink+m.Recent >= w.prompt }

// before returns the mask of a KV head's prompt, and whether all its query heads are under that mask and nothing else.
func (w *work) before(g int) (device.Mask, bool) {
	group := len(w.prefill) / len(w.decode)
	first, _ := maskOf(w.prefill[g*group], w.own)
	for _, p := range w.prefill[g*group : (g+1)*group] {
		m, ok := maskOf(p, w.own)
		if !ok || m != first || !w.placeFree(m) || p.Kind != manifest.KindFull && !w.exact() {
			return m, false
		}
	}
	return first, true
}

// after returns the mask of a KV head's decoding, and whether it is under that mask and nothing else.
func (w *work) after(g int) (device.Mask, bool) {
	e := &w.s.entries[w.layer].heads[g]
	m, ok := maskOf(w.decode[g], w.own)
	altered := e.channels != nil || roundsBits(e.kBits) || roundsBits(e.vBits) || !w.placeFree(m)
	if w.prompt < w.t && (altered || w.choose[g] != nil || len(w.offers[g]) > 0) {
		return m, false
	}
	return m, ok
}

// exact reports whether a mask other than the layer's own holds for every query of the prompt, whatever its chunk.
func (w *work) exact() bool {
	phase := w.s.opt.Plan.Phases.Prefill
	return phase.FirstChunk == "policy" && phase.ChunkMask == "exact"
}

// placeFree reports whether renumbering positions changes nothing under a mask: no key is dropped between others.
func (w *work) placeFree(m device.Mask) bool { return !w.s.renumbers() || m.Full() || m.Sink == 0 }

// countMasks counts what one call of attention under masks does.
func (w *work) countMasks(masks []device.Mask) {
	st := w.stats()
	group := int64(len(w.prefill) / len(w.decode))
	for g := range masks {
		before, after := w.limit(w.prefill[g*int(group)]), w.limit(w.decode[g])
		if w.prompt > 0 {
			st.Prefill.Attended += group * seenBy(0, w.prompt, before)
		}
		st.Decode.Attended += group * seenBy(w.prompt, w.t, after)
		tokens := make([]int, w.t-w.prompt+1)
		for s := range tokens {
			if tokens[s] = w.prompt + s; after > 0 {
				tokens[s] = min(tokens[s], after)
			}
		}
		w.countCache(g, tokens)
	}
}

// limit returns how many keys a policy that is a mask lets a query see, 0 for all.
func (w *work) limit(p manifest.Policy) int {
	m, _ := maskOf(p, w.own)
	if m.Full() {
		return 0
	}
	return m.Sink + m.Recent
}

// countCache enters the occupancy of a KV head's cache after the prompt and each step.
func (w *work) countCache(g int, tokens []int) {
	a, e, st := &w.s.m.Arch.Layers[w.layer], &w.s.entries[w.layer].heads[g], w.stats()
	row := rowBytes(e.kept, e.kBits, w.s.opt.ElementBytes) + rowBytes(a.K, e.vBits, w.s.opt.ElementBytes)
	h := w.s.held[w.window]
	for s, n := range tokens {
		bytes := int64(w.s.pages(n)) * row
		h.tokens[s] += int64(n)
		h.bytes[s] += bytes
		st.KVTokens[g] = max(st.KVTokens[g], n)
		st.KVBytes[g] = max(st.KVBytes[g], bytes)
	}
}

func roundsBits(bits int) bool { return bits > 0 && bits < 16 }

// attend runs both phases: heads of the prompt one by one, then KV heads with their caches.
func (w *work) attend(a *AttnState) error {
	a.Read(AllHeads)
	s, st := a.Shape, w.stats()
	before, after := make([]int64, s.H), make([]int64, s.G)
	there := w.prefillThere(a, before)
	if w.prompt > 0 {
		a.Dev.For(s.H, func(h int) {
			if there == nil || !there[h] {
				before[h] = w.prefillHead(a, h)
			}
		})
	}
	tokens := make([][]int, s.G)
	heads := make([]*decodeHead, s.G)
	for g := range heads {
		var err error
		if heads[g], err = w.newDecodeHead(a, g); err != nil {
			return err
		}
	}
	a.Dev.For(s.G, func(g int) {
		tokens[g] = heads[g].run()
		after[g] = heads[g].pairs
	})
	for _, n := range before {
		st.Prefill.Attended += n
	}
	for g, n := range after {
		st.Decode.Attended += n
		w.countCache(g, tokens[g])
	}
	return nil
}

// head returns query head h over the first t positions under the layer's own window.
func (w *work) head(a *AttnState, h, t int) num.AttnHead {
	s := a.Shape
	g := h / (s.H / s.G)
	return num.AttnHead{Q: a.Q[h*s.K:], K: a.K[g*s.K:], V: a.V[g*s.K:], LDQ: s.H * s.K, LDK: s.G * s.K, LDV: s.G * s.K,
		T: t, Dim: s.K, Scale: s.Scale, Recent: w.own}
}

// output returns the output of query head h at position i.
func output(a *AttnState, h, i int) []float32 {
	return a.Out[(i*a.Shape.H+h)*a.Shape.K:][:a.Shape.K]
}
