package hf

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"syscall"

	"modelpress/formats"
)

// directory opens files of a checkpoint and nothing outside it. A symbolic link may lead to another file of the
// directory, and in the layout of the Hugging Face cache (models--a--b/snapshots/REVISION/x -> ../../blobs/HASH) to any
// file below models--a--b.
type directory struct {
	root   *os.Root
	prefix string // path of the directory below root
}

func openDirectory(dir string) (*directory, error) {
	name := filepath.Base(dir)
	real, err := filepath.EvalSymlinks(dir)
	if err == nil {
		real, err = filepath.Abs(real)
	}
	if err != nil {
		return nil, formats.Errorf(name, "", "%w", underlying(err))
	}
	base, prefix := real, "."
	if snapshots := filepath.Dir(real); filepath.Base(snapshots) == "snapshots" {
		model := filepath.Dir(snapshots)
		// Without blobs beside it, "snapshots" is only a name, and links out of the directory have no business there.
		if info, err := os.Lstat(filepath.Join(model, "blobs")); err == nil && info.IsDir() {
			base, prefix = model, path.Join("snapshots", filepath.Base(real))
		}
	}
	root, err := os.OpenRoot(base)
	if err != nil {
		return nil, formats.Errorf(name, "", "%w", underlying(err))
	}
	return &directory{root: root, prefix: prefix}, nil
}

// underlying drops the path from an error of the os package: formats.Error names the file, and names of directories
// around it are nobody's business.
func underlying(err error) error {
	var e *fs.PathError
	if errors.As(err, &e) {
		return e.Err
	}
	return err
}

func (d *directory) path(name string) string { return path.Join(d.prefix, name) }

// open opens a regular file by its name in the directory. It never waits, as it would for the writer of a pipe.
func (d *directory) open(name string) (*os.File, fs.FileInfo, error) {
	f, err := d.root.OpenFile(d.path(name), os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, nil, d.wrap(name, err)
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = errors.New("not a regular file")
	}
	if err != nil {
		f.Close()
		return nil, nil, formats.Errorf(name, "", "%w", underlying(err))
	}
	return f, info, nil
}

// wrap gives an error of open its file name, and a clearer text where a link is to blame.
func (d *directory) wrap(name string, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		if info, lerr := d.root.Lstat(d.path(name)); lerr == nil && info.Mode()&fs.ModeSymlink != 0 {
			return formats.Errorf(name, "", "symbolic link to a file that does not exist: %w", fs.ErrNotExist)
		}
		return formats.Errorf(name, "", "%w", fs.ErrNotExist)
	}
	if info, lerr := d.root.Lstat(d.path(name)); lerr == nil && info.Mode()&fs.ModeSymlink != 0 {
		return formats.Errorf(name, "", "symbolic link out of the checkpoint's directory: %w", underlying(err))
	}
	return formats.Errorf(name, "", "%w", underlying(err))
}

// read returns the whole content of a file of at most limit bytes.
func (d *directory) read(name string, limit int64) ([]byte, fs.FileInfo, error) {
	f, info, err := d.open(name)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	if info.Size() > limit {
		return nil, nil, formats.Errorf(name, "", "%d bytes are over the limit of %d", info.Size(), limit)
	}
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, nil, formats.Errorf(name, "", "read: %w", underlying(err))
	}
	if int64(len(data)) != info.Size() {
		return nil, nil, formats.Errorf(name, "", "the file changed while it was read")
	}
	return data, info, nil
}

// exists reports whether the directory has an entry of that name, whatever it is.
func (d *directory) exists(name string) bool {
	_, err := d.root.Lstat(d.path(name))
	return err == nil
}

// list returns the entries of the directory, or of one below it, sorted by name.
func (d *directory) list(sub string) ([]fs.DirEntry, error) {
	return fs.ReadDir(d.root.FS(), path.Join(d.prefix, sub))
}

// unchanged reports whether a name still leads to the file that info describes, with the same size and time.
func (d *directory) unchanged(name string, info fs.FileInfo) error {
	now, err := d.root.Stat(d.path(name))
	if err != nil {
		return d.wrap(name, err)
	}
	if !os.SameFile(now, info) || now.Size() != info.Size() || !now.ModTime().Equal(info.ModTime()) {
		return formats.Errorf(name, "", "the file was changed while it was in use")
	}
	return nil
}
