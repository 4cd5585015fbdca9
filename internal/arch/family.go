package arch

import (
	"errors"
	"slices"
	"strings"

	"modelpress/formats"
)

// ErrUnsupported is in the chain of the error for a configuration of a family that is not among [Families].
var ErrUnsupported = errors.New("unsupported model family")

// family is everything that tells one model family from another: the names of its configuration keys and tensors, its
// defaults, and the rules that no table holds.
type family struct {
	name  string // model_type
	class string // the causal language model's class in architectures
	keys  keys
	names names

	layerNorm, packed bool // LayerNorm instead of RMSNorm; linear modules are of class Linear
	tied              bool // tie_word_embeddings where the key is missing
	kvRequired        bool // num_key_value_heads must be there; else a missing one means as many as query heads
	headDim           int  // head_dim where the key is missing; 0 for D/H
	qkvBias           bool // q, k and v have biases whatever attention_bias says
	biasKeys          bool // attention_bias and mlp_bias are honoured
	fused             bool // q, k and v are thirds of one transposed tensor, every linear is transposed and has a bias
	perLayer          []string

	// act returns the activation; the other hooks may be nil.
	act func(f *fields) Activation
	// check refuses settings that change the mathematics.
	check func(f *fields)
	// window returns the sliding window of each layer.
	window func(f *fields, layers int) []int
}

// keys names the configuration keys that families disagree on.
type keys struct {
	d, heads, layers, ffn, position, eps string
}

// names holds the tensor names. Those of a layer follow layer + index + ".".
type names struct {
	prefixes         []string // possible beginnings of every name but the head's, tried in order
	embed, pos, norm string
	head             string
	layer            string
	attnNorm         string
	ffnNorm          string
	qNorm, kNorm     string
	linear           [NumRoles]string
}

// families lists the supported families in the order in which errors name them.
var families = []*family{&llama, &mistral, &qwen2, &qwen3, &gpt2}

// Families returns the names of the supported families, as model_type gives them.
func Families() []string {
	out := make([]string, len(families))
	for i, f := range families {
		out[i] = f.name
	}
	return out
}

// detect returns the family that model_type and architectures agree on.
func detect(f *fields) (*family, error) {
	if !f.require("model_type") {
		return nil, nil
	}
	kind := f.stringOr("model_type", "")
	classes := f.strings("architectures")
	if len(*f.faults) > 0 {
		return nil, nil
	}
	for _, fam := range families {
		if fam.name == kind && (len(classes) == 0 || slices.Contains(classes, fam.class)) {
			return fam, nil
		}
	}
	var all []string
	for _, fam := range families {
		all = append(all, fam.name+" ("+fam.class+")")
	}
	return nil, formats.Errorf(configFile, "", "%w: model_type %q, architectures %q; supported are %s",
		ErrUnsupported, kind, classes, strings.Join(all, ", "))
}
