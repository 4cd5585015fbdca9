//go:build unix

package gguf

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestOpenDoesNotWaitForPipes(t *testing.T) {
	first, second := partName("m", 0, 3), partName("m", 1, 3)
	for _, name := range []string{first, second} {
		dir := t.TempDir()
		writeFiles(t, dir, splitModel(t))
		os.Remove(filepath.Join(dir, name))
		if err := syscall.Mkfifo(filepath.Join(dir, name), 0o600); err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		go func() {
			_, err := Open(filepath.Join(dir, first))
			done <- err
		}()
		select {
		case err := <-done:
			if err == nil || !strings.Contains(err.Error(), name+": not a regular file") {
				t.Errorf("%s: %v", name, err)
			}
		case <-time.After(5 * time.Second):
			t.Errorf("%s: Open waits", name)
		}
	}
}
