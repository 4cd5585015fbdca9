//go:build cuda

package choose

import (
	"fmt"
	"strings"

	"modelpress/internal/device"
	"modelpress/internal/device/cuda"
)

// Hint says what to do where no GPU could be opened.
const Hint = "compress version says what was found (docs/GPU.md); on a machine without a GPU leave out --device"

func openCUDA(c Choice, o Options) (list []device.Device, err error) {
	ordinals := c.Ordinals
	if c.All {
		ordinals = nil
		for i, info := range cuda.Probe().Devices {
			if info.Major >= 8 {
				ordinals = append(ordinals, i)
			}
		}
	}
	if len(ordinals) == 0 {
		ordinals = []int{0}
	}
	defer func() {
		if err != nil {
			closeAll(list)
			list = nil
		}
	}()
	for _, n := range ordinals {
		d, err := cuda.Open(cuda.Options{Ordinal: n, BF16: o.BF16, MaxMemory: o.MaxMemory, Threads: o.Threads})
		if err != nil {
			return list, err
		}
		if list = append(list, d); d.Class() != list[0].Class() {
			return list, fmt.Errorf("GPU %d is of class %s, the first one of %s: they cannot share a run", n, d.Class(), list[0].Class())
		}
	}
	return list, nil
}

// Report says in a line what the program found of GPUs.
func Report() string { return strings.TrimPrefix(cuda.Probe().String(), "cuda: ") }
