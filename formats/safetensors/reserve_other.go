//go:build !linux

package safetensors

import (
	"os"

	"modelpress/formats"
)

// reserve gives a new file its size. The file may be sparse, so space can still run out while it is written.
func reserve(f *os.File, size int64) error { return formats.NoSpace(f.Truncate(size)) }
