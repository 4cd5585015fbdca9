package llamacpp

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"modelpress/formats"
	"modelpress/formats/ggml"
	"modelpress/formats/gguf"
	"modelpress/internal/arch"
	"modelpress/internal/testmodel"
)

// made is a GGUF file in memory. Data that it has none of is zero.
type made struct {
	kv      []gguf.KV
	tensors []gguf.Tensor
	data    map[string][]byte
}

func (f *made) Name() string           { return "made.gguf" }
func (f *made) Metadata() []gguf.KV    { return f.kv }
func (f *made) Tensors() []gguf.Tensor { return f.tensors }
func (f *made) index(key string) int {
	return slices.IndexFunc(f.kv, func(kv gguf.KV) bool { return kv.Key == key })
}
func (f *made) tensor(name string) *gguf.Tensor {
	return &f.tensors[slices.IndexFunc(f.tensors, func(t gguf.Tensor) bool { return t.Name == name })]
}

func (f *made) Lookup(key string) (gguf.Value, bool) {
	if i := f.index(key); i >= 0 {
		return f.kv[i].Value, true
	}
	return gguf.Value{}, false
}

func (f *made) set(key string, v gguf.Value) {
	if i := f.index(key); i >= 0 {
		f.kv[i].Value = v
		return
	}
	f.kv = append(f.kv, gguf.KV{Key: key, Value: v})
}

func (f *made) drop(key string) {
	f.kv = slices.DeleteFunc(f.kv, func(kv gguf.KV) bool { return kv.Key == key })
}

func (f *made) ReadAt(name string, p []byte, off int64) error {
	i := slices.IndexFunc(f.tensors, func(t gguf.Tensor) bool { return t.Name == name })
	if i < 0 {
		return formats.Errorf(f.Name(), name, "no such tensor")
	}
	size, err := bytesOf(f.tensors[i])
	if err != nil || off < 0 || off+int64(len(p)) > size {
		return formats.Errorf(f.Name(), name, "read of %d bytes at %d", len(p), off)
	}
	clear(p)
	if d := f.data[name]; off < int64(len(d)) {
		copy(p, d[off:])
	}
	return nil
}

// file describes a random model as a file in memory.
func file(o testmodel.Options) *made {
	a, err := arch.DescribeConfig(testmodel.New(o).Config)
	if err != nil {
		panic(err)
	}
	m, err := Describe(a)
	if err != nil {
		panic(err)
	}
	f := &made{kv: m.Metadata("", 0, noVocab), data: map[string][]byte{}}
	for _, t := range m.Tensors {
		f.tensors = append(f.tensors, gguf.Tensor{Name: t.Name, Type: ggml.F32, Shape: slices.Clone(t.Shape)})
		if t.Values != nil {
			raw := make([]byte, 4*len(t.Values))
			if err := formats.Encode(raw, t.Values, formats.F32); err != nil {
				panic(err)
			}
			f.data[t.Name] = raw
		}
	}
	return f
}

// hostile are edits of a file of an architecture, and what the error says.
var hostile = []struct {
	name string
	edit func(f *made)
	want string
}{
	{"no architecture", func(f *made) { f.drop(keyArchitecture) }, "general.architecture"},
	{"an architecture of numbers", func(f *made) { f.set(keyArchitecture, gguf.Uint32(1)) }, "general.architecture"},
	{"another architecture", func(f *made) { f.set(keyArchitecture, gguf.String("mamba")) }, "supported are llama, deci"},
	{"no layers", func(f *made) { f.set("llama.block_count", gguf.Uint32(0)) }, "block_count"},
	{"a thousand million layers", func(f *made) { f.set("llama.block_count", gguf.Uint32(1e9)) }, "block_count"},
	{"layers below zero", func(f *made) { f.set("llama.block_count", gguf.Int32(-1)) }, "block_count"},
	{"one layer more", func(f *made) { f.set("llama.block_count", gguf.Uint32(3)) }, "is missing"},
	{"one layer less", func(f *made) { f.set("llama.block_count", gguf.Uint32(1)) }, "not one that the architecture has"},
	{"layers as text", func(f *made) { f.set("llama.block_count", gguf.String("2")) }, "block_count"},
	{"no heads", func(f *made) { f.drop("llama.attention.head_count") }, "head_count"},
	{"heads 0", func(f *made) { f.set("llama.attention.head_count", gguf.Uint32(0)) }, "head_count"},
	{"heads past all", func(f *made) { f.set("llama.attention.head_count", gguf.Uint32(math.MaxUint32)) }, "head_count"},
	{"heads as floats", func(f *made) { f.set("llama.attention.head_count", gguf.Float32(8)) }, "head_count"},
	{"a short list of heads", func(f *made) { f.set("llama.attention.head_count", gguf.Int32s([]int32{8})) }, "head_count"},
	{"a list of texts", func(f *made) { f.set("llama.attention.head_count", gguf.Strings([]string{"8", "8"})) }, "head_count"},
	{"heads below zero in a list", func(f *made) { f.set("llama.attention.head_count", gguf.Int32s([]int32{8, -8})) }, "head_count"},
	{"KV heads 0", func(f *made) { f.set("llama.attention.head_count_kv", gguf.Uint32(0)) }, "head_count_kv"},
	{"KV heads that do not divide", func(f *made) { f.set("llama.attention.head_count_kv", gguf.Uint32(3)) }, "do not divide"},
	{"KV heads without heads", func(f *made) { f.set("llama.attention.head_count", gguf.Int32s([]int32{8, 0})) }, "head_count"},
	{"no width", func(f *made) { f.drop("llama.embedding_length") }, "embedding_length"},
	{"a width past all", func(f *made) { f.set("llama.embedding_length", gguf.Uint64(1<<40)) }, "embedding_length"},
	{"another width", func(f *made) { f.set("llama.embedding_length", gguf.Uint32(32)) }, "shape"},
	{"no FFN", func(f *made) { f.drop("llama.feed_forward_length") }, "feed_forward_length"},
	{"no context", func(f *made) { f.drop("llama.context_length") }, "context_length"},
	{"a context of 0", func(f *made) { f.set("llama.context_length", gguf.Uint32(0)) }, "context_length"},
	{"no epsilon", func(f *made) { f.drop("llama.attention.layer_norm_rms_epsilon") }, "epsilon"},
	{"an epsilon that is no number", func(f *made) {
		f.set("llama.attention.layer_norm_rms_epsilon", gguf.Float32(float32(math.NaN())))
	}, "epsilon"},
	{"an epsilon that is infinite", func(f *made) {
		f.set("llama.attention.layer_norm_rms_epsilon", gguf.Float32(float32(math.Inf(1))))
	}, "epsilon"},
	{"values of another width", func(f *made) { f.set("llama.attention.value_length", gguf.Uint32(4)) }, "value_length"},
	{"an odd head dim", func(f *made) {
		for _, k := range []string{keyKeyLength, keyValueLength, keyRotated} {
			f.set("llama."+k, gguf.Uint32(7))
		}
	}, "odd"},
	{"partial rotation", func(f *made) { f.set("llama.rope.dimension_count", gguf.Uint32(4)) }, "dimension_count"},
	{"theta 0", func(f *made) { f.set("llama.rope.freq_base", gguf.Float32(0)) }, "freq_base"},
	{"another scaling", func(f *made) { f.set("llama.rope.scaling.type", gguf.String("longrope")) }, "longrope"},
	{"scaling as a number", func(f *made) { f.set("llama.rope.scaling.type", gguf.Uint32(1)) }, "scaling.type"},
	{"scaling down", func(f *made) { f.set("llama.rope.scaling.factor", gguf.Float32(0.5)) }, "factor"},
	{"a factor of attention alone", func(f *made) { f.set("llama.rope.scaling.attn_factor", gguf.Float32(2)) }, "attn_factor"},
	{"experts", func(f *made) { f.set("llama.expert_count", gguf.Uint32(8)) }, "experts"},
	{"no embedding", func(f *made) { f.tensor(nameEmbed).Name = "token_embeddings" }, "token_embd"},
	{"an embedding of one dimension", func(f *made) { f.tensor(nameEmbed).Shape = []int64{64} }, "token_embd"},
	{"a huge embedding", func(f *made) { f.tensor(nameEmbed).Shape = []int64{1 << 40, 64} }, "token_embd"},
	{"a tensor of another shape", func(f *made) { f.tensor("blk.1.attn_k.weight").Shape = []int64{64, 16} }, "shape"},
	{"a tensor of integers", func(f *made) { f.tensor("blk.1.attn_k.weight").Type = ggml.I32 }, "type I32"},
	{"a tensor of an unknown type", func(f *made) { f.tensor("blk.1.attn_k.weight").Type = 99 }, "type 99"},
	{"rows that are no blocks", func(f *made) { f.tensor("blk.1.attn_k.weight").Type = ggml.Q4_K }, "rows of 64 values"},
	{"a tensor too many", func(f *made) {
		f.tensors = append(f.tensors, gguf.Tensor{Name: "blk.0.attn_q.scale", Type: ggml.F32, Shape: []int64{1}})
	}, "not one that the architecture has"},
	{"a bias of one layer", func(f *made) {
		f.tensors = append(f.tensors, gguf.Tensor{Name: "blk.0.attn_q.bias", Type: ggml.F32, Shape: []int64{64}})
	}, "is missing"},
	{"frequencies of another shape", func(f *made) {
		f.tensors = append(f.tensors, gguf.Tensor{Name: nameRopeFreqs, Type: ggml.F32, Shape: []int64{5}})
	}, "rope_freqs"},
	{"frequencies of 0", func(f *made) {
		f.tensors = append(f.tensors, gguf.Tensor{Name: nameRopeFreqs, Type: ggml.F32, Shape: []int64{4}})
	}, "not those of llama3"},
}

func TestOpenHostile(t *testing.T) {
	for _, c := range hostile {
		f := file(testmodel.Options{G: 2})
		c.edit(f)
		_, err := Open(f)
		var e *formats.Error
		if !errors.As(err, &e) || e.File != "made.gguf" || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want one with %q", c.name, err, c.want)
		}
	}
	if _, err := Open(file(testmodel.Options{G: 2})); err != nil {
		t.Error(err)
	}
}

// Settings that are allowed, and keys that say nothing.
func TestOpenLenient(t *testing.T) {
	f := file(testmodel.Options{G: 2})
	f.set("llama.rope.scaling.type", gguf.String("none"))
	f.set("llama.rope.scale_linear", gguf.Float32(1))
	f.drop("llama.attention.key_length")
	f.drop("llama.attention.value_length")
	f.drop("llama.rope.dimension_count")
	f.drop("llama.vocab_size")
	f.set("llama.attention.head_count", gguf.Int32s([]int32{8, 8}))
	f.set("llama.some.other", gguf.Uint32(1))
	l, err := Open(f)
	if err != nil {
		t.Fatal(err)
	}
	if len(l.Warnings) != 1 || !strings.Contains(l.Warnings[0], "llama.some.other") {
		t.Errorf("warnings %q", l.Warnings)
	}
	f = file(testmodel.Options{Family: "gpt2"}) // as programs of 2026 write it: without a copy of the embedding
	f.tensors = slices.DeleteFunc(f.tensors, func(t gguf.Tensor) bool { return t.Name == nameOutput })
	if _, err := Open(f); err != nil {
		t.Error(err)
	}
}

// Faults of a tokenizer leave it out and say so; the model opens.
func TestOpenHostileTokenizer(t *testing.T) {
	base := func() []gguf.KV {
		kv, _, err := Tokenizer(files{"tokenizer.json": tinyTokenizer}.read, 256)
		if err != nil {
			t.Fatal(err)
		}
		return kv
	}
	spmKV, _, err := Tokenizer(files{"tokenizer.json": spm([]string{"a"})}.read, 300)
	if err != nil {
		t.Fatal(err)
	}
	long := strings.Repeat("a", 1<<20)
	for _, c := range []struct {
		name string
		kv   []gguf.KV
		edit func(f *made)
		want string
	}{
		{"no tokens", base(), func(f *made) { f.drop(keyTokens) }, "no list of tokens"},
		{"tokens of numbers", base(), func(f *made) { f.set(keyTokens, gguf.Int32s([]int32{1})) }, "no list of tokens"},
		{"types for others", base(), func(f *made) { f.set(keyTokenType, gguf.Int32s([]int32{1})) }, "a type for each"},
		{"a token twice", base(), func(f *made) { f.set(keyTokens, gguf.Strings(slices.Repeat([]string{"a"}, 256))) }, "twice"},
		{"bytes that are no text", base(), func(f *made) { f.set(keyTokens, gguf.Strings(slices.Repeat([]string{"\xff"}, 256))) }, "no text"},
		{"another model", base(), func(f *made) { f.set(keyModel, gguf.String("bert")) }, "no counterpart"},
		{"another pre-tokenizer", base(), func(f *made) { f.set(keyPre, gguf.String("falcon")) }, "no counterpart"},
		{"no merges", base(), func(f *made) { f.drop(keyMerges) }, "no list of merges"},
		{"merges of nothing", base(), func(f *made) {
			f.set(keyMerges, gguf.Strings([]string{"", " ", "a", "a ", "  a", "a b c", "x y", "a b"}))
		}, "7 merges"},
		{"no scores", spmKV, func(f *made) { f.drop(keyScores) }, "a score for each"},
		{"a byte less", spmKV, func(f *made) {
			v, _ := f.Lookup(keyTokens)
			list, _ := v.Strs()
			list = slices.Clone(list)
			list[3] = "zero"
			f.set(keyTokens, gguf.Strings(list))
		}, "<0x00>"},
		{"a very long token", spmKV, func(f *made) {
			v, _ := f.Lookup(keyTokens)
			list, _ := v.Strs()
			list = slices.Clone(list)
			list[259] = long
			f.set(keyTokens, gguf.Strings(list))
			f.drop(specialKey("bos"))
			f.set(keyAddBOS, gguf.Bool(true))
			f.set(specialKey("bos"), gguf.Uint32(1<<31))
		}, "text gets a bos token"},
	} {
		f := file(testmodel.Options{V: 300})
		f.drop(keyModel)
		f.kv = append(f.kv, c.kv...)
		c.edit(f)
		l, err := Open(f)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if !strings.Contains(strings.Join(l.Warnings, "\n"), c.want) {
			t.Errorf("%s: warnings %q, want one with %q", c.name, l.Warnings, c.want)
		}
	}
}

// FuzzOpen edits the metadata and tensors of files: nothing panics, errors name the file, and what opens can be read.
func FuzzOpen(f *testing.F) {
	f.Add([]byte{0, 1, 2, 3, 4, 5})
	f.Add([]byte{1, 1, 7, 0xff, 0xff, 0xff, 0xff, 2, 3, 1})
	f.Add([]byte{2, 4, 9, 1, 0, 0, 0, 2, 5, 3, 200, 0, 0, 0})
	models := []testmodel.Options{
		{G: 2}, {Family: "gpt2"}, {Family: "qwen2", G: 2}, {Family: "qwen3", H: 4, G: 2, K: 32},
		{Layers: 3, G: 2, PerLayer: map[int]testmodel.Sizes{1: {NoAttention: true}}},
		{G: 2, Theta: 500000, Scaling: &testmodel.Scaling{Type: "llama3", Factor: 8, LowFreqFactor: 1, HighFreqFactor: 4, OriginalMaxPositionEmbedded: 64}},
	}
	kv, _, err := Tokenizer(files{"tokenizer.json": tinyTokenizer}.read, 256)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		r := &reader{data}
		x := file(models[r.next()%len(models)])
		x.drop(keyModel)
		x.kv = append(x.kv, kv...)
		for len(r.data) > 0 {
			r.change(x)
		}
		l, err := Open(x)
		if err != nil {
			var e *formats.Error
			if !errors.As(err, &e) {
				t.Fatalf("error of type %T: %v", err, err)
			}
			return
		}
		for _, info := range l.View.Tensors() {
			size, err := info.Bytes()
			if err != nil {
				t.Fatal(err)
			}
			p := make([]byte, min(size, 5000))
			for _, off := range []int64{0, size - int64(len(p)), size/2 - int64(len(p))/2} {
				if err := l.View.ReadAt(info.Name, p, off); err != nil {
					t.Fatal(err)
				}
			}
		}
	})
}

// reader takes edits from bytes.
type reader struct{ data []byte }

func (r *reader) next() int {
	if len(r.data) == 0 {
		return 0
	}
	b := r.data[0]
	r.data = r.data[1:]
	return int(b)
}

func (r *reader) number() int64 {
	n := int64(0)
	for range 1 + r.next()%8 {
		n = n<<8 | int64(r.next())
	}
	return n
}

// change makes one edit.
func (r *reader) change(x *made) {
	i, j := r.next(), r.next()
	kv, tensor := &x.kv[i%len(x.kv)], &x.tensors[i%len(x.tensors)]
	switch j % 12 {
	case 0:
		kv.Value = gguf.Uint32(uint32(r.number()))
	case 1:
		kv.Value = gguf.Int64(r.number())
	case 2:
		kv.Value = gguf.Float32(math.Float32frombits(uint32(r.number())))
	case 3:
		kv.Value = gguf.String(fmt.Sprint(r.number()))
	case 4:
		list := make([]int32, r.next()%5)
		for k := range list {
			list[k] = int32(r.number())
		}
		kv.Value = gguf.Int32s(list)
	case 5:
		kv.Value = gguf.Strings([]string{"a", fmt.Sprint(r.number())})
	case 6:
		kv.Key += "x"
	case 7:
		tensor.Name = x.tensors[r.next()%len(x.tensors)].Name
	case 8:
		tensor.Type = ggml.Type(r.next() % 45)
	case 9:
		tensor.Shape = append(tensor.Shape, r.number())
	case 10:
		tensor.Shape[0] = r.number()
	case 11:
		kv.Value = gguf.Bool(r.next()%2 == 0)
	}
}
