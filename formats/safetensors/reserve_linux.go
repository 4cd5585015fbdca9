package safetensors

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"

	"modelpress/formats"
)

// reserve gives a new file its size, with blocks behind it where the file system can do that and sparse where it cannot.
func reserve(f *os.File, size int64) error {
	for {
		err := unix.Fallocate(int(f.Fd()), 0, 0, size)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.ENOSYS):
			return f.Truncate(size)
		}
		return formats.NoSpace(err)
	}
}
