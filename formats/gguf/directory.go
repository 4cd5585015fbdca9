package gguf

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"syscall"

	"modelpress/formats"
)

// directory opens the other parts of a model by their names, and nothing outside the directory of the first. A symbolic link may lead to
// another file of the directory, and in the layout of the Hugging Face cache (models--a--b/snapshots/REVISION/.../x ->
// ../../blobs/HASH) to any file below models--a--b.
type directory struct {
	root   *os.Root
	prefix string // path of the directory below root
}

func openDirectory(dir string) (*directory, error) {
	real, err := filepath.EvalSymlinks(dir)
	if err == nil {
		real, err = filepath.Abs(real)
	}
	if err != nil {
		return nil, err
	}
	base := cacheOf(real)
	below, err := filepath.Rel(base, real)
	if err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(base)
	if err != nil {
		return nil, err
	}
	return &directory{root: root, prefix: filepath.ToSlash(below)}, nil
}

// cacheOf returns the directory of the model in a cache of Hugging Face that a directory lies in, or that directory itself.
func cacheOf(dir string) string {
	for at := dir; ; {
		up := filepath.Dir(at)
		if up == at {
			return dir
		}
		if filepath.Base(up) == "snapshots" {
			model := filepath.Dir(up)
			// Without blobs beside it, "snapshots" is only a name, and links out of the directory have no business there.
			if info, err := os.Lstat(filepath.Join(model, "blobs")); err == nil && info.IsDir() {
				return model
			}
		}
		at = up
	}
}

// open opens a file of the directory. It never waits, as it would for the writer of a pipe.
func (d *directory) open(name string) (*os.File, error) {
	full := path.Join(d.prefix, name)
	f, err := d.root.OpenFile(full, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err == nil {
		return f, nil
	}
	info, lerr := d.root.Lstat(full)
	switch link := lerr == nil && info.Mode()&fs.ModeSymlink != 0; {
	case link && errors.Is(err, fs.ErrNotExist):
		return nil, formats.Errorf(name, "", "symbolic link to a file that does not exist: %w", fs.ErrNotExist)
	case link:
		return nil, formats.Errorf(name, "", "symbolic link out of the model's directory: %w", underlying(err))
	case errors.Is(err, fs.ErrNotExist):
		return nil, formats.Errorf(name, "", "a part of the model is missing: %w", fs.ErrNotExist)
	}
	return nil, formats.Errorf(name, "", "%w", underlying(err))
}

// underlying drops the path from an error of the os package: formats.Error names the file.
func underlying(err error) error {
	var e *fs.PathError
	if errors.As(err, &e) {
		return e.Err
	}
	return err
}
