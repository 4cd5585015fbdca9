//go:build unix

package pipeline

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// lockFile takes an exclusive lock that ends with the process, so that two runs never share a partial output.
func lockFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, fmt.Errorf("pipeline: lock: %w", err)
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return nil, errors.Join(errKind(KindExists, "wait for it, or choose another directory with -o", "another process is writing this output"), f.Close())
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("pipeline: lock: %w", err), f.Close())
	}
	// The directory may have been renamed or removed between opening and locking.
	have, err := f.Stat()
	if err == nil {
		var named os.FileInfo
		if named, err = os.Stat(path); err == nil && os.SameFile(have, named) {
			return f, nil
		}
	}
	return nil, errors.Join(errKind(KindExists, "run the same command again", "another process has just written this output"), f.Close())
}
