package manifest

import (
	"fmt"
	"strconv"
)

// export is a plan on its way into another format: which policy each head has, and what gets lost.
type export struct {
	ledger
	format  string
	p       *Plan
	o       Options
	qHeads  []int       // of each layer
	kvHeads []int       // of each layer
	entries [][]*KVHead // [layer][KV head], nil where the defaults apply
	files   []File
}

// newExport finds the heads and records the losses that are common to all formats.
func newExport(format string, p *Plan, o Options) (*export, error) {
	x := &export{format: format, p: p, o: o}
	var err error
	if x.qHeads, x.kvHeads, err = headCounts(p); err != nil {
		return nil, err
	}
	x.entries = make([][]*KVHead, p.Model.Layers)
	for l, g := range x.kvHeads {
		x.entries[l] = make([]*KVHead, g)
	}
	for i := range p.Layers {
		l := &p.Layers[i]
		if l.Select != "none" || l.ShareAttentionWith != nil {
			x.loseAt(l.Layer, -1, "the choice that layers share")
		}
		for j := range l.KVHeads {
			h := &l.KVHeads[j]
			x.entries[l.Layer][h.Head] = h
			if h.KVBits != nil {
				x.loseAt(l.Layer, h.Head, "kv_bits")
			}
			if h.KChannelMask != "" {
				x.loseAt(l.Layer, h.Head, "k_channel_mask")
			}
		}
	}
	if p.RopePositions != "absolute" {
		x.lose("keys that are rotated by their place in the cache: readers keep the rotation of their place in the text")
	}
	return x, nil
}

// headCounts returns the query and KV heads of each layer.
func headCounts(p *Plan) (heads, kvHeads []int, err error) {
	if p.Model.Layers < 1 || p.Model.Layers > maxLayers {
		return nil, nil, fmt.Errorf("manifest: %d layers: %w", p.Model.Layers, ErrUnfit)
	}
	heads, kvHeads = make([]int, p.Model.Layers), make([]int, p.Model.Layers)
	for l := range heads {
		heads[l], kvHeads[l] = p.Model.Heads, p.Model.KVHeads
	}
	for i := range p.Layers {
		if l := &p.Layers[i]; l.Layer >= 0 && l.Layer < len(heads) {
			heads[l.Layer], kvHeads[l.Layer] = l.counts(&p.Model)
		}
	}
	total := 0
	for l, h := range heads {
		g := kvHeads[l]
		if h < 0 || h > maxHeads || g < 0 || g > h || g > 0 && h%g != 0 || g == 0 && h > 0 {
			return nil, nil, fmt.Errorf("manifest: layer %d has %d query heads and %d KV heads: %w", l, h, g, ErrUnfit)
		}
		if total += h; total > maxExchange {
			return nil, nil, fmt.Errorf("manifest: more than %d query heads: %w", maxExchange, ErrUnfit)
		}
	}
	return heads, kvHeads, nil
}

func (x *export) file(name string, data []byte) { x.files = append(x.files, File{name, data}) }

// decoding returns the policy of each KV head in decoding. Formats have one for every length: of several rules, the one that
// keeps most tokens of a sequence as long as the model's context is taken.
func (x *export) decoding() [][]string {
	out := make([][]string, len(x.entries))
	for l, row := range x.entries {
		out[l] = make([]string, len(row))
		for g, h := range row {
			rules := x.p.rules(h)
			out[l][g] = rules[len(rules)-1].Use
			if len(rules) == 1 {
				continue
			}
			x.loseAt(l, g, "the choice of a policy by length: the widest is written for all")
			most := -1
			for _, r := range rules {
				pol := x.p.Policies[r.Use]
				n := pol.Span(maxTokens)
				if n < 0 {
					n = maxTokens
				}
				if n > most {
					out[l][g], most = r.Use, n
				}
			}
		}
	}
	return out
}

// prefill returns the policy of each query head in prefill.
func (x *export) prefill() [][]string {
	out := make([][]string, len(x.entries))
	for l, row := range x.entries {
		out[l] = make([]string, x.qHeads[l])
		for q := range out[l] {
			h := row[x.group(l, q)]
			id := x.p.Defaults.Prefill
			if h != nil && h.Prefill != "" {
				id = h.Prefill
			}
			if h != nil {
				if own, ok := h.QHeads[strconv.Itoa(q)]; ok {
					id = own.Prefill
				}
			}
			out[l][q] = id
		}
	}
	return out
}

// group returns the KV head that a query head reads.
func (x *export) group(layer, q int) int { return q / (x.qHeads[layer] / x.kvHeads[layer]) }

// samePolicy reports whether two ids stand for the same policy.
func (x *export) samePolicy(a, b string) bool {
	if a == b {
		return true
	}
	p, q := x.p.Policies[a], x.p.Policies[b]
	i, err := p.MarshalJSON()
	j, errq := q.MarshalJSON()
	return err == nil && errq == nil && string(i) == string(j)
}

// oneWidth returns the number of heads of every layer. counts is qHeads or kvHeads.
func (x *export) oneWidth(counts []int) (int, error) {
	for l, n := range counts {
		if n != counts[0] || n == 0 {
			return 0, fmt.Errorf("manifest: %s: layer %d has %d heads, layer 0 has %d; the file is a matrix: %w", x.format, l, n, counts[0], ErrUnfit)
		}
	}
	return counts[0], nil
}

// prefillAsDecoding records heads whose prefill differs from what they decode by, for readers that know one policy for both.
func (x *export) prefillAsDecoding(decode [][]string) {
	sparse := false
	for l, row := range x.prefill() {
		for q, id := range row {
			g := x.group(l, q)
			pol, dec := x.p.Policies[id], x.p.Policies[decode[l][g]]
			sparse = sparse || pol.Kind != KindFull
			if !x.samePolicy(id, decode[l][g]) {
				x.loseAt(l, g, "a prefill of its own (%s): readers prefill by %s, as they decode", pol.Kind, dec.Kind)
			}
		}
	}
	x.minSeq(sparse)
}

// minSeq records the length under which prefill is dense, for formats without one.
func (x *export) minSeq(sparse bool) {
	if n := x.p.Phases.Prefill.MinSeq; n > 0 && sparse {
		x.lose("min_seq: prompts under %d tokens are not prefilled dense", n)
	}
}

// denseDecoding records the savings of decoding that a format of prefill does not hold.
func (x *export) denseDecoding() {
	decode := x.decoding()
	for l, row := range decode {
		for g, id := range row {
			if pol := x.p.Policies[id]; pol.Kind != KindFull {
				x.loseAt(l, g, "decoding under %s: readers decode dense", pol.Kind)
			}
		}
	}
	x.saving("decoding is dense", func(_, _, length int) int { return length })
}

// saving records how much more cache the heads take when each keeps span tokens than the plan says.
func (x *export) saving(why string, span func(layer, kvHead, length int) int) {
	length, row := x.o.length(&x.p.Model), x.o.rowBytes(&x.p.Model)
	var planned, dense, kept int64
	for l, heads := range x.entries {
		for g, h := range heads {
			pol := x.p.Policies[x.p.rules(h).at(length)]
			n := pol.Span(length)
			if n < 0 {
				n = length
			}
			planned += row * int64(n)
			dense += row * int64(length)
			kept += row * int64(min(length, span(l, g, length)))
		}
	}
	if kept > planned && dense > planned {
		x.list = append(x.list, Loss{Bytes: kept - planned, What: fmt.Sprintf("%s: %.1f %% of the saving at %d tokens, %d of %d bytes of cache",
			why, 100*float64(kept-planned)/float64(dense-planned), length, kept-planned, dense-planned)})
	}
}

// streams says which heads are full, with the one pair of sizes of the others.
type streams struct {
	full         [][]bool
	sink, recent int // 0, 0 where no head streams
}

// streams reads policies as full or streaming with one pair of sizes. What is neither is taken as full; of several pairs, the
// larger sizes are taken.
func (x *export) streams(ids [][]string) streams {
	s := streams{full: make([][]bool, len(ids))}
	pairs := map[[2]int]bool{}
	for l, row := range ids {
		s.full[l] = make([]bool, len(row))
		for h, id := range row {
			pol := x.p.Policies[id]
			s.full[l][h] = pol.Kind != KindStreaming
			if pol.Kind == KindStreaming {
				s.sink, s.recent = max(s.sink, pol.Sink), max(s.recent, pol.Recent)
				pairs[[2]int{pol.Sink, pol.Recent}] = true
				if pol.Compensation {
					x.loseAt(l, h, "the compensation token")
				}
			} else if pol.Kind != KindFull {
				x.loseAt(l, h, "kind %s: written as full", pol.Kind)
			}
		}
	}
	if len(pairs) > 1 {
		x.lose("%d pairs of sink and recent: the largest, %d and %d, are written for all", len(pairs), s.sink, s.recent)
	}
	return s
}

// span counts the cache of a head that streams or not as s says.
func (s streams) span(layer, kvHead, length int) int {
	if s.full[layer][kvHead] {
		return length
	}
	return s.sink + s.recent
}

// counts returns the heads that stream and all heads.
func (s streams) counts() (streaming, all int) {
	for _, row := range s.full {
		for _, full := range row {
			all++
			if !full {
				streaming++
			}
		}
	}
	return streaming, all
}
