package imatrix

import (
	"path/filepath"
	"strings"

	"modelpress/formats"
	"modelpress/formats/ggml"
	"modelpress/formats/gguf"
)

// Write writes a new file in the GGUF form, byte for byte as llama-imatrix would with these numbers. It is there under its name when all of it
// is; what lies there already is an error. Texts that are not UTF-8 are written with U+FFFD in place of what is not.
//
// Memory: the header, and four bytes for each value of the longest entry.
func Write(path string, m *Matrix) error {
	if err := m.Check(); err != nil {
		return err
	}
	var tensors []gguf.Tensor
	for i := range m.Entries {
		e := &m.Entries[i]
		n, columns := int64(len(e.Counts)), int64(len(e.Sums)/len(e.Counts))
		sums, counts := []int64{n, columns}, []int64{n, 1}
		if n == 1 {
			sums, counts = sums[1:], counts[1:]
		}
		tensors = append(tensors, gguf.Tensor{Name: e.Tensor + suffixSums, Type: ggml.F32, Shape: sums},
			gguf.Tensor{Name: e.Tensor + suffixCounts, Type: ggml.F32, Shape: counts})
	}
	w, err := gguf.Create(path, m.metadata(), tensors, gguf.Options{})
	if err != nil {
		return err
	}
	for i := range m.Entries {
		e := &m.Entries[i]
		if err := put(w, filepath.Base(path), e); err != nil {
			w.Abort()
			return err
		}
	}
	return w.Commit()
}

func (m *Matrix) metadata() []gguf.KV {
	datasets := make([]string, len(m.Datasets))
	for i, s := range m.Datasets {
		datasets[i] = strings.ToValidUTF8(s, "\uFFFD")
	}
	return []gguf.KV{
		{Key: keyType, Value: gguf.String(typeImatrix)},
		{Key: keyDatasets, Value: gguf.Strings(datasets)},
		{Key: keyChunks, Value: gguf.Uint32(uint32(m.Chunks))},
		{Key: keyChunkSize, Value: gguf.Uint32(uint32(m.ChunkSize))},
	}
}

// put writes the two tensors of an entry.
func put(w *gguf.Writer, file string, e *Entry) error {
	for _, t := range []struct {
		suffix string
		values []float32
	}{{suffixSums, e.Sums}, {suffixCounts, e.Counts}} {
		b := make([]byte, 4*len(t.values))
		if err := formats.Encode(b, t.values, formats.F32); err != nil {
			return formats.Errorf(file, e.Tensor, "%w", err)
		}
		if err := w.WriteAt(e.Tensor+t.suffix, b, 0); err != nil {
			return err
		}
	}
	return nil
}
