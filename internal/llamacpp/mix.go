package llamacpp

import (
	"fmt"
	"strings"

	"modelpress/formats/ggml"
)

// mixes are the file types by name: the number of general.file_type and the type of most tensors (llama.h, enum llama_ftype).
var mixes = []struct {
	name     string
	fileType uint32
	base     ggml.Type
}{
	{"f32", 0, ggml.F32}, {"f16", 1, ggml.F16}, {"bf16", 32, ggml.BF16}, {"q8_0", 7, ggml.Q8_0},
	{"q4_0", 2, ggml.Q4_0}, {"q4_1", 3, ggml.Q4_1}, {"q5_0", 8, ggml.Q5_0}, {"q5_1", 9, ggml.Q5_1},
	{"q4_k_s", 14, ggml.Q4_K}, {"q4_k_m", 15, ggml.Q4_K}, {"q5_k_s", 16, ggml.Q5_K}, {"q5_k_m", 17, ggml.Q5_K}, {"q6_k", 18, ggml.Q6_K},
}

// Mixes returns the names that [Mix] takes, plain types first.
func Mixes() []string {
	out := make([]string, len(mixes))
	for i, x := range mixes {
		out[i] = x.name
	}
	return out
}

// Mix returns the type of each of the model's tensors in a file of the type with that name, in either case, and the number of that
// type. The rules are those of llama-quantize (llama-quant.cpp of August 2026, llama_tensor_get_type); importance says that the
// importance of inputs is known, which changes a few of them. Where llama-quantize gives up because rows divide into no block at all,
// tensors become F16.
func Mix(name string, m *Model, importance bool) ([]ggml.Type, uint32, error) {
	for _, x := range mixes {
		if strings.EqualFold(x.name, name) {
			c := mixer{m: m, name: x.name, base: x.base, importance: importance}
			return c.types(), x.fileType, nil
		}
	}
	return nil, 0, fmt.Errorf("llamacpp: unknown file type %.40q; known are %s", name, strings.Join(Mixes(), ", "))
}

// mixer chooses types tensor by tensor. Its counters are over the tensors of one use, in the order of layers.
type mixer struct {
	m          *Model
	name       string
	base       ggml.Type
	importance bool

	tied      bool
	values, v int // tensors that hold v: how many, and the number of the next
	down      int // the number of the next ffn_down
}

func (c *mixer) types() []ggml.Type {
	c.tied = true
	for i := range c.m.Tensors {
		switch c.m.Tensors[i].Use {
		case Output:
			c.tied = false
		case AttnV, AttnQKV:
			c.values++
		}
	}
	out := make([]ggml.Type, len(c.m.Tensors))
	for i := range out {
		out[i] = c.typeOf(&c.m.Tensors[i])
	}
	return out
}

func (c *mixer) typeOf(t *Tensor) ggml.Type {
	if t.Vector || t.Use == Other || t.Use == Position {
		return ggml.F32
	}
	_, columns := t.Size()
	if c.base.Block() == 1 {
		return c.base
	}
	return fallback(c.wanted(t, columns), columns)
}

// wanted returns the type by use and layer, before the length of rows is looked at.
func (c *mixer) wanted(t *Tensor, columns int64) ggml.Type {
	switch t.Use {
	case Output:
		return c.output(columns)
	case Embed:
		if c.tied {
			return c.output(columns)
		}
	case AttnV, AttnQKV:
		return c.value()
	case FFNDown:
		return c.ffnDown()
	}
	return c.base
}

// output is the type of the output, and of the embedding where that serves as one.
func (c *mixer) output(columns int64) ggml.Type {
	if columns%int64(c.base.Block()) != 0 || c.base == ggml.Q8_0 {
		return ggml.Q8_0
	}
	return ggml.Q6_K
}

func (c *mixer) value() ggml.Type {
	i := c.v
	c.v++
	want := c.base
	switch {
	case (c.name == "q4_k_m" || c.name == "q5_k_m") && moreBits(i, c.values):
		want = ggml.Q6_K
	case c.name == "q4_k_s" && i < 4:
		want = ggml.Q5_K
	}
	if c.m.moreV && want == ggml.Q4_K {
		want = ggml.Q5_K
	}
	return want
}

func (c *mixer) ffnDown() ggml.Type {
	i, n := c.down, c.m.layers
	c.down++
	early := i < n/8
	switch {
	case (c.name == "q4_k_m" || c.name == "q5_k_m") && moreBits(i, n):
		return ggml.Q6_K
	case c.name == "q4_k_s" && early:
		return ggml.Q5_K
	case c.name == "q4_0" && c.importance && early:
		return ggml.Q4_1
	case c.name == "q5_0" && c.importance && early:
		return ggml.Q5_1
	}
	return c.base
}

// moreBits picks the first and the last eighth, and every third between them.
func moreBits(i, n int) bool { return i < n/8 || i >= 7*n/8 || (i-n/8)%3 == 2 }

// fallback returns the type that takes the place of one whose blocks do not fill a row (tensor_type_fallback).
func fallback(t ggml.Type, columns int64) ggml.Type {
	if columns%int64(t.Block()) == 0 {
		return t
	}
	switch t {
	case ggml.Q4_K:
		return fallback(ggml.Q5_0, columns)
	case ggml.Q5_K:
		return fallback(ggml.Q5_1, columns)
	case ggml.Q6_K:
		return fallback(ggml.Q8_0, columns)
	}
	return ggml.F16
}
