package checkpoint

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"modelpress/formats"
	"modelpress/formats/gguf"
	"modelpress/formats/hf"
	"modelpress/internal/arch"
	"modelpress/internal/llamacpp"
)

// openGGUF opens a GGUF file, with its parts where it was split.
func openGGUF(path string, rename []Rename) (*Checkpoint, error) {
	if len(rename) > 0 {
		return nil, formats.Errorf(filepath.Base(path), "", "%w: those of a GGUF file have the names of their architecture", ErrRename)
	}
	f, err := gguf.Open(path)
	if err != nil {
		return nil, err
	}
	l, err := llamacpp.Open(f)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	s := &ggufStore{Quantized: l.View, file: f, loaded: l}
	c := &Checkpoint{Store: s, Path: path, Dense: l.View, GGUF: f, Format: FormatGGUF}
	for _, t := range l.View.Tensors() {
		if _, ok := l.View.Storage(t.Name); ok {
			c.Quantized = l.View
		}
	}
	if c.Arch, err = arch.Describe(l.Config, l.View); err != nil {
		c.nameFiles(err)
		return nil, errors.Join(err, f.Close())
	}
	return c, nil
}

// ggufStore is a GGUF file seen as a directory: tensors have the names and shapes of Hugging Face, and the configuration and the
// tokenizer's files are those that its metadata stand for. Its tensors are shown dequantized.
type ggufStore struct {
	formats.Quantized
	file   *gguf.File
	loaded *llamacpp.Loaded
}

func (s *ggufStore) Prefetch(names []string) { formats.Prefetch(s.Quantized, names) }

func (s *ggufStore) DataOrder() []formats.TensorInfo { return s.Tensors() }

func (s *ggufStore) Name() string { return strings.TrimSuffix(s.file.Name(), ".gguf") }

func (s *ggufStore) Config() []byte { return s.loaded.Config }

func (s *ggufStore) QuantizationConfig() json.RawMessage { return nil }

func (s *ggufStore) Files() []hf.SideFile {
	var list []hf.SideFile
	for name, data := range s.loaded.Files {
		list = append(list, hf.SideFile{Name: name, Kind: hf.KindTokenizer, Size: int64(len(data))})
	}
	slices.SortFunc(list, func(a, b hf.SideFile) int { return strings.Compare(a.Name, b.Name) })
	return list
}

func (s *ggufStore) ReadFile(name string, limit int64) ([]byte, error) {
	data, ok := s.loaded.Files[name]
	if name == "config.json" {
		data, ok = s.loaded.Config, true
	}
	switch {
	case !ok:
		return nil, formats.Errorf(name, "", "not a file of the checkpoint: %w", fs.ErrNotExist)
	case int64(len(data)) > limit:
		return nil, formats.Errorf(name, "", "%d bytes are over the limit of %d", len(data), limit)
	}
	return slices.Clone(data), nil
}

func (s *ggufStore) CopyFile(dir, name string) (string, error) {
	data, err := s.ReadFile(name, 1<<40)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:]), formats.WriteFileAtomic(filepath.Join(dir, filepath.FromSlash(name)), data)
}

func (s *ggufStore) Shard(tensor string) string {
	if _, ok := s.Lookup(tensor); ok {
		return s.file.Name()
	}
	return ""
}

func (s *ggufStore) ShardNames() []string { return s.file.Files() }

func (s *ggufStore) Warnings() []string { return slices.Clone(s.loaded.Warnings) }

func (s *ggufStore) CheckUnchanged() error { return s.file.CheckUnchanged() }

func (s *ggufStore) Close() error { return s.file.Close() }
