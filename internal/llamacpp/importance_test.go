package llamacpp

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"modelpress/formats"
	"modelpress/formats/gguf"
	"modelpress/formats/imatrix"
	"modelpress/internal/testmodel"
)

// edited is the even matrix of a model with a change, in order.
func edited(m *Model, change func(e []imatrix.Entry) []imatrix.Entry) *imatrix.Matrix {
	x := even(m)
	x.Entries = change(x.Entries)
	slices.SortFunc(x.Entries, func(a, b imatrix.Entry) int { return strings.Compare(a.Tensor, b.Tensor) })
	return x
}

// ones is an entry of n inputs, which count twice what even says.
func ones(tensor string, n int) imatrix.Entry {
	return imatrix.Entry{Tensor: tensor, Sums: slices.Repeat([]float32{4}, n), Counts: []float32{2}}
}

func TestImportance(t *testing.T) {
	_, m := described(t, testmodel.Options{D: 64, H: 4, G: 2, F: 96, Seed: 1})
	keep := func(e []imatrix.Entry) []imatrix.Entry { return e }
	add := func(more ...imatrix.Entry) func(e []imatrix.Entry) []imatrix.Entry {
		return func(e []imatrix.Entry) []imatrix.Entry { return append(e, more...) }
	}
	for _, c := range []struct {
		what   string
		change func(e []imatrix.Entry) []imatrix.Entry
		have   string // a tensor beside those of blocks, with a mean of 2
		warn   []string
	}{
		{"every weight of a block", keep, "", nil},
		{"the output", add(ones("output.weight", 64)), "output.weight", nil},
		{"the embedding", add(ones("token_embd.weight", 64)), "token_embd.weight", nil},
		{"an embedding of another width", add(ones("token_embd.weight", 256)), "", []string{"even: the entry of token_embd.weight has 256 values for 64 columns and is left out"}},
		{"names that are not there", add(ones("blk.2.attn_q.weight", 64), ones("blk.0.attn_norm.weight", 64)), "",
			[]string{"even: 2 entries belong to no weight of the model: blk.0.attn_norm.weight, blk.2.attn_q.weight"}},
		{"missing", func(e []imatrix.Entry) []imatrix.Entry { return e[:4] }, "",
			[]string{"even: 10 weights have no entry, and all their columns count the same: blk.0.ffn_gate.weight, blk.0.ffn_up.weight, blk.0.ffn_down.weight, " +
				"blk.1.attn_q.weight, blk.1.attn_k.weight, blk.1.attn_v.weight, blk.1.attn_output.weight, blk.1.ffn_gate.weight and 2 more"}},
	} {
		x := edited(m, c.change)
		list, warn, err := m.Importance(x)
		if err != nil || !slices.Equal(warn, c.warn) || len(list) != len(m.Tensors) {
			t.Errorf("%s: %q, %v", c.what, warn, err)
			continue
		}
		for i, v := range list {
			tensor := &m.Tensors[i]
			_, columns := tensor.Size()
			_, there := x.Find(tensor.Name)
			want := float32(1)
			if tensor.Name == c.have {
				want = 2
			}
			_, block := tensor.Use.Site()
			if there = there && (block || tensor.Name == c.have); there != (v != nil) || there && (int64(len(v)) != columns || v[0] != want) {
				t.Errorf("%s: %s has importance %v", c.what, tensor.Name, v)
			}
		}
	}
}

func TestImportanceOfAnotherModel(t *testing.T) {
	_, m := described(t, testmodel.Options{D: 64, H: 4, G: 2, F: 96, Seed: 1})
	_, wide := described(t, testmodel.Options{D: 64, H: 4, G: 2, F: 128, Seed: 1})
	_, gpt2 := described(t, testmodel.Options{Family: "gpt2", D: 64, H: 4, Seed: 1})
	for what, c := range map[string]struct {
		m    *Model
		x    *imatrix.Matrix
		want string
	}{
		"another width":  {m, even(wide), `even (tensor "blk.1.ffn_down.weight"): has 128 values, and the weight has 96 columns`},
		"no weight":      {m, edited(m, func([]imatrix.Entry) []imatrix.Entry { return []imatrix.Entry{ones("blk.7.attn_q.weight", 64)} }), "even: has no entry for any weight"},
		"output's width": {gpt2, edited(gpt2, func(e []imatrix.Entry) []imatrix.Entry { return append(e, ones("output.weight", 32)) }), `(tensor "output.weight"): has 32 values`},
	} {
		_, _, err := c.m.Importance(c.x)
		var e *formats.Error
		if !errors.As(err, &e) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", what, err, c.want)
		}
	}
}

// Of gpt2, q, k and v are one tensor; of deci, layers without attention have none.
func TestSites(t *testing.T) {
	for _, c := range mixed() {
		_, m := described(t, c.Options)
		if _, warn, err := m.Importance(even(m)); err != nil || warn != nil {
			t.Errorf("%s: %q, %v", c.Name, warn, err)
		}
		for i := range m.Tensors {
			x := &m.Tensors[i]
			if _, ok := x.Use.Site(); ok != (strings.HasPrefix(x.Name, "blk.") && !x.Vector) {
				t.Errorf("%s: %s reads the input of a block: %v", c.Name, x.Name, ok)
			}
		}
	}
}

func TestImportanceKeys(t *testing.T) {
	x := &imatrix.Matrix{Entries: make([]imatrix.Entry, 3)}
	want := []gguf.KV{{Key: "quantize.imatrix.entries_count", Value: gguf.Uint32(3)}}
	if got := ImportanceKeys(x); !slices.Equal(got, want) {
		t.Errorf("%v", got)
	}
	x.Name, x.Datasets, x.Chunks = "i.gguf", []string{"a.txt", "b.txt"}, 7
	want = []gguf.KV{{Key: "quantize.imatrix.file", Value: gguf.String("i.gguf")}, {Key: "quantize.imatrix.dataset", Value: gguf.String("a.txt")}, want[0],
		{Key: "quantize.imatrix.chunks_count", Value: gguf.Uint32(7)}}
	if got := ImportanceKeys(x); !slices.Equal(got, want) {
		t.Errorf("%v", got)
	}
}
