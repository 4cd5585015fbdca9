package arch

import (
	"errors"
	"fmt"
	"strings"

	"modelpress/formats"
)

// Describe reads the configuration of a checkpoint (the bytes of config.json) and checks it against the tensors of src:
// every tensor that the family has must be there with its shape and a float type. Errors are of type *formats.Error, all
// faults of one stage joined; a family that is not supported has [ErrUnsupported] in its chain.
func Describe(config []byte, src formats.Source) (*Model, error) {
	m, fam, err := describe(config, func(name string) bool { _, ok := src.Lookup(name); return ok })
	if err != nil {
		return nil, err
	}
	if err := m.verify(src, fam); err != nil {
		return nil, err
	}
	return m, nil
}

// DescribeConfig is Describe without tensors: for planning and for tests. Where a family has several ways to name its
// tensors, the first one is taken.
func DescribeConfig(config []byte) (*Model, error) {
	m, _, err := describe(config, func(string) bool { return true })
	return m, err
}

func describe(config []byte, exists func(string) bool) (*Model, *family, error) {
	var faults []error
	f := parseFields(config, "", &faults)
	if len(faults) > 0 {
		return nil, nil, errors.Join(faults...)
	}
	fam, err := detect(f)
	if err != nil {
		return nil, nil, err
	}
	if len(faults) > 0 {
		return nil, nil, errors.Join(faults...)
	}
	r := reader{fields: f, fam: fam}
	m := r.model(exists)
	if len(faults) > 0 {
		return nil, nil, errors.Join(faults...)
	}
	return m, fam, nil
}

// reader turns the fields of a configuration into a model.
type reader struct {
	*fields
	fam *family
}

func (r *reader) model(exists func(string) bool) *Model {
	fam, k, n := r.fam, r.fam.keys, r.fam.names
	m := &Model{
		Family: fam.name, Architecture: fam.class, LayerNorm: fam.layerNorm, PackedModules: fam.packed,
		D: r.integer(k.d, 1, maxWidth), V: r.integer("vocab_size", 1, maxVocab),
		MaxPosition: r.integer(k.position, 1, maxPosition), Eps: float32(r.number(k.eps, 0, 1)), Act: fam.act(r.fields),
		Tied:       r.boolOr("tie_word_embeddings", fam.tied),
		TorchDType: r.stringOr("torch_dtype", r.stringOr("dtype", "")),
	}
	if fam.check != nil {
		fam.check(r.fields)
	}
	prefix := n.prefixes[0]
	for _, p := range n.prefixes {
		if exists(p + n.embed) {
			prefix = p
			break
		}
	}
	m.Embed, m.FinalNorm, m.LMHead = prefix+n.embed, r.norm(prefix+n.norm), n.head
	if n.pos != "" {
		m.PosEmbed = prefix + n.pos
	} else {
		m.Rope = readRope(r.fields, m.MaxPosition)
	}
	if m.Tied {
		m.LMHead = m.Embed
	}
	m.LayerPrefix = prefix + n.layer
	m.Layers = r.layers(m, m.LayerPrefix)
	if m.Rope != nil {
		m.Rope.Dim = m.headDim()
	}
	return m
}

// norm describes the normalization whose module is given.
func (r *reader) norm(module string) Norm {
	if module == "" {
		return Norm{}
	}
	n := Norm{Weight: module + ".weight"}
	if r.fam.layerNorm {
		n.Bias = module + ".bias"
	}
	return n
}

// layers describes every decoder block; prefix is what their tensor names begin with, before the index.
func (r *reader) layers(m *Model, prefix string) []Layer {
	count := r.integer(r.fam.keys.layers, 1, maxLayers)
	base := r.sizes(m)
	base.attnBias, base.mlpBias = r.fam.qkvBias, false
	if r.fam.biasKeys {
		base.attnBias = r.boolOr("attention_bias", false)
		base.mlpBias = r.boolOr("mlp_bias", false)
		base.oBias = base.attnBias
	}
	windows := make([]int, count)
	if r.fam.window != nil {
		windows = r.fam.window(r.fields, count)
	}
	over := r.overrides(count)
	layers := make([]Layer, count)
	for l := range layers {
		s := base
		s.window = windows[l]
		s.apply(over[l])
		r.checkSizes(&s, m.Rope != nil, over[l])
		layers[l] = r.layer(&s, m.D, fmt.Sprintf("%s%d.", prefix, l))
	}
	return layers
}

// layer names the tensors of one block.
func (r *reader) layer(s *sizes, d int, prefix string) Layer {
	n := r.fam.names
	a := Layer{Window: s.window}
	module := func(name string) string {
		if name == "" {
			return ""
		}
		return prefix + name
	}
	if !s.skipAttn {
		a.H, a.G, a.K = s.h, s.g, s.k
		a.AttnNorm = r.norm(prefix + n.attnNorm)
		a.QNorm, a.KNorm = r.norm(module(n.qNorm)), r.norm(module(n.kNorm))
	}
	if !s.skipFFN {
		a.F = s.f
		a.FFNNorm = r.norm(prefix + n.ffnNorm)
	}
	for role := range NumRoles {
		in, out := a.dims(role, d)
		if in == 0 || out == 0 || n.linear[role] == "" {
			continue
		}
		a.Linears[role] = r.linear(role, prefix+n.linear[role], in, out, s.bias(role) || r.fam.fused)
	}
	return a
}

func (r *reader) linear(role Role, module string, in, out int, bias bool) Linear {
	l := Linear{Weight: module + ".weight", In: in, Out: out, StoredOut: out, Transposed: r.fam.fused}
	if bias {
		l.Bias = module + ".bias"
	}
	if r.fam.fused && role <= V {
		l.Row, l.StoredOut = int(role)*out, 3*out
	}
	return l
}

// dims returns the input and output width of a projection, 0 where its sub-layer is missing.
func (l *Layer) dims(r Role, d int) (in, out int) {
	switch r {
	case Q:
		return d, l.H * l.K
	case K, V:
		return d, l.G * l.K
	case O:
		return l.H * l.K, d
	case Gate, Up:
		return d, l.F
	}
	return l.F, d
}

// perLayerName matches "3" and "03" and nothing else that stands for a layer.
func perLayerName(key string) bool {
	return key != "" && len(key) <= 6 && strings.Trim(key, "0123456789") == ""
}
