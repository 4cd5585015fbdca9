// Package checkpoint opens any model that this program reads: a directory of safetensors files, quantized in whatever format, or a GGUF
// file. What is opened has one shape: tensors as they are stored, the same tensors with every weight in its logical form, and the
// description of the model.
package checkpoint

import (
	"encoding/json"

	"modelpress/formats"
	"modelpress/formats/hf"
)

// Store is a model as it lies on disk: its tensors as they are stored, its configuration, and the files that belong to it.
// Implementations are safe for concurrent use.
type Store interface {
	formats.Source
	formats.Prefetcher
	// DataOrder lists the tensors in the order in which they are fastest to read.
	DataOrder() []formats.TensorInfo
	// Name returns the base name of the directory or file.
	Name() string
	// Config returns config.json: the file's bytes, or what a GGUF file says in its place.
	Config() []byte
	// QuantizationConfig returns how a directory's weights are quantized, nil where they are not.
	QuantizationConfig() json.RawMessage
	// Files lists the side files, by name.
	Files() []hf.SideFile
	// ReadFile returns a side file, or config.json, of at most limit bytes.
	ReadFile(name string, limit int64) ([]byte, error)
	// CopyFile writes a side file, or config.json, below a directory, and returns the hexadecimal SHA-256 of its content.
	CopyFile(dir, name string) (digest string, err error)
	// Shard returns the name of the file that a tensor is in, "" where there is none.
	Shard(tensor string) string
	// ShardNames lists the files that hold tensors.
	ShardNames() []string
	// Warnings returns what is odd and no fault.
	Warnings() []string
	// CheckUnchanged fails where a file was changed since it was opened.
	CheckUnchanged() error
	Close() error
}

var _ Store = (*hf.Checkpoint)(nil)

// QuantizationEdit returns the change of a store's configuration that lets it say itself how the weights are stored, where another file
// says so; none where nothing is quantized or it says so already.
func QuantizationEdit(s Store) []hf.KV {
	q := s.QuantizationConfig()
	var have struct {
		Own   any `json:"quantization_config"`
		Older any `json:"compression_config"`
	}
	if q == nil || json.Unmarshal(s.Config(), &have) != nil || have.Own != nil || have.Older != nil {
		return nil
	}
	return []hf.KV{{Key: "quantization_config", Value: q}}
}
