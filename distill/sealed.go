package distill

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"modelpress/formats"
)

// A sealed file ends with the SHA-256 of all that stands before it.
const sealBytes = sha256.Size

// fileBuffer is how much of a sealed file is read or written at once.
const fileBuffer = 1 << 20

// sealWriter writes a sealed file: into a temporary sibling, which takes the file's name once it is whole and on the disk.
type sealWriter struct {
	f    *os.File
	path string
	buf  *bufio.Writer
	sum  hash.Hash
}

func createSealed(path string) (*sealWriter, error) {
	f, err := formats.CreateTemp(path)
	if err != nil {
		return nil, err
	}
	w := &sealWriter{f: f, path: path, sum: sha256.New()}
	w.buf = bufio.NewWriterSize(io.MultiWriter(f, w.sum), fileBuffer)
	return w, nil
}

// Write implements io.Writer.
func (w *sealWriter) Write(p []byte) (int, error) { return w.buf.Write(p) }

// finish puts the file in its place; after an error, its own or the one given, no file is left.
func (w *sealWriter) finish(err error) error {
	if err == nil {
		err = w.buf.Flush()
	}
	if err == nil {
		_, err = w.f.Write(w.sum.Sum(nil))
	}
	return formats.FinishTemp(w.f, w.path, err)
}

// sealedFile is an open sealed file.
type sealedFile struct {
	f    *os.File
	name string // for errors
	size int64  // without the seal
}

// openSealed opens a file without looking at what it holds. Anything but a regular file is refused, and waited for by nobody.
func openSealed(path string) (*sealedFile, error) {
	name := filepath.Base(path)
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, formats.Errorf(name, "", "%w", plain(err))
	}
	info, err := f.Stat()
	switch {
	case err != nil:
		err = plain(err)
	case !info.Mode().IsRegular():
		err = errors.New("not a regular file")
	case info.Size() < sealBytes:
		err = fmt.Errorf("%d bytes are too few", info.Size())
	}
	if err != nil {
		f.Close()
		return nil, formats.Errorf(name, "", "%w", err)
	}
	return &sealedFile{f, name, info.Size() - sealBytes}, nil
}

// read fills p with the bytes from off on, all of them or none.
func (s *sealedFile) read(p []byte, off int64) error {
	if _, err := s.f.ReadAt(p, off); err != nil {
		return formats.Errorf(s.name, "", "read at byte %d: %w", off, plain(err))
	}
	return nil
}

// verify reads the whole file and compares it with its seal.
func (s *sealedFile) verify() error {
	sum := sha256.New()
	r := io.NewSectionReader(s.f, 0, s.size)
	if _, err := io.CopyBuffer(sum, r, make([]byte, min(fileBuffer, s.size+1))); err != nil {
		return formats.Errorf(s.name, "", "%w", plain(err))
	}
	var seal [sealBytes]byte
	if err := s.read(seal[:], s.size); err != nil {
		return err
	}
	if !bytes.Equal(seal[:], sum.Sum(nil)) {
		return formats.Errorf(s.name, "", "the content does not match its digest: the file is damaged")
	}
	return nil
}

// plain drops the path from an error of the os package: formats.Error names the file.
func plain(err error) error {
	var e *fs.PathError
	if errors.As(err, &e) {
		return e.Err
	}
	return err
}
