//go:build !linux

package formats

// CheckSpace fails with [ErrNoSpace] if the file system of a directory has fewer than need bytes free for this user. On
// systems where that cannot be asked it does nothing.
func CheckSpace(dir string, need int64) error { return nil }
