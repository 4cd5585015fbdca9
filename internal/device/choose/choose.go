// Package choose opens the device that a user names. It is where the build tag cuda decides what a program knows of GPUs.
package choose

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"modelpress/internal/device"
	"modelpress/internal/device/cpu"
)

// Choice is a device that was asked for; the zero value is the CPU.
type Choice struct {
	CUDA     bool
	All      bool  // every GPU of the machine
	Ordinals []int // of GPUs, as the driver counts them from 0; empty for the first one
}

// Known lists what [Parse] reads.
const Known = "cpu, cuda, cuda:N, cuda:N,M and cuda:all"

// Parse reads "cpu", "cuda", "cuda:1", "cuda:0,1" or "cuda:all"; "" is the CPU.
func Parse(name string) (Choice, error) {
	kind, which, numbered := strings.Cut(name, ":")
	switch {
	case name == "" || name == "cpu":
		return Choice{}, nil
	case kind != "cuda" || numbered && which == "":
		return Choice{}, fmt.Errorf("%q: known are %s", name, Known)
	case which == "all":
		return Choice{CUDA: true, All: true}, nil
	}
	c := Choice{CUDA: true}
	for _, part := range strings.Split(which, ",") {
		if !numbered {
			break
		}
		n, err := strconv.Atoi(part)
		if err != nil || n < 0 || n > 255 || slices.Contains(c.Ordinals, n) {
			return Choice{}, fmt.Errorf("%q: %q is no number of another GPU, which count from 0", name, part)
		}
		c.Ordinals = append(c.Ordinals, n)
	}
	return c, nil
}

// Options refine [Choice.Open].
type Options struct {
	Threads   int   // of the host; 0 for all cores
	BF16      bool  // products, and on a GPU attention, take operands rounded to bfloat16
	MaxMemory int64 // bytes of each GPU to stay within; 0 for what is free
}

// Open opens the device. An error says what is missing on this machine or in this build.
func (c Choice) Open(o Options) (device.Device, error) {
	switch {
	case c.CUDA:
		return openCUDA(c, o)
	case o.BF16:
		return cpu.NewBF16(o.Threads), nil
	}
	return cpu.New(o.Threads), nil
}

// CUDAClass reports whether a device class is that of GPUs, and whether it computes in bfloat16.
func CUDAClass(class string) (bf16, ok bool) {
	rest, ok := strings.CutPrefix(class, "cuda-")
	return strings.HasPrefix(rest, "bf16"), ok
}
