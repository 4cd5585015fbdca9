//go:build unix

package safetensors

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestOpenDoesNotWait(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pipe.safetensors")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{path, os.DevNull} {
		done := make(chan error, 1)
		go func() {
			_, err := Open(p)
			done <- err
		}()
		select {
		case err := <-done:
			if err == nil || !strings.Contains(err.Error(), "not a regular file") {
				t.Errorf("%s: %v", filepath.Base(p), err)
			}
		case <-time.After(5 * time.Second):
			t.Errorf("%s: Open waits", filepath.Base(p))
		}
	}
}
