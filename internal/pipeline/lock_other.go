//go:build !unix

package pipeline

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// lockFile creates the lock's file and fails where it is open elsewhere in a way that the system forbids to share.
func lockFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if errors.Is(err, fs.ErrPermission) {
		return nil, errKind(KindExists, "wait for it, or choose another directory with -o", "another process is writing this output")
	}
	if err != nil {
		return nil, fmt.Errorf("pipeline: lock: %w", err)
	}
	return f, nil
}
