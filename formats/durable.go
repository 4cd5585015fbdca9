package formats

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// ErrNoSpace is the cause when a disk or a quota has no room left.
var ErrNoSpace = errors.New("no space left")

// NoSpace wraps err so that it matches [ErrNoSpace] if the operating system says that space ran out, and returns it as
// it is otherwise.
func NoSpace(err error) error {
	if err == nil || errors.Is(err, ErrNoSpace) {
		return err
	}
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return &noSpaceError{err}
	}
	return err
}

type noSpaceError struct{ err error }

func (e *noSpaceError) Error() string   { return e.err.Error() }
func (e *noSpaceError) Unwrap() []error { return []error{e.err, ErrNoSpace} }

// WriteFileAtomic writes a file so that it is there whole or not at all, even if power fails: into a temporary sibling,
// to the disk, then renamed over path, and the directory to the disk too. The mode is 0644 less the process's mask.
func WriteFileAtomic(path string, data []byte) error {
	f, err := CreateTemp(path)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return FinishTemp(f, path, err)
}

// TempName returns the name of the temporary sibling of a file.
func TempName(path string) string { return path + ".partial" }

// CreateTemp creates the temporary sibling of a file that [FinishTemp] puts in place, and truncates what an earlier
// process left there.
func CreateTemp(path string) (*os.File, error) {
	f, err := os.OpenFile(TempName(path), os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o644)
	return f, NoSpace(err)
}

// FinishTemp ends what CreateTemp began: with a nil err it flushes the file to the disk, closes it and renames it to
// path; otherwise, or when one of these fails, it removes the file and returns the error.
func FinishTemp(f *os.File, path string, err error) error {
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		os.Remove(f.Name())
		return NoSpace(err)
	}
	return SyncDir(filepath.Dir(path))
}

// SyncDir flushes a directory to the disk, so that the names created in it outlive a power failure. File systems that
// cannot do this are taken to do it by themselves.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	err = d.Sync()
	if errors.Is(err, syscall.EINVAL) || errors.Is(err, syscall.ENOTSUP) || errors.Is(err, fs.ErrPermission) {
		err = nil
	}
	if cerr := d.Close(); err == nil {
		err = cerr
	}
	return NoSpace(err)
}
