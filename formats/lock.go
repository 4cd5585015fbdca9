package formats

import (
	"errors"
	"os"
)

// ErrLocked is the cause where another process, or another part of this one, works on a file.
var ErrLocked = errors.New("another process is writing it")

// Lock locks a file that is there until the one returned is closed, or the process ends. Others may read and remove it; Lock fails for them, with
// [ErrLocked] as the cause. Systems without such locks refuse nobody.
func Lock(path string) (*os.File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	if err := tryLock(f); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}
