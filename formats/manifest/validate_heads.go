package manifest

import (
	"fmt"
	"sort"
	"strconv"
	"strings"
)

func (v *validator) policies(p *Plan) {
	v.check(len(p.Policies) > 0, "policies", "is empty")
	page := p.Phases.Decode
	decoding := decodeIDs(p)
	for _, id := range sortedKeys(p.Policies) {
		pol := p.Policies[id]
		path := "policies." + id
		v.check(id != "", "policies", "a policy has an empty id")
		pol.validate(v, path)
		if page.Page > 1 && page.Round == "" && decoding[id] && (pol.Kind == KindStreaming || pol.Kind == KindElastic) {
			v.check(pol.Sink%page.Page == 0, path+".sink", "%d is no multiple of the page of %d, and round is not set", pol.Sink, page.Page)
			v.check(pol.Recent%page.Page == 0, path+".recent", "%d is no multiple of the page of %d, and round is not set", pol.Recent, page.Page)
		}
	}
	v.ref(p, "defaults.prefill", p.Defaults.Prefill)
	v.ref(p, "defaults.decode", p.Defaults.Decode)
}

// decodeIDs returns the policies that some head decodes under.
func decodeIDs(p *Plan) map[string]bool {
	ids := map[string]bool{p.Defaults.Decode: true}
	for i := range p.Layers {
		for _, h := range p.Layers[i].KVHeads {
			for _, r := range h.Decode {
				ids[r.Use] = true
			}
		}
	}
	return ids
}

func sortedKeys[T any](m map[string]T) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}

// ref checks the name of a policy; an empty one stands for the default.
func (v *validator) ref(p *Plan, path, id string) {
	if id == "" {
		return
	}
	_, ok := p.Policies[id]
	v.check(ok, path, "no policy is called %.80q", id)
}

func (v *validator) layers(p *Plan) {
	seen := map[int]bool{}
	for i := range p.Layers {
		l := &p.Layers[i]
		path := fmt.Sprintf("layers[%d]", i)
		v.check(l.Layer >= 0 && l.Layer < p.Model.Layers, path+".layer", "%d is not in 0..%d", l.Layer, p.Model.Layers-1)
		v.check(!seen[l.Layer], path+".layer", "layer %d appears twice", l.Layer)
		seen[l.Layer] = true
		v.entry(p, path, l)
	}
	for n := 0; n < min(p.Model.Layers, maxLayers); n++ {
		v.origins(p, n)
		if !seen[n] {
			v.covered(p, fmt.Sprintf("layer %d", n))
		}
	}
}

// covered reports heads that neither an entry nor the defaults give a policy.
func (v *validator) covered(p *Plan, what string) {
	v.check(p.Defaults.Decode != "", "defaults.decode", "%s has no decode policy", what)
	v.check(p.Defaults.Prefill != "", "defaults.prefill", "%s has no prefill policy", what)
}

func (v *validator) entry(p *Plan, path string, l *Layer) {
	heads, kvHeads := l.counts(&p.Model)
	if l.NoAttention {
		v.check(len(l.KVHeads) == 0 && l.Heads == 0 && l.KVHeadCount == 0, path+".no_attention", "is true, and the layer has heads")
	} else if l.Heads != 0 || l.KVHeadCount != 0 {
		v.heads(path, heads, kvHeads)
	}
	v.check(l.SourceLayer == nil || *l.SourceLayer >= l.Layer, path+".source_layer", "is before layer %d", l.Layer)
	v.oneOf(path+".select", l.Select, "none", "tokens", "blocks")
	if s := l.ShareAttentionWith; s != nil {
		from := v.layer[*s]
		v.check(*s >= 0 && *s < l.Layer, path+".share_attention_with", "%d is not an earlier layer", *s)
		v.check(from != nil && (from.Select == "tokens" || from.Select == "blocks"), path+".share_attention_with", "layer %d selects nothing", *s)
	}
	seen := map[int]bool{}
	for i := range l.KVHeads {
		h := &l.KVHeads[i]
		at := fmt.Sprintf("%s.kv_heads[%d]", path, i)
		v.check(h.Head >= 0 && h.Head < kvHeads, at+".head", "%d is not in 0..%d", h.Head, kvHeads-1)
		v.check(!seen[h.Head], at+".head", "KV head %d appears twice", h.Head)
		seen[h.Head] = true
		v.head(p, at, h, heads, kvHeads)
	}
	if len(seen) < kvHeads {
		v.covered(p, fmt.Sprintf("a KV head of layer %d", l.Layer))
	}
	v.selectors(p, path, l, kvHeads)
}

// origins checks that each KV head of a layer has the same number of original ones.
func (v *validator) origins(p *Plan, layer int) {
	if p.Model.Permutation == nil || layer >= len(p.Model.Permutation.KVHeads) {
		return
	}
	_, kvHeads := v.counts(p, layer)
	n := len(p.Model.Permutation.KVHeads[layer])
	ok := n == 0 && kvHeads == 0 || n > 0 && kvHeads > 0 && n%kvHeads == 0
	v.check(ok, fmt.Sprintf("model.permutation.kv_heads[%d]", layer), "%d indices for %d KV heads", n, kvHeads)
}

// selectors checks that KV heads which attend to the tokens that another layer's attention chose have a counterpart there.
func (v *validator) selectors(p *Plan, path string, l *Layer, kvHeads int) {
	if l.ShareAttentionWith == nil || kvHeads == 0 {
		return
	}
	for i := range l.KVHeads {
		for _, r := range p.rules(&l.KVHeads[i]) {
			if pol := p.Policies[r.Use]; pol.Kind == KindTokenTopK && pol.Selector == SelectAttention {
				_, g := v.counts(p, *l.ShareAttentionWith)
				v.check(g == kvHeads, path+".share_attention_with", "layer %d has %d KV heads, this one %d", *l.ShareAttentionWith, g, kvHeads)
				return
			}
		}
	}
}

func (v *validator) head(p *Plan, path string, h *KVHead, heads, kvHeads int) {
	h.Decode.validate(v, path+".decode")
	v.check(h.Decode == nil || len(h.Decode) > 0, path+".decode", "is an empty list")
	v.check(len(h.Decode) > 0 || p.Defaults.Decode != "", path+".decode", "is missing and has no default")
	v.check(h.Prefill != "" || p.Defaults.Prefill != "", path+".prefill", "is missing and has no default")
	for i, r := range h.Decode {
		at := fmt.Sprintf("%s.decode[%d].use", path, i)
		v.check(r.Use != "", at, "is empty")
		v.ref(p, at, r.Use)
	}
	v.ref(p, path+".prefill", h.Prefill)
	if h.Score != nil {
		v.finite(path+".score", *h.Score)
	}
	if h.KVBits != nil {
		v.check(len(h.KVBits) == 2, path+".kv_bits", "%d numbers, want bits of keys and of values", len(h.KVBits))
		for _, b := range h.KVBits {
			v.check(b >= 1 && b <= 32, path+".kv_bits", "%d is not in 1..32", b)
		}
	}
	if h.KChannelMask != "" {
		v.channels(path+".k_channel_mask", h.KChannelMask, p.Model.HeadDim)
	}
	for _, key := range sortedKeys(h.QHeads) {
		at := path + ".q_heads." + key
		n, err := strconv.Atoi(key)
		own := err == nil && strconv.Itoa(n) == key && n >= 0 && n < heads && kvHeads > 0 && heads%kvHeads == 0 && n/(heads/kvHeads) == h.Head
		v.check(own, at, "is no query head of KV head %d", h.Head)
		v.check(h.QHeads[key].Prefill != "", at+".prefill", "is empty")
		v.ref(p, at+".prefill", h.QHeads[key].Prefill)
	}
}

// channels checks a mask of head_dim channels: as many hex digits as they take, and nothing in the bits that are left over.
func (v *validator) channels(path, mask string, headDim int) {
	if headDim < 1 || headDim > maxHeads {
		return // a fault of its own
	}
	digits := (headDim + 3) / 4
	if len(mask) != digits || strings.Trim(mask, "0123456789abcdef") != "" {
		v.addf(path, "want %d lower-case hex digits, got %.80q", digits, mask)
		return
	}
	last := strings.IndexByte("0123456789abcdef", mask[digits-1])
	v.check(last&(1<<(4*digits-headDim)-1) == 0, path, "has bits past channel %d", headDim-1)
}
