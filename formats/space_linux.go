package formats

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// CheckSpace fails with [ErrNoSpace] if the file system of a directory has fewer than need bytes free for this user. On
// systems where that cannot be asked it does nothing.
func CheckSpace(dir string, need int64) error {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return fmt.Errorf("free space: %w", err)
	}
	// Divided, not multiplied, since the product can overflow on file systems that report no real limit.
	if block := int64(st.Bsize); need > 0 && uint64((need-1)/block+1) > st.Bavail {
		return fmt.Errorf("%w: %d bytes are needed, %d are free", ErrNoSpace, need, st.Bavail*uint64(block))
	}
	return nil
}
