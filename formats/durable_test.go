package formats

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

func TestWriteFileAtomic(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "x.json")
	for _, text := range []string{"first", "", "a longer third one"} {
		if err := WriteFileAtomic(path, []byte(text)); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(path); err != nil || string(got) != text {
			t.Errorf("read %q, %v", got, err)
		}
	}
	entries, _ := os.ReadDir(dir)
	if len(entries) != 1 {
		t.Errorf("%d files in the directory", len(entries))
	}
	if err := WriteFileAtomic(filepath.Join(dir, "none", "x"), nil); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}

func TestFailedWriteLeavesTheOldFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "x")
	if err := WriteFileAtomic(path, []byte("old")); err != nil {
		t.Fatal(err)
	}
	f, err := CreateTemp(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := FinishTemp(f, path, errBroken); !errors.Is(err, errBroken) {
		t.Error(err)
	}
	f, _ = CreateTemp(path)
	f.Close() // so that Sync fails
	if err := FinishTemp(f, path, nil); err == nil {
		t.Error("error of the file lost")
	}
	if got, _ := os.ReadFile(path); string(got) != "old" {
		t.Errorf("file holds %q", got)
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 1 {
		t.Errorf("%d files in the directory", len(entries))
	}
	// A directory in the file's place makes the rename fail.
	if err := os.MkdirAll(filepath.Join(dir, "d", "sub"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := WriteFileAtomic(filepath.Join(dir, "d"), []byte("x")); err == nil {
		t.Error("directory overwritten")
	}
	if _, err := os.Stat(filepath.Join(dir, "d.partial")); !errors.Is(err, os.ErrNotExist) {
		t.Error("temporary file left")
	}
}

func TestNoSpace(t *testing.T) {
	if NoSpace(nil) != nil || NoSpace(errBroken) != errBroken {
		t.Error("other errors are changed")
	}
	full := &os.PathError{Op: "write", Path: "x", Err: syscall.ENOSPC}
	err := NoSpace(full)
	if !errors.Is(err, ErrNoSpace) || !errors.Is(err, syscall.ENOSPC) || err.Error() != full.Error() {
		t.Errorf("error %v", err)
	}
	if NoSpace(err) != err || !errors.Is(NoSpace(fmt.Errorf("x: %w", syscall.EDQUOT)), ErrNoSpace) {
		t.Error("wrapping")
	}
}

func TestCheckSpace(t *testing.T) {
	dir := t.TempDir()
	for _, n := range []int64{0, 1, 4096} {
		if err := CheckSpace(dir, n); err != nil {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
}
