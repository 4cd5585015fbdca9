//go:build !cuda

package main

import (
	"errors"

	"modelpress/internal/device"
)

// hintCUDA says what to do where no GPU could be opened.
const hintCUDA = "build the program with go build -tags cuda (docs/GPU.md), or leave out --device"

func openCUDA(deviceFlags, int, bool) (device.Device, error) {
	return nil, errors.New("this program was built without CUDA")
}

// reportCUDA says what the program knows of GPUs.
func reportCUDA() string { return "not built in (docs/GPU.md)" }
