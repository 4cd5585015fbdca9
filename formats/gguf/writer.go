package gguf

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync/atomic"

	"modelpress/formats"
)

// Writer writes the files of a model, each under its name with ".partial" behind it until Commit. WriteAt and ReadAt may be called from
// several goroutines; Commit and Abort when they are done.
type Writer struct {
	path  string // as given to Create
	files []*output
	place map[string]*target
	done  bool
}

// output is one file that is written.
type output struct {
	f    *os.File
	lock *os.File
	path string      // its name in the end
	info fs.FileInfo // of the temporary file
}

// target is the place of a tensor.
type target struct {
	file         *output
	offset, size int64
	written      atomic.Int64
}

// Create makes the files of a model, laid out as Plan says and named as Layout.Names does: at their full sizes, with their space reserved
// where the file system can do that, with their headers, and zeros everywhere else. What an earlier process left under the temporary names
// is replaced. It fails if one of the files exists, with formats.ErrLocked where another process writes one, with formats.ErrNoSpace before
// anything is made if the file system has no room for all of them, and for a path whose name is that of a part of a split model.
func Create(path string, kv []KV, tensors []Tensor, o Options) (*Writer, error) {
	w := &Writer{path: path, place: map[string]*target{}}
	if IsPart(path) {
		return nil, w.wrap("create", errors.New("the name is that of a part of a model that was split"))
	}
	l, err := Plan(kv, tensors, o)
	if err != nil {
		return nil, err
	}
	names := l.Names(path)
	if err := prepare(filepath.Dir(path), names, l.Bytes()); err != nil {
		return nil, w.wrap("create", err)
	}
	for i := range l.Files {
		if err := w.create(names[i], &l.Files[i]); err != nil {
			w.Abort()
			return nil, w.wrap("create", err)
		}
	}
	return w, nil
}

// wrap adds to an error what was done to which model.
func (w *Writer) wrap(what string, err error) error {
	return fmt.Errorf("gguf: %s %s: %w", what, filepath.Base(w.path), err)
}

// prepare removes what an earlier process left and checks that there is room for the files.
func prepare(dir string, names []string, size int64) error {
	for _, name := range names {
		if err := absent(name); err != nil {
			return err
		}
	}
	for _, name := range names {
		info, err := os.Lstat(formats.TempName(name))
		switch {
		case errors.Is(err, fs.ErrNotExist):
			continue
		case err == nil && info.IsDir():
			err = fmt.Errorf("%s is a directory", filepath.Base(info.Name()))
		case err == nil:
			err = removeLeft(formats.TempName(name), info)
		}
		if err != nil {
			return err
		}
	}
	return formats.CheckSpace(dir, size)
}

// removeLeft removes what lies under a temporary name, unless the process that writes it is alive.
func removeLeft(name string, info fs.FileInfo) error {
	if info.Mode().IsRegular() {
		lock, err := formats.Lock(name)
		if errors.Is(err, formats.ErrLocked) {
			return fmt.Errorf("%s: %w", filepath.Base(name), err)
		}
		if err == nil {
			defer lock.Close()
		}
	}
	return os.Remove(name)
}

// absent fails if there is a file of that name, or anything else.
func absent(name string) error {
	_, err := os.Lstat(name)
	switch {
	case err == nil:
		return fmt.Errorf("%s: %w", filepath.Base(name), fs.ErrExist)
	case errors.Is(err, fs.ErrNotExist):
		return nil
	}
	return err
}

// create makes one file with its header.
func (w *Writer) create(name string, l *FileLayout) error {
	f, err := os.OpenFile(formats.TempName(name), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return formats.NoSpace(err)
	}
	o := &output{f: f, path: name}
	w.files = append(w.files, o)
	if o.info, err = f.Stat(); err != nil {
		return err
	}
	if o.lock, err = formats.Lock(formats.TempName(name)); err != nil {
		return err
	}
	if err := formats.Reserve(f, l.Bytes); err != nil {
		return err
	}
	if _, err := f.WriteAt(l.header, 0); err != nil {
		return formats.NoSpace(err)
	}
	for i, t := range l.Tensors {
		size, err := t.Bytes()
		if err != nil {
			return err
		}
		w.place[t.Name] = &target{file: o, offset: l.offsets[i], size: size}
	}
	return nil
}

// find returns the place of n bytes of a tensor from off on.
func (w *Writer) find(name string, n int, off int64) (*target, error) {
	t, ok := w.place[name]
	if !ok {
		return nil, formats.Errorf(filepath.Base(w.path), name, "no such tensor")
	}
	if off < 0 || off > t.size || int64(n) > t.size-off {
		return nil, formats.Errorf(filepath.Base(t.file.path), name, "bytes [%d, %d+%d) of %d", off, off, n, t.size)
	}
	return t, nil
}

// WriteAt writes bytes of a tensor, as they are stored, from byte offset off on, in any order.
func (w *Writer) WriteAt(name string, p []byte, off int64) error {
	t, err := w.find(name, len(p), off)
	if err != nil {
		return err
	}
	n, err := t.file.f.WriteAt(p, t.offset+off)
	t.written.Add(int64(n))
	if err != nil {
		return formats.Errorf(filepath.Base(t.file.path), name, "write: %w", formats.NoSpace(underlying(err)))
	}
	return nil
}

// ReadAt reads back bytes of a tensor, for checks of what was written.
func (w *Writer) ReadAt(name string, p []byte, off int64) error {
	t, err := w.find(name, len(p), off)
	if err != nil {
		return err
	}
	if _, err := t.file.f.ReadAt(p, t.offset+off); err != nil {
		return formats.Errorf(filepath.Base(t.file.path), name, "read: %w", underlying(err))
	}
	return nil
}
