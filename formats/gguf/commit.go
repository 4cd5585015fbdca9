package gguf

import (
	"errors"
	"os"
	"path/filepath"

	"modelpress/formats"
)

var errDone = errors.New("the writer was committed or aborted before")

// Commit flushes all files to the disk and gives them their names, the first file last, so that a model whose first file is there is
// whole; then it flushes the directory. It fails, and leaves nothing, if fewer bytes of a tensor were written than it has, if a file has
// appeared in the place of one of these, or if another process has replaced a temporary file. A process that dies between two names leaves later
// files without a first; Create then names them as existing.
func (w *Writer) Commit() error {
	if w.done {
		return w.wrap("commit", errDone)
	}
	err := w.finish()
	if err == nil {
		err = w.rename()
	}
	if err != nil {
		w.Abort()
		return w.wrap("commit", err)
	}
	w.done = true
	w.unlock()
	if err := formats.SyncDir(filepath.Dir(w.path)); err != nil {
		return w.wrap("commit", err)
	}
	return nil
}

// finish checks that everything was written and brings it to the disk.
func (w *Writer) finish() error {
	for _, o := range w.files {
		if err := o.ready(); err != nil {
			return err
		}
	}
	if err := w.complete(); err != nil {
		return err
	}
	for _, o := range w.files {
		if err := o.f.Sync(); err != nil {
			return formats.NoSpace(err)
		}
	}
	for _, o := range w.files {
		if err := o.f.Close(); err != nil {
			return formats.NoSpace(err)
		}
	}
	return nil
}

// complete names a tensor that lacks bytes. Bytes that were written twice count twice, so that it finds what was forgotten and does not
// prove that nothing was.
func (w *Writer) complete() error {
	worst, n := "", 0
	for name, t := range w.place {
		if t.written.Load() < t.size {
			if n++; worst == "" || name < worst {
				worst = name
			}
		}
	}
	if n == 0 {
		return nil
	}
	t := w.place[worst]
	return formats.Errorf(filepath.Base(t.file.path), worst, "%d of %d bytes were written (%d tensors lack some)", t.written.Load(), t.size, n)
}

// ready checks that the name of the temporary file still leads to it and that its own is free.
func (o *output) ready() error {
	now, err := os.Lstat(formats.TempName(o.path))
	if err != nil {
		return err
	}
	if !os.SameFile(o.info, now) {
		return formats.Errorf(filepath.Base(formats.TempName(o.path)), "", "another process has replaced the file")
	}
	return absent(o.path)
}

// rename gives the files their names, from the last to the first. If one cannot have its name, those that have theirs are removed.
func (w *Writer) rename() error {
	for i := len(w.files) - 1; i >= 0; i-- {
		o := w.files[i]
		if err := os.Rename(formats.TempName(o.path), o.path); err != nil {
			for _, done := range w.files[i+1:] {
				os.Remove(done.path)
			}
			return formats.NoSpace(err)
		}
	}
	return nil
}

// Abort closes and removes the temporary files. After Commit or Abort it does nothing.
func (w *Writer) Abort() {
	if w.done {
		return
	}
	w.done = true
	for _, o := range w.files {
		o.f.Close()
		// A file that another process has put there is not ours to remove.
		if now, err := os.Lstat(formats.TempName(o.path)); err == nil && os.SameFile(o.info, now) {
			os.Remove(formats.TempName(o.path))
		}
	}
	w.unlock()
}

// unlock lets others write under the temporary names.
func (w *Writer) unlock() {
	for _, o := range w.files {
		if o.lock != nil {
			o.lock.Close()
			o.lock = nil
		}
	}
}
