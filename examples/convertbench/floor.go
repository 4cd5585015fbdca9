package main

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"
)

// piece is how much the floor reads, and at most writes, at a time.
const piece = 4 << 20

// weights returns the .safetensors files of a checkpoint in order, and their bytes in all.
func weights(dir string) (files []string, total int64, err error) {
	if files, err = filepath.Glob(filepath.Join(dir, "*.safetensors")); err != nil {
		return nil, 0, err
	}
	if len(files) == 0 {
		return nil, 0, fmt.Errorf("%s has no .safetensors file", dir)
	}
	slices.Sort(files)
	for _, name := range files {
		info, err := os.Stat(name)
		if err != nil {
			return nil, 0, err
		}
		total += info.Size()
	}
	return files, total, nil
}

// floor reads and hashes files of total bytes, and writes n bytes in the measure in which it reads. Readers take the files in
// order; each has a piece in memory.
func floor(files []string, total int64, path string, n int64, readers int) error {
	out, err := os.Create(path)
	if err != nil {
		return err
	}
	f := &flow{out: out, total: total, left: n, files: files}
	if err := f.run(readers); err != nil {
		out.Close()
		return err
	}
	return errors.Join(out.Sync(), out.Close())
}

// flow is what the readers share.
type flow struct {
	out         *os.File
	total, left int64 // bytes to read in all, and to write yet

	mu       sync.Mutex
	files    []string // that nobody has taken
	read, at int64    // bytes read, and where the next write goes
}

func (f *flow) run(readers int) error {
	errs := make(chan error, readers)
	for range readers {
		go func() { errs <- f.reader() }()
	}
	var all []error
	for range readers {
		all = append(all, <-errs)
	}
	return errors.Join(all...)
}

// next returns the next file, "" where there is none.
func (f *flow) next() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.files) == 0 {
		return ""
	}
	name := f.files[0]
	f.files = f.files[1:]
	return name
}

func (f *flow) reader() error {
	buf, sum := make([]byte, piece), sha256.New()
	for name := f.next(); name != ""; name = f.next() {
		if err := f.file(name, buf, sum); err != nil {
			return err
		}
	}
	return nil
}

func (f *flow) file(name string, buf []byte, sum hash.Hash) error {
	in, err := os.Open(name)
	if err != nil {
		return err
	}
	defer in.Close()
	sum.Reset()
	for {
		n, err := in.Read(buf)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		sum.Write(buf[:n])
		if err := f.pass(buf[:n]); err != nil {
			return err
		}
	}
}

// pass writes what is due now that so much has been read, out of what was read, over and over if need be.
func (f *flow) pass(data []byte) error {
	at, n := f.due(int64(len(data)))
	for n > 0 {
		m := min(n, int64(len(data)))
		if _, err := f.out.WriteAt(data[:m], at); err != nil {
			return err
		}
		at, n = at+m, n-m
	}
	return nil
}

// due returns where to write how much, once n more bytes are read.
func (f *flow) due(n int64) (at, count int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	unread := f.total - f.read
	f.read += n
	count = f.left
	if n < unread { // the last piece takes all that is left
		count = int64(float64(f.left) * float64(n) / float64(unread))
	}
	at = f.at
	f.at, f.left = f.at+count, f.left-count
	return at, count
}
