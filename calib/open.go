package calib

import (
	"errors"
	"os"
	"syscall"
)

// openRegular opens a regular file, or a link to one. Anything else is refused without waiting for a writer, as opening
// a named pipe would.
func openRegular(path string) (*os.File, os.FileInfo, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, nil, cause(err)
	}
	fi, err := f.Stat()
	if err == nil && !fi.Mode().IsRegular() {
		err = errors.New("is not a regular file")
	}
	if err != nil {
		f.Close()
		return nil, nil, cause(err)
	}
	return f, fi, nil
}

// cause drops the path from an error of package os, since the caller names the file.
func cause(err error) error {
	var pe *os.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}
