package imatrix

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"modelpress/formats"
)

// magic begins a GGUF file. As the number of entries of the older form it would be more than any file has.
const magic = "GGUF"

// Read reads a file of either form. Errors about the content are of type [*formats.Error] and name the file by its base name, and the tensor
// where one is to blame. Anything but a regular file, or a link to one, is refused.
//
// Memory: the sums, which are in the file and at most MaxBytes, 128 KiB, 500 bytes for each entry, and for the GGUF form what gguf.Open takes.
func Read(path string) (*Matrix, error) {
	name := filepath.Base(path)
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, formats.Errorf(name, "", "%w", underlying(err))
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, formats.Errorf(name, "", "%w", underlying(err))
	}
	if !info.Mode().IsRegular() {
		return nil, formats.Errorf(name, "", "not a regular file")
	}
	var m *Matrix
	var start [len(magic)]byte
	if n, _ := f.ReadAt(start[:], 0); string(start[:n]) == magic {
		m, err = readGGUF(path)
	} else {
		m, err = parseLegacy(io.NewSectionReader(f, 0, info.Size()), name, info.Size())
	}
	if err == nil {
		err = m.Check()
	}
	if err != nil {
		return nil, err
	}
	return m, nil
}

// underlying drops the path from an error of the operating system.
func underlying(err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}
