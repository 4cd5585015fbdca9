package testmodel

import (
	"errors"
	"os"
	"path/filepath"

	"modelpress/formats"
	"modelpress/formats/safetensors"
)

// chunk is how much of a tensor is made at a time.
const chunk = 4 << 20

// Write writes the checkpoint into an existing directory: weights in files of at most shardBytes (0: one file), config.json
// and generation_config.json. It holds one chunk of a tensor at a time.
func (m *Model) Write(dir string, shardBytes int64) error {
	layout, err := safetensors.PlanLayout(m.Tensors(), shardBytes)
	if err != nil {
		return err
	}
	w, err := safetensors.Create(dir, layout, map[string]string{"format": "pt"})
	if err != nil {
		return err
	}
	if err := errors.Join(m.writeTensors(w), w.Sync(), w.Close()); err != nil {
		return err
	}
	files := []struct {
		name string
		data []byte
	}{{"config.json", m.Config}, {"generation_config.json", m.Generation}}
	if len(layout.Shards) > 1 {
		files = append(files, struct {
			name string
			data []byte
		}{"model.safetensors.index.json", layout.Index()})
	}
	for _, f := range files {
		if err := os.WriteFile(filepath.Join(dir, f.name), f.data, 0o644); err != nil {
			return err
		}
	}
	return nil
}

func (m *Model) writeTensors(w *safetensors.Writer) error {
	buf := make([]byte, chunk)
	for _, info := range m.Tensors() {
		if err := m.writeTensor(w, info, buf); err != nil {
			return err
		}
	}
	return nil
}

func (m *Model) writeTensor(w *safetensors.Writer, info formats.TensorInfo, buf []byte) error {
	size, err := info.Bytes()
	if err != nil {
		return err
	}
	for off := int64(0); off < size; off += int64(len(buf)) {
		p := buf[:min(int64(len(buf)), size-off)]
		if err := m.ReadAt(info.Name, p, off); err != nil {
			return err
		}
		if err := w.WriteAt(info.Name, p, off); err != nil {
			return err
		}
	}
	return nil
}
