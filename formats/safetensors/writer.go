package safetensors

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"unicode/utf8"

	"modelpress/formats"
)

// ErrForeign is the cause when a file in the place of a shard is not the one that the layout describes.
var ErrForeign = errors.New("the file that exists is not the one to be written")

// Writer writes the shard files of a layout. WriteAt may be called from several goroutines.
type Writer struct {
	dir    string
	shards []*shardFile
	place  map[string]target
	fresh  []bool
}

type shardFile struct {
	f     *os.File
	start int64 // offset of the data section
}

type target struct {
	shard      *shardFile
	begin, end int64
	name       string // of the shard
}

// Create makes the shard files of a layout in a directory, each at its full size with its header, and takes over those
// that an earlier Create made with the same layout and metadata, whatever of their data has been written since. A
// shard's name appears only once its space is reserved and its header is on the disk.
//
// It fails with [formats.ErrNoSpace] before any data is written if the file system has no room for all of it, and with
// [ErrForeign] if there is a file in a shard's place that it would not have made; files that this call created are
// removed then.
func Create(dir string, l Layout, metadata map[string]string) (*Writer, error) {
	for k, v := range metadata {
		if !utf8.ValidString(k) || !utf8.ValidString(v) {
			return nil, fmt.Errorf("create %s: metadata %q is not valid UTF-8", filepath.Base(dir), k)
		}
	}
	if err := checkSpace(dir, l, metadata); err != nil {
		return nil, fmt.Errorf("create %s: %w", filepath.Base(dir), err)
	}
	w := &Writer{dir: dir, place: map[string]target{}}
	for i := range l.Shards {
		s := &l.Shards[i]
		file, fresh, err := createShard(filepath.Join(dir, s.Name), s, s.Header(metadata))
		if err != nil {
			w.discard(l)
			return nil, fmt.Errorf("create %s: %w", s.Name, err)
		}
		w.shards = append(w.shards, file)
		w.fresh = append(w.fresh, fresh)
		for _, t := range s.Tensors {
			w.place[t.Name] = target{shard: file, begin: t.Begin, end: t.End, name: s.Name}
		}
	}
	if err := formats.SyncDir(dir); err != nil {
		w.discard(l)
		return nil, err
	}
	return w, nil
}

// checkSpace compares the size of the shards that are still to be made with the free space. Reserving finds out, too, but
// fills the disk on the way.
func checkSpace(dir string, l Layout, metadata map[string]string) error {
	need := int64(0)
	for i, size := range l.FileSizes(metadata) {
		if _, err := os.Lstat(filepath.Join(dir, l.Shards[i].Name)); errors.Is(err, fs.ErrNotExist) {
			need += size // bounded by PlanLayout
		}
	}
	return formats.CheckSpace(dir, need)
}

// discard closes what Create opened and removes what it made.
func (w *Writer) discard(l Layout) {
	for i, s := range w.shards {
		s.f.Close()
		if w.fresh[i] {
			os.Remove(filepath.Join(w.dir, l.Shards[i].Name))
		}
	}
}

// createShard returns the file of a shard and whether it is new.
func createShard(path string, s *Shard, header []byte) (*shardFile, bool, error) {
	if len(header)-8 > MaxHeaderBytes {
		return nil, false, fmt.Errorf("header of %d bytes is over the limit of %d", len(header)-8, MaxHeaderBytes)
	}
	start := int64(len(header))
	f, err := reopen(path, header, start+s.DataBytes())
	if !errors.Is(err, fs.ErrNotExist) {
		return &shardFile{f, start}, false, err
	}
	f, err = formats.CreateTemp(path)
	if err != nil {
		return nil, false, err
	}
	err = formats.Reserve(f, start+s.DataBytes())
	if err == nil {
		_, err = f.WriteAt(header, 0)
	}
	if err := formats.FinishTemp(f, path, err); err != nil {
		return nil, false, err
	}
	f, err = os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		os.Remove(path)
	}
	return &shardFile{f, start}, true, err
}

// reopen opens a shard that exists, for more writing, if it is the one wanted.
func reopen(path string, header []byte, size int64) (*os.File, error) {
	info, err := os.Lstat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() != size {
		return nil, ErrForeign
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	have := make([]byte, len(header))
	if _, err := f.ReadAt(have, 0); err != nil || !slices.Equal(have, header) {
		f.Close()
		return nil, errors.Join(ErrForeign, err)
	}
	return f, nil
}

// Fresh reports whether Create made every shard anew: nothing of an earlier run is in them.
func (w *Writer) Fresh() bool { return !slices.Contains(w.fresh, false) }

// Shard returns the name of the file that a tensor goes to, "" for one that is not in the layout.
func (w *Writer) Shard(tensor string) string { return w.place[tensor].name }

// WriteAt writes bytes of a tensor from byte offset off on, in any order.
func (w *Writer) WriteAt(tensor string, p []byte, off int64) error {
	t, ok := w.place[tensor]
	if !ok {
		return fmt.Errorf("write tensor %q: not in the layout", tensor)
	}
	if size := t.end - t.begin; off < 0 || off > size || int64(len(p)) > size-off {
		return fmt.Errorf("write tensor %q: bytes [%d, %d+%d) of %d", tensor, off, off, len(p), size)
	}
	if _, err := t.shard.f.WriteAt(p, t.shard.start+t.begin+off); err != nil {
		return fmt.Errorf("write tensor %q: %w", tensor, formats.NoSpace(err))
	}
	return nil
}

// ReadAt reads back bytes of a tensor: for checks of what was written, by this process or an earlier one.
func (w *Writer) ReadAt(tensor string, p []byte, off int64) error {
	t, ok := w.place[tensor]
	if !ok {
		return fmt.Errorf("read tensor %q: not in the layout", tensor)
	}
	if size := t.end - t.begin; off < 0 || off > size || int64(len(p)) > size-off {
		return fmt.Errorf("read tensor %q: bytes [%d, %d+%d) of %d", tensor, off, off, len(p), size)
	}
	if _, err := t.shard.f.ReadAt(p, t.shard.start+t.begin+off); err != nil {
		return fmt.Errorf("read tensor %q: %w", tensor, err)
	}
	return nil
}

// Sync flushes everything written so far to the disk.
func (w *Writer) Sync() error {
	var errs []error
	for _, s := range w.shards {
		errs = append(errs, formats.NoSpace(s.f.Sync()))
	}
	return errors.Join(errs...)
}

// Close closes the files without flushing them to the disk: call Sync first. Closing twice is an error.
func (w *Writer) Close() error {
	var errs []error
	for _, s := range w.shards {
		errs = append(errs, formats.NoSpace(s.f.Close()))
	}
	return errors.Join(errs...)
}
