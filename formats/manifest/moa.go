package manifest

import (
	"fmt"
	"math"
)

// What MoA's runtime has fixed (cache = whole blocks of max(alpha + beta·N, min), 64 sinks among them, N with what may be generated).
const (
	moaSink  = 64
	moaBlock = 64
	moaMin   = 128
	moaFile  = "moa_alpha_beta.json"
)

var moaFormat = &Format{
	Name: "moa", Readers: "MoA", Files: moaFile,
	Condition: "elastic (sink 64, block 64, min 128, with what may be generated), streaming (sink 64, recent a multiple of 64) or full; prefill the same, no min_seq; layers of equal head counts",
	write:     writeMoA, read: readMoA,
}

// moaRule returns a policy as alpha and beta, and why that is not the same.
func moaRule(p Policy) (alpha, beta float64, loss string) {
	switch p.Kind {
	case KindFull:
		return 0, 1, ""
	case KindElastic:
		if p.Sink != moaSink || p.Block != moaBlock || p.Min != moaMin || p.Length != "prompt_plus_max_new" {
			loss = fmt.Sprintf("elastic with sink %d, block %d, min %d, length %s: MoA has %d, %d, %d, prompt_plus_max_new", p.Sink, p.Block, p.Min, p.Length, moaSink, moaBlock, moaMin)
		}
		return p.Alpha, p.Beta, loss
	case KindStreaming:
		if p.Sink != moaSink || p.Recent%moaBlock != 0 || p.Compensation {
			loss = fmt.Sprintf("streaming with sink %d, recent %d, compensation %t: MoA has %d sinks and whole blocks of %d", p.Sink, p.Recent, p.Compensation, moaSink, moaBlock)
		}
		return float64(p.Recent + moaSink), 0, loss
	}
	return 0, 1, "kind " + p.Kind + ": written as full"
}

// writeMoA writes a rule for each query head. In decoding MoA has a cache for each of them.
func writeMoA(x *export) error {
	if _, err := x.oneWidth(x.qHeads); err != nil {
		return err
	}
	prefill := x.prefill()
	var alphas, betas [][]float64
	sparse := false
	for l, row := range prefill {
		a, b := make([]float64, len(row)), make([]float64, len(row))
		for q, id := range x.moaPolicies(l, row) {
			var loss string
			if a[q], b[q], loss = moaRule(x.p.Policies[id]); loss != "" {
				x.loseAt(l, x.group(l, q), "%s", loss)
			}
			pol := x.p.Policies[id]
			sparse = sparse || pol.Kind != KindFull
		}
		alphas, betas = append(alphas, a), append(betas, b)
	}
	x.minSeq(sparse)
	x.saving("heads that are written as full", func(l, g, length int) int {
		n, kept := x.qHeads[l]/x.kvHeads[l], 0
		for q := g * n; q < (g+1)*n; q++ {
			p := Policy{Kind: KindElastic, Alpha: alphas[l][q], Beta: betas[l][q], Block: moaBlock, Min: moaMin}
			kept = max(kept, p.Span(length))
		}
		return kept
	})
	x.file(moaFile, []byte(`{"alphas": `+pyList(alphas, pyFloats)+`, "betas": `+pyList(betas, pyFloats)+"}"))
	return nil
}

// moaPolicies returns the policy to write for each query head of a layer: its own of prefill where the KV head decodes by the widest
// of its group, else the KV head's of decoding.
func (x *export) moaPolicies(l int, prefill []string) []string {
	out := append([]string{}, prefill...)
	if len(out) == 0 {
		return out
	}
	n := x.qHeads[l] / x.kvHeads[l]
	for g, h := range x.entries[l] {
		rules, group := x.p.rules(h), prefill[g*n:(g+1)*n]
		if wide, err := widest(x.p.Policies, always(group)); err == nil && sameRules(wide, rules) {
			continue
		}
		id := rules[len(rules)-1].Use
		if len(rules) > 1 {
			x.loseAt(l, g, "the choice of a policy by length: that of the longest is written for all")
		}
		for i, own := range group {
			if !x.samePolicy(own, id) {
				pol := x.p.Policies[own]
				x.loseAt(l, g, "a prefill of its own (%s): MoA prefills as it decodes", pol.Kind)
			}
			out[g*n+i] = id
		}
	}
	return out
}

func always(ids []string) []Rules {
	out := make([]Rules, len(ids))
	for i, id := range ids {
		out[i] = Always(id)
	}
	return out
}

// readMoA gives every query head its rule in prefill, and every KV head the widest of its group in decoding: the group shares a
// cache.
func readMoA(r *reader) error {
	f, o, err := r.onlyObject()
	if err != nil {
		return err
	}
	var alphas, betas [][]float64
	if err := r.member(f, o, "alphas", &alphas); err != nil {
		return err
	}
	if err := r.member(f, o, "betas", &betas); err != nil {
		return err
	}
	for _, m := range [][][]float64{alphas, betas} {
		if err := r.layers(f.Name, len(m)); err != nil {
			return err
		}
		for l, row := range m {
			if err := r.width(f.Name, l, len(row), r.qHeads); err != nil {
				return err
			}
		}
	}
	mixed, groups := 0, 0
	for l := range alphas {
		ids := make([]string, len(alphas[l]))
		for q := range ids {
			if ids[q], err = r.moaPolicy(f, alphas[l][q], betas[l][q]); err != nil {
				return err
			}
		}
		r.prefill(l, ids)
		groups += r.kvHeads[l]
		m, err := r.shareCache(l, ids)
		if err != nil {
			return err
		}
		mixed += m
	}
	if mixed > 0 {
		r.groupLoss(mixed, groups, alphas, betas)
	}
	return nil
}

// moaPolicy returns the id of a rule; (0, 1) is full.
func (r *reader) moaPolicy(f File, alpha, beta float64) (string, error) {
	if beta < 0 || beta > 1 || math.Abs(alpha) > maxTokens {
		return "", r.bad(f.Name, "alpha %v, beta %v: want up to %d, and 0 to 1", alpha, beta, maxTokens)
	}
	if alpha == 0 && !math.Signbit(alpha) && beta == 1 {
		return "full", nil
	}
	return r.policy("e", Policy{Kind: KindElastic, Alpha: alpha, Beta: beta, Sink: moaSink, Block: moaBlock, Min: moaMin, Length: "prompt_plus_max_new"})
}

// shareCache makes the KV heads of a layer decode by the widest policy of their query heads, and returns for how many heads
// these differ.
func (r *reader) shareCache(l int, ids []string) (mixed int, err error) {
	if len(ids) == 0 {
		return 0, nil
	}
	n := r.qHeads[l] / r.kvHeads[l]
	for g := range r.p.Layers[l].KVHeads {
		h := &r.p.Layers[l].KVHeads[g]
		if h.Decode, err = widest(r.p.Policies, always(ids[g*n:(g+1)*n])); err != nil {
			return 0, err
		}
		mixed += bit(len(h.QHeads) > 0)
	}
	return mixed, nil
}

// groupLoss says what it costs that query heads of one group share a cache.
func (r *reader) groupLoss(mixed, groups int, alphas, betas [][]float64) {
	length, row := r.o.length(&r.p.Model), r.o.rowBytes(&r.p.Model)
	var mean float64 // bytes of a cache for each query head, over the size of its group
	for l := range alphas {
		for q := range alphas[l] {
			p := Policy{Kind: KindElastic, Alpha: alphas[l][q], Beta: betas[l][q], Block: moaBlock, Min: moaMin}
			mean += float64(p.Span(length)) * float64(r.kvHeads[l]) / float64(r.qHeads[l])
		}
	}
	var planned, dense int64
	for l := range r.p.Layers {
		for g := range r.p.Layers[l].KVHeads {
			pol := r.p.Policies[r.p.Layers[l].KVHeads[g].Decode.at(length)]
			planned += row * int64(pol.Span(length))
			dense += row * int64(length)
		}
	}
	bytes := int64(mean * float64(row))
	r.list = append(r.list, Loss{Bytes: planned - bytes, What: fmt.Sprintf("query heads of %d of %d KV heads have spans of their own, and share a cache of the widest: density %.3f at %d tokens, %.3f if each had one",
		mixed, groups, float64(planned)/float64(dense), length, float64(bytes)/float64(dense))})
}
