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

// Open opens the device; of several the choice is an error. An error says what is missing on this machine or in this build.
func (c Choice) Open(o Options) (device.Device, error) {
	list, err := c.OpenAll(o)
	if err == nil && len(list) > 1 {
		closeAll(list)
		err = fmt.Errorf("%d GPUs where one is used", len(list))
	}
	if err != nil {
		return nil, err
	}
	return list[0], nil
}

// OpenAll opens every device of the choice, at least one, all of one class.
func (c Choice) OpenAll(o Options) ([]device.Device, error) {
	switch {
	case c.CUDA:
		return openCUDA(c, o)
	case o.BF16:
		return []device.Device{cpu.NewBF16(o.Threads)}, nil
	}
	return []device.Device{cpu.New(o.Threads)}, nil
}

// closeAll gives devices back that can be.
func closeAll(list []device.Device) {
	for _, d := range list {
		if c, ok := d.(interface{ Close() error }); ok {
			c.Close()
		}
	}
}

// Several returns how many devices share the windows of a run whose plan has a device class: its suffix -xN, 1 without one.
func Several(class string) int {
	at := strings.LastIndex(class, "-x")
	if at < 0 {
		return 1
	}
	n, err := strconv.Atoi(class[at+2:])
	if err != nil || n < 2 || n > 256 {
		return 1
	}
	return n
}

// CUDAClass reports whether a device class is that of GPUs, and whether it computes in bfloat16.
func CUDAClass(class string) (bf16, ok bool) {
	rest, ok := strings.CutPrefix(class, "cuda-")
	return strings.HasPrefix(rest, "bf16"), ok
}
