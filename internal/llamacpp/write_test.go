package llamacpp

import (
	"path/filepath"
	"testing"

	"modelpress/formats"
	"modelpress/formats/ggml"
	"modelpress/formats/gguf"
)

// noVocab are the entries of a file without tokenizer.
var noVocab = []gguf.KV{{Key: "tokenizer.ggml.model", Value: gguf.String("no_vocab")}}

// write writes the model with all tensors as they are stored, vectors in F32, and returns the path.
func write(t *testing.T, src formats.Source, m *Model, tokenizer []gguf.KV) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "model.gguf")
	writeTo(t, path, src, m, tokenizer)
	return path
}

func writeTo(t *testing.T, path string, src formats.Source, m *Model, tokenizer []gguf.KV) {
	t.Helper()
	tensors := make([]gguf.Tensor, len(m.Tensors))
	for i := range tensors {
		x := &m.Tensors[i]
		tensors[i] = gguf.Tensor{Name: x.Name, Type: storedType(t, src, x), Shape: x.Shape}
	}
	w, err := gguf.Create(path, m.Metadata("test", 0, tokenizer), tensors, gguf.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for i := range m.Tensors {
		x := &m.Tensors[i]
		rows, columns := x.Size()
		var raw []byte
		if info, ok := src.Lookup(x.From); ok && tensors[i].Type != ggml.F32 {
			raw = make([]byte, rows*columns*int64(info.DType.Size()))
			err = x.Bytes(src, 0, rows, raw)
		} else {
			values := make([]float32, rows*columns)
			raw = make([]byte, 4*len(values))
			if err = x.Rows(src, 0, rows, values); err == nil {
				err = formats.Encode(raw, values, formats.F32)
			}
		}
		if err == nil {
			err = w.WriteAt(x.Name, raw, 0)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Commit(); err != nil {
		t.Fatal(err)
	}
}

func storedType(t *testing.T, src formats.Source, x *Tensor) ggml.Type {
	t.Helper()
	if x.Vector || x.From == "" {
		return ggml.F32
	}
	info, ok := src.Lookup(x.From)
	if !ok {
		t.Fatalf("no tensor %s", x.From)
	}
	switch info.DType {
	case formats.F32:
		return ggml.F32
	case formats.F16:
		return ggml.F16
	case formats.BF16:
		return ggml.BF16
	}
	t.Fatalf("%s is %s", x.From, info.DType)
	return 0
}
