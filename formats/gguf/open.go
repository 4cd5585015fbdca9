package gguf

import (
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"modelpress/formats"
)

// Open opens a model by its only or its first file and checks all headers. Errors about the content are of type [*formats.Error] and name
// a file by its base name. Anything but a regular file, or a link to one, is refused, and waited for by nobody; links of the other parts
// must not lead out of the directory, unless within a cache of Hugging Face.
//
// Memory: 64 KiB a file, 3 bytes for each byte of the headers, which have at most MaxHeaderBytes together, 200 for each key and 300 for each
// tensor, of which there are at most MaxKeys a file and MaxTensors. A count or length that the rest of the file is too short for is refused
// before memory is taken.
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
	m.setMetadata(h)
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
	m.tensors = slices.Grow(m.tensors, len(h.tensors))
	m.where = slices.Grow(m.where, len(h.tensors))
	for _, t := range h.tensors {
		m.tensors = append(m.tensors, t.Tensor)
		m.where = append(m.where, place{o, h.start + t.offset, t.size})
	}
	return h, nil
}

// setMetadata takes the metadata of the first file, without what speaks of parts.
func (m *File) setMetadata(h *header) {
	n := len(h.kv)
	m.kv, m.keys = slices.DeleteFunc(h.kv, func(e KV) bool { return isSplitKey(e.Key) }), h.keys
	if len(m.kv) == n {
		return
	}
	clear(m.keys)
	for i, e := range m.kv {
		m.keys[e.Key] = i
	}
}
