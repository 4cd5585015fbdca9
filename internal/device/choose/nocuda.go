//go:build !cuda

package choose

import (
	"errors"

	"modelpress/internal/device"
)

// Hint says what to do where no GPU could be opened.
const Hint = "build the program with go build -tags cuda (docs/GPU.md), or leave out --device"

func openCUDA(Choice, Options) ([]device.Device, error) {
	return nil, errors.New("this program was built without CUDA")
}

// Report says in a line what the program knows of GPUs.
func Report() string { return "not built in (docs/GPU.md)" }
