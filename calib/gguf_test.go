package calib

import (
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"modelpress/formats"
	"modelpress/formats/ggml"
	"modelpress/formats/gguf"
	"modelpress/internal/arch"
	"modelpress/internal/llamacpp"
	"modelpress/internal/testmodel"
)

// throughGGUF writes a tokenizer into a GGUF file with a small model around it, and returns what comes back, with the warnings of both
// ways.
func throughGGUF(t *testing.T, tokenizer []byte, vocab int) ([]byte, []string) {
	t.Helper()
	kv, warnings, err := llamacpp.Tokenizer(func(name string) ([]byte, error) {
		if name == tokenizerFile {
			return tokenizer, nil
		}
		return nil, fs.ErrNotExist
	}, vocab)
	if err != nil {
		return nil, []string{err.Error()}
	}
	src := testmodel.New(testmodel.Options{Layers: 1, D: 4, H: 1, F: 4, V: vocab})
	a, err := arch.DescribeConfig(src.Config)
	if err != nil {
		t.Fatal(err)
	}
	m, err := llamacpp.Describe(a)
	if err != nil {
		t.Fatal(err)
	}
	tensors := make([]gguf.Tensor, len(m.Tensors))
	for i, x := range m.Tensors {
		tensors[i] = gguf.Tensor{Name: x.Name, Type: ggml.F32, Shape: x.Shape}
	}
	path := filepath.Join(t.TempDir(), "model.gguf")
	w, err := gguf.Create(path, m.Metadata("", 0, kv), tensors, gguf.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for i := range m.Tensors {
		rows, columns := m.Tensors[i].Size()
		values := make([]float32, rows*columns)
		raw := make([]byte, 4*len(values))
		if err := m.Tensors[i].Rows(src, 0, rows, values); err != nil {
			t.Fatal(err)
		}
		if err := formats.Encode(raw, values, formats.F32); err != nil {
			t.Fatal(err)
		}
		if err := w.WriteAt(m.Tensors[i].Name, raw, 0); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Commit(); err != nil {
		t.Fatal(err)
	}
	f, err := gguf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	l, err := llamacpp.Open(f)
	if err != nil {
		t.Fatal(err)
	}
	return l.Files[tokenizerFile], append(warnings, l.Warnings...)
}

// A tokenizer that went through a GGUF file cuts text as before, or a warning says that llama.cpp cuts it otherwise.
func TestTokenizerThroughGGUF(t *testing.T) {
	same := []string{"gpt2", "llama3", "qwen2", "qwen3.5", "tekken", "gpt4-removed", "smollm"}
	texts := makeTexts(goldenSeed, 300)
	for _, v := range variants(t) {
		data := assemble(t, v)
		tok, err := LoadTokenizer(data)
		if err != nil {
			t.Fatal(err)
		}
		back, warnings := throughGGUF(t, data, int(tok.MaxID())+3)
		if back == nil {
			if len(warnings) == 0 || slices.Contains(same, v.Name) {
				t.Errorf("%s: no tokenizer comes back, warnings %q", v.Name, warnings)
			}
			continue
		}
		again, err := LoadTokenizer(back)
		if err != nil {
			t.Errorf("%s: %v", v.Name, err)
			continue
		}
		wrong := 0
		for _, text := range texts {
			if !slices.Equal(tok.Encode(text), again.Encode(text)) {
				wrong++
			}
		}
		// The first warning of a tokenizer that names no token that ends text is that.
		serious := slices.DeleteFunc(warnings, func(w string) bool { return strings.HasPrefix(w, "no file names") })
		if wrong > 0 && (slices.Contains(same, v.Name) || len(serious) == 0) {
			t.Errorf("%s: %d of %d texts become other ids, warnings %q", v.Name, wrong, len(texts), warnings)
		}
	}
}

// A SentencePiece model, whose merges are all ways to make a token in the order of scores, comes back as it was.
func TestSentencePieceThroughGGUF(t *testing.T) {
	var chars variant
	for _, v := range variants(t) {
		if v.Name == "llama2" {
			chars = v
		}
	}
	first, _ := throughGGUF(t, assemble(t, chars), 5000) // makes the merges of scores
	tok, err := LoadTokenizer(first)
	if err != nil {
		t.Fatal(err)
	}
	second, warnings := throughGGUF(t, first, 5000)
	if string(first) != string(second) {
		t.Error("the second way changes the tokenizer")
	}
	for _, w := range warnings {
		if strings.HasPrefix(w, "merges") {
			t.Error(w)
		}
	}
	if ids := tok.EncodeSpecial("Hello  world"); len(ids) == 0 || ids[0] != 1 {
		t.Errorf("ids %v do not begin with 1", ids)
	}
	if got := tok.Decode(tok.Encode("Hello  world é 日")); got != "Hello  world é 日" {
		t.Errorf("decodes to %q", got)
	}
}
