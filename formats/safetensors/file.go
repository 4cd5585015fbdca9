// Package safetensors reads and writes the safetensors format of Hugging Face: an 8-byte little-endian header length, a
// JSON header, and the tensors' data without holes. Readers check the whole header before they hand out anything, hold
// no data, and read with pread only: a file that another process shortens gives an error and not a fault. Writers lay
// out every byte before the first is written, so that tensors can be written in any order and after a restart.
package safetensors

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"modelpress/formats"
)

// File is an open safetensors file. It implements [formats.Source] and is safe for concurrent use.
type File struct {
	f        *os.File
	name     string
	info     fs.FileInfo
	start    int64 // offset of the data section
	entries  []entry
	index    map[string]int
	tensors  []formats.TensorInfo
	metadata map[string]string
	digest   string
}

var _ formats.Source = (*File)(nil)

// Open opens a file and checks its header. Errors about the content are of type [*formats.Error] and name the file by
// its base name. Anything but a regular file, or a link to one, is refused, and waited for by nobody.
func Open(path string) (*File, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, formats.Errorf(filepath.Base(path), "", "%w", underlying(err))
	}
	return OpenFile(f, filepath.Base(path))
}

// underlying drops the path from an error of the os package: formats.Error names the file.
func underlying(err error) error {
	var e *fs.PathError
	if errors.As(err, &e) {
		return e.Err
	}
	return err
}

// OpenFile is Open for a file that is already open; name is what errors call it. The File owns f, which is closed on
// error too.
func OpenFile(f *os.File, name string) (*File, error) {
	r := &File{f: f, name: name}
	if err := r.readHeader(); err != nil {
		f.Close()
		return nil, err
	}
	return r, nil
}

func (r *File) readHeader() error {
	info, err := r.f.Stat()
	if err != nil {
		return formats.Errorf(r.name, "", "%w", underlying(err))
	}
	if !info.Mode().IsRegular() {
		return formats.Errorf(r.name, "", "not a regular file")
	}
	r.info = info
	raw, err := readHeader(r.f, r.name, info.Size())
	if err != nil {
		return err
	}
	r.start = 8 + int64(len(raw))
	h, err := parseHeader(raw, r.name, info.Size()-r.start)
	if err != nil {
		return err
	}
	if err := crossCheck(raw, r.name, h); err != nil {
		return err
	}
	sum := sha256.Sum256(raw)
	r.digest = "sha256:" + hex.EncodeToString(sum[:])
	r.setHeader(h)
	return nil
}

func (r *File) setHeader(h *header) {
	r.entries, r.metadata = h.entries, h.metadata
	r.index = make(map[string]int, len(h.entries))
	r.tensors = make([]formats.TensorInfo, len(h.entries))
	for i, e := range h.entries {
		r.index[e.Name] = i
		r.tensors[i] = e.TensorInfo
	}
	slices.SortFunc(r.tensors, func(a, b formats.TensorInfo) int { return strings.Compare(a.Name, b.Name) })
}

// Name returns the name that errors use for the file.
func (r *File) Name() string { return r.name }

// Tensors returns every tensor, sorted by name.
func (r *File) Tensors() []formats.TensorInfo { return r.tensors }

// DataOrder returns every tensor in the order of its data in the file: the order for reading all of it.
func (r *File) DataOrder() []formats.TensorInfo {
	order := make([]formats.TensorInfo, len(r.entries))
	for i, e := range r.entries {
		order[i] = e.TensorInfo
	}
	return order
}

// Lookup returns the description of one tensor.
func (r *File) Lookup(name string) (formats.TensorInfo, bool) {
	i, ok := r.index[name]
	if !ok {
		return formats.TensorInfo{}, false
	}
	return r.entries[i].TensorInfo, true
}

// ReadAt fills p with data of a tensor from byte offset off.
func (r *File) ReadAt(name string, p []byte, off int64) error {
	i, ok := r.index[name]
	if !ok {
		return formats.Errorf(r.name, name, "no such tensor")
	}
	e := &r.entries[i]
	if size := e.end - e.begin; off < 0 || off > size || int64(len(p)) > size-off {
		return formats.Errorf(r.name, name, "read of bytes [%d, %d+%d) of %d", off, off, len(p), size)
	}
	if len(p) == 0 {
		return nil
	}
	n, err := r.f.ReadAt(p, r.start+e.begin+off)
	switch {
	case n == len(p):
		return nil
	case err == io.EOF:
		return formats.Errorf(r.name, name, "the file has become shorter since it was opened")
	default:
		return formats.Errorf(r.name, name, "read: %w", underlying(err))
	}
}

// Metadata returns a copy of the strings of __metadata__, nil where the header has none.
func (r *File) Metadata() map[string]string { return maps.Clone(r.metadata) }

// HeaderDigest returns "sha256:" and the hexadecimal SHA-256 of the header as it stands in the file, padding included.
func (r *File) HeaderDigest() string { return r.digest }

// Info returns what the file system said of the file when it was opened.
func (r *File) Info() fs.FileInfo { return r.info }

// CheckUnchanged returns an error if the open file has another size or modification time than when it was opened.
// Whether its name still leads to it is for the one who knows the directory: compare Info by os.SameFile.
func (r *File) CheckUnchanged() error {
	now, err := r.f.Stat()
	if err != nil {
		return formats.Errorf(r.name, "", "%w", underlying(err))
	}
	if now.Size() != r.info.Size() || !now.ModTime().Equal(r.info.ModTime()) {
		return formats.Errorf(r.name, "", "the file was changed while it was in use")
	}
	return nil
}

// Close closes the file. Reads after it fail.
func (r *File) Close() error { return r.f.Close() }
