package gguf

import (
	"fmt"
	"io"
	"io/fs"
	"os"

	"modelpress/formats"
)

// File is an open model: one file, or all the files that it was split into. It holds no data, reads with pread only, so that a file which
// another process shortens gives an error and not a fault, and is safe for concurrent use.
type File struct {
	parts   []*opened
	kv      []KV
	keys    map[string]int
	tensors []Tensor
	where   []place
	index   map[string]int
}

// opened is one open file.
type opened struct {
	f    *os.File
	name string // base name
	path string
	info fs.FileInfo
}

// place is where the data of a tensor are.
type place struct {
	part         *opened
	offset, size int64 // from the start of the file
}

// Name returns the base name of the first file: the name that errors use.
func (m *File) Name() string { return m.parts[0].name }

// Files returns the base names of all files, in order.
func (m *File) Files() []string {
	names := make([]string, len(m.parts))
	for i, o := range m.parts {
		names[i] = o.name
	}
	return names
}

// Metadata returns the keys in the order of the file, without split.no, split.count and split.tensors.count: a model that was split is one
// file here. Of the parts after the first only those keys and the alignment count. The list is the File's own: not to be changed.
func (m *File) Metadata() []KV { return m.kv }

// Lookup returns the value of a key of Metadata.
func (m *File) Lookup(key string) (Value, bool) {
	i, ok := m.keys[key]
	if !ok {
		return Value{}, false
	}
	return m.kv[i].Value, true
}

// Tensors returns the tensors in the order of the files, which is that of their data. The list is the File's own: not to be changed.
func (m *File) Tensors() []Tensor { return m.tensors }

// Find returns one tensor.
func (m *File) Find(name string) (Tensor, bool) {
	i, ok := m.index[name]
	if !ok {
		return Tensor{}, false
	}
	return m.tensors[i], true
}

// ReadAt fills p with the data of a tensor as they are stored, from byte offset off.
func (m *File) ReadAt(name string, p []byte, off int64) error {
	i, ok := m.index[name]
	if !ok {
		return formats.Errorf(m.Name(), name, "no such tensor")
	}
	w := m.where[i]
	if off < 0 || off > w.size || int64(len(p)) > w.size-off {
		return formats.Errorf(w.part.name, name, "read of bytes [%d, %d+%d) of %d", off, off, len(p), w.size)
	}
	if len(p) == 0 {
		return nil
	}
	n, err := w.part.f.ReadAt(p, w.offset+off)
	switch {
	case n == len(p):
		return nil
	case err == io.EOF:
		return formats.Errorf(w.part.name, name, "%w", errShorter)
	}
	return formats.Errorf(w.part.name, name, "read: %w", underlying(err))
}

// CheckUnchanged returns an error if a file has another size or modification time than when it was opened, or if its name leads to
// another file now.
func (m *File) CheckUnchanged() error {
	for _, o := range m.parts {
		if err := o.unchanged(); err != nil {
			return formats.Errorf(o.name, "", "%w", err)
		}
	}
	return nil
}

func (o *opened) unchanged() error {
	now, err := os.Stat(o.path)
	if err != nil {
		return underlying(err)
	}
	if !os.SameFile(now, o.info) || now.Size() != o.info.Size() || !now.ModTime().Equal(o.info.ModTime()) {
		return fmt.Errorf("the file was changed while it was in use")
	}
	return nil
}

// Close closes all files. Reads after it fail.
func (m *File) Close() error {
	var first error
	for _, o := range m.parts {
		if err := o.f.Close(); err != nil && first == nil {
			first = err
		}
	}
	return first
}
