//go:build cuda

package choose

import (
	"errors"
	"strings"

	"modelpress/internal/device"
	"modelpress/internal/device/cuda"
)

// Hint says what to do where no GPU could be opened.
const Hint = "compress version says what was found (docs/GPU.md); on a machine without a GPU leave out --device"

func openCUDA(c Choice, o Options) (device.Device, error) {
	if c.All || len(c.Ordinals) > 1 {
		return nil, errors.New("several GPUs at once")
	}
	ordinal := 0
	if len(c.Ordinals) == 1 {
		ordinal = c.Ordinals[0]
	}
	return cuda.Open(cuda.Options{Ordinal: ordinal, BF16: o.BF16, MaxMemory: o.MaxMemory, Threads: o.Threads})
}

// Report says in a line what the program found of GPUs.
func Report() string { return strings.TrimPrefix(cuda.Probe().String(), "cuda: ") }
