//go:build cuda

package cuda

import (
	"fmt"

	cu "gorgonia.org/cu"
)

// driverMemory is the driver as the source of slabs.
type driverMemory struct{ d *Device }

func (m *driverMemory) alloc(bytes int64) (ptr, error) {
	p, err := cu.MemAlloc(bytes)
	if err != nil {
		return 0, failed("cuMemAlloc", err, fmt.Sprintf("%d bytes", bytes))
	}
	return ptr(p), nil
}

// free waits for all work before it takes memory away.
func (m *driverMemory) free(p ptr) error {
	if err := cu.Synchronize(); err != nil {
		return failed("cuCtxSynchronize", err, "")
	}
	return failed("cuMemFree", cu.MemFree(cu.DevicePtr(p)), "")
}
