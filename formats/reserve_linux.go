package formats

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// Reserve gives a new file its size, with blocks behind it where the file system can do that and sparse where it cannot.
func Reserve(f *os.File, size int64) error {
	for {
		err := unix.Fallocate(int(f.Fd()), 0, 0, size)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.ENOSYS):
			return f.Truncate(size)
		}
		return NoSpace(err)
	}
}
