package arch

import (
	"slices"
	"strconv"
)

// sizes is what one block is built from.
type sizes struct {
	h, g, k, f, window       int
	attnBias, oBias, mlpBias bool
	skipAttn, skipFFN        bool
}

func (s *sizes) bias(r Role) bool {
	switch r {
	case Q, K, V:
		return s.attnBias
	case O:
		return s.oBias
	}
	return s.mlpBias
}

// sizes reads the widths that hold for every block that per_layer_config does not change.
func (r *reader) sizes(m *Model) sizes {
	k := r.fam.keys
	s := sizes{h: r.integer(k.heads, 1, maxHeads)}
	if r.fam.fused {
		s.g, s.k = s.h, m.D/s.h
		s.f = r.integerOr(k.ffn, min(4*m.D, maxFFN), 1, maxFFN)
		if m.D%s.h != 0 {
			r.fault(k.heads, "%d heads do not divide the width %d", s.h, m.D)
		}
		return s
	}
	s.f = r.integer(k.ffn, 1, maxFFN)
	if _, present := r.obj["num_key_value_heads"]; !present && r.fam.kvRequired {
		r.require("num_key_value_heads")
	}
	s.g = r.integerOr("num_key_value_heads", s.h, 1, maxHeads)
	def := m.D / s.h
	if _, present := r.obj["head_dim"]; !present && r.fam.headDim > 0 {
		def = r.fam.headDim
	}
	if !r.has("head_dim") && def*s.h != m.D && def == m.D/s.h {
		r.fault("head_dim", "is needed, since %d heads do not divide the width %d", s.h, m.D)
	}
	s.k = r.integerOr("head_dim", def, 1, maxHeadDim)
	return s
}

// overrides returns the objects of per_layer_config by layer, nil where a layer has none.
func (r *reader) overrides(layers int) []*fields {
	out := make([]*fields, layers)
	all := r.object("per_layer_config")
	if all == nil {
		return out
	}
	for _, key := range sortedKeys(all.obj) {
		l, err := strconv.Atoi(key)
		switch {
		case !perLayerName(key) || err != nil:
			all.fault(key, "is not the number of a layer")
		case l >= layers:
			all.fault(key, "there are %d layers", layers)
		case out[l] != nil:
			all.fault(key, "layer %d stands twice", l)
		default:
			out[l] = all.object(key)
			r.checkOverride(out[l])
		}
	}
	return out
}

// checkOverride refuses keys that would change a layer in a way that this program does not carry out.
func (r *reader) checkOverride(o *fields) {
	if o == nil {
		return
	}
	for _, key := range sortedKeys(o.obj) {
		if key != "skip" && !slices.Contains(r.fam.perLayer, key) {
			o.fault(key, "is not supported for single layers of %s", r.fam.name)
		}
	}
}

// apply replaces the sizes that an entry of per_layer_config names.
func (s *sizes) apply(o *fields) {
	if o == nil {
		return
	}
	s.h = o.integerOr("num_attention_heads", s.h, 1, maxHeads)
	s.g = o.integerOr("num_key_value_heads", s.g, 1, maxHeads)
	s.k = o.integerOr("head_dim", s.k, 1, maxHeadDim)
	s.f = o.integerOr("intermediate_size", o.integerOr("n_inner", s.f, 1, maxFFN), 1, maxFFN)
	if _, present := o.obj["sliding_window"]; present {
		s.window = o.integerOr("sliding_window", 0, 1, maxPosition)
	}
	for _, what := range o.strings("skip") {
		switch what {
		case "attention":
			s.skipAttn = true
		case "mlp":
			s.skipFFN = true
		default:
			o.fault("skip", "%q is neither \"attention\" nor \"mlp\"", what)
		}
	}
}

// checkSizes records sizes that do not fit each other; o is the layer's entry of per_layer_config or nil. Faults that
// the whole model shares are recorded once.
func (r *reader) checkSizes(s *sizes, rotary bool, o *fields) {
	at := r.fields
	if o != nil {
		at = o
	}
	once := func(key, format string, args ...any) {
		n := len(*at.faults)
		at.fault(key, format, args...)
		last := (*at.faults)[n].Error()
		for _, e := range (*at.faults)[:n] {
			if e.Error() == last {
				*at.faults = (*at.faults)[:n]
				return
			}
		}
	}
	if s.skipAttn || r.fam.fused {
		return
	}
	if s.h%s.g != 0 {
		once("num_key_value_heads", "%d query heads do not divide into %d KV heads", s.h, s.g)
	}
	if rotary && s.k%2 != 0 {
		once("head_dim", "%d is odd, and the rotary embedding needs pairs", s.k)
	}
}
