//go:build !linux

package formats

import "os"

// Reserve gives a new file its size. The file may be sparse, so space can still run out while it is written.
func Reserve(f *os.File, size int64) error { return NoSpace(f.Truncate(size)) }
