package main

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"modelpress/internal/device/cpu"
	"modelpress/internal/pipeline"
	"modelpress/internal/ui"
)

// deviceFlags are --device and --max-device-memory, of the commands that compute.
type deviceFlags struct {
	name, maxMemory string

	cuda     bool
	ordinals []int // of GPUs; empty for the first one
	budget   int64 // bytes of maxMemory, 0 for none
}

func (d *deviceFlags) add(f *pflag.FlagSet) {
	f.StringVar(&d.name, "device", "", "where to compute: cpu, cuda (the first GPU), cuda:1, cuda:0,1 or cuda:all; apply takes the plan's unless told")
	f.StringVar(&d.maxMemory, "max-device-memory", "", "memory of each GPU to stay within, such as 40GiB. Results do not depend on it")
}

// allDevices stands for every GPU of the machine.
const allDevices = -1

func (d *deviceFlags) parse() error {
	if d.maxMemory != "" {
		n, err := ui.ParseBytes(d.maxMemory)
		if err != nil {
			return usageError{fmt.Errorf("--max-device-memory: %w", err)}
		}
		d.budget = n
	}
	kind, which, numbered := strings.Cut(d.name, ":")
	switch {
	case d.name == "" || d.name == "cpu":
		return nil
	case kind != "cuda" || numbered && which == "":
		return usageError{fmt.Errorf("--device %q: known are cpu, cuda, cuda:N, cuda:N,M and cuda:all", d.name)}
	}
	d.cuda = true
	if which == "all" {
		d.ordinals = []int{allDevices}
		return nil
	}
	for _, part := range strings.Split(which, ",") {
		if !numbered {
			break
		}
		n, err := strconv.Atoi(part)
		if err != nil || n < 0 || n > 255 || slices.Contains(d.ordinals, n) {
			return usageError{fmt.Errorf("--device %q: %q is no number of another GPU, which count from 0", d.name, part)}
		}
		d.ordinals = append(d.ordinals, n)
	}
	return nil
}

// The arithmetic of matrix products. bf16 rounds both operands to bfloat16 and sums in f32; its results are of a device
// class of their own, which plans record.
const (
	precisionF32  = "f32"
	precisionBF16 = "bf16"
	precisionAMX  = "bf16-amx" // on the tiles of AMX, whose sums have an order of their own
)

// precisionFlag adds --precision and the flags of the device to a command that may choose.
func (a *app) precisionFlag(c *cobra.Command, p *string) {
	a.device.add(c.Flags())
	c.Flags().StringVar(p, "precision", precisionF32, "arithmetic of matrix products, and on a GPU of attention: f32, bf16 or bf16-amx (faster; other bits, recorded in the plan)")
}

// usePrecision makes the device of --device that computes in the given precision.
func (a *app) usePrecision(p string) error {
	switch p {
	case precisionF32, precisionBF16, precisionAMX:
	default:
		return usageError{fmt.Errorf("--precision %q: known are f32, bf16, bf16-amx", p)}
	}
	if err := a.device.parse(); err != nil {
		return err
	}
	switch {
	case a.device.cuda && p == precisionAMX:
		return usageError{errors.New("--precision bf16-amx is of the CPU; on a GPU use bf16")}
	case a.device.cuda:
		return a.useCUDA(p == precisionBF16)
	case p == precisionBF16:
		a.dev = cpu.NewBF16(a.threads)
	case p == precisionAMX:
		dev, err := cpu.NewBF16AMX(a.threads)
		if err != nil {
			return &pipeline.Error{Kind: pipeline.KindResource, Err: err, Hint: "use --precision bf16"}
		}
		a.dev = dev
	}
	return nil
}

// useCUDA opens the GPUs that were asked for.
func (a *app) useCUDA(bf16 bool) error {
	dev, err := openCUDA(a.device, a.threads, bf16)
	if err != nil {
		return &pipeline.Error{Kind: pipeline.KindResource, Err: err, Hint: hintCUDA}
	}
	a.dev = dev
	return nil
}

// usePlanned makes the device of the class that a plan was made on, as far as this machine has it; apply refuses another.
func (a *app) usePlanned(class string) error {
	if err := a.device.parse(); err != nil {
		return err
	}
	if bf16, ok := cudaClass(class); ok && (a.device.cuda || a.device.name == "") {
		return a.useCUDA(bf16)
	}
	if a.device.cuda {
		return &pipeline.Error{Kind: pipeline.KindStale, Err: fmt.Errorf("the plan was made on %s, not on a GPU", class), Hint: "leave out --device, or plan again with it"}
	}
	if bf16 := cpu.NewBF16(a.threads); class == bf16.Class() {
		a.dev = bf16
		return nil
	}
	if strings.HasPrefix(class, "cpu-bf16amx") {
		if amx, err := cpu.NewBF16AMX(a.threads); err == nil {
			a.dev = amx
		}
	}
	return nil
}

// cudaClass reports whether a class is that of a GPU, and whether it multiplies in bfloat16.
func cudaClass(class string) (bf16, ok bool) {
	rest, ok := strings.CutPrefix(class, "cuda-")
	return strings.HasPrefix(rest, "bf16"), ok
}
