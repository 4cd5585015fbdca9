package gguf

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"

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

// Open opens a model by its only or its first file and checks all headers. Errors about the content are of type [*formats.Error] and name
// a file by its base name. Anything but a regular file, or a link to one, is refused, and waited for by nobody; links of the other parts
// must not lead out of the directory, unless within a cache of Hugging Face.
//
// Memory: at most 3 bytes for each byte of the headers, which have at most MaxHeaderBytes together, 200 for each key and 500 for each
// tensor. No more is taken while a header is read than the file has bytes.
func Open(path string) (*File, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, formats.Errorf(filepath.Base(path), "", "%w", underlying(err))
	}
	m := &File{index: map[string]int{}}
	if err := m.open(f, path); err != nil {
		m.Close()
		return nil, err
	}
	return m, nil
}

// open reads the first file and those that belong to it.
func (m *File) open(f *os.File, path string) error {
	budget := int64(MaxHeaderBytes)
	h, err := m.add(f, path, &budget)
	if err != nil {
		return err
	}
	name := m.parts[0].name
	p, err := h.part()
	if err != nil {
		return formats.Errorf(name, "", "%w", err)
	}
	prefix, err := p.first(name)
	if err != nil {
		return formats.Errorf(name, "", "%w", err)
	}
	m.setMetadata(h.kv)
	if p.count > 1 {
		if err := m.openParts(filepath.Dir(path), prefix, p, &budget); err != nil {
			return err
		}
	}
	if p.count > 0 && p.total && uint64(len(m.tensors)) != p.tensors {
		return formats.Errorf(name, "", "key %q: %d tensors, and there are %d", keySplitTensors, p.tensors, len(m.tensors))
	}
	return nil
}

// openParts opens the parts after the first, whose place is p.
func (m *File) openParts(dir, prefix string, p part, budget *int64) error {
	d, err := openDirectory(dir)
	if err != nil {
		return formats.Errorf(m.parts[0].name, "", "%w", underlying(err))
	}
	defer d.root.Close()
	for i := 1; i < int(p.count); i++ {
		name := partName(prefix, i, int(p.count))
		f, err := d.open(name)
		if err != nil {
			return err
		}
		h, err := m.add(f, filepath.Join(dir, name), budget)
		if err != nil {
			return err
		}
		p.no = uint64(i)
		if q, err := h.part(); err != nil {
			return formats.Errorf(name, "", "%w", err)
		} else if q != p {
			return formats.Errorf(name, "", "it says to be part %d of %d with %d tensors in all, where part %d of %d with %d is needed",
				q.no+1, q.count, q.tensors, p.no+1, p.count, p.tensors)
		}
	}
	return nil
}

// add takes over an open file and reads its header, for which it lowers the budget.
func (m *File) add(f *os.File, path string, budget *int64) (*header, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		abs = path
	}
	o := &opened{f: f, name: filepath.Base(path), path: abs}
	m.parts = append(m.parts, o)
	if o.info, err = f.Stat(); err != nil {
		return nil, formats.Errorf(o.name, "", "%w", underlying(err))
	}
	if !o.info.Mode().IsRegular() {
		return nil, formats.Errorf(o.name, "", "not a regular file")
	}
	h, err := parseHeader(f, o.name, o.info.Size(), *budget, m.index)
	if err != nil {
		return nil, err
	}
	*budget -= h.read
	for _, t := range h.tensors {
		m.tensors = append(m.tensors, t.Tensor)
		m.where = append(m.where, place{o, h.start + t.offset, t.size})
	}
	return h, nil
}

// setMetadata takes the metadata of the first file, without what speaks of parts.
func (m *File) setMetadata(kv []KV) {
	m.kv = slices.DeleteFunc(kv, func(e KV) bool { return isSplitKey(e.Key) })
	m.keys = make(map[string]int, len(m.kv))
	for i, e := range m.kv {
		m.keys[e.Key] = i
	}
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
