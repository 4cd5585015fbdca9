package safetensors

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"modelpress/formats"
)

// reserve gives a new file its size, with blocks behind it where the file system can do that. Where it cannot, the free
// space is compared and the file is left sparse.
func reserve(f *os.File, size int64) error {
	var err error
	for {
		if err = unix.Fallocate(int(f.Fd()), 0, 0, size); !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOSYS) {
		return reserveSparse(f, size)
	}
	// A size over what the file system can give to one file is a want of space, too.
	if errors.Is(err, unix.EFBIG) {
		return errors.Join(formats.ErrNoSpace, err)
	}
	return formats.NoSpace(err)
}

func reserveSparse(f *os.File, size int64) error {
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(f.Fd()), &st); err != nil {
		return err
	}
	if free := st.Bavail * uint64(st.Bsize); uint64(size) > free {
		return fmt.Errorf("%w: %d bytes are needed, %d are free", formats.ErrNoSpace, size, free)
	}
	return f.Truncate(size)
}
