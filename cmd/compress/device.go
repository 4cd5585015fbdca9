package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"modelpress/internal/device/choose"
	"modelpress/internal/device/cpu"
	"modelpress/internal/pipeline"
	"modelpress/internal/ui"
)

// deviceFlags are --device and --max-device-memory, of the commands that compute.
type deviceFlags struct {
	name, maxMemory string

	choice choose.Choice
	budget int64 // bytes of maxMemory, 0 for none
}

func (d *deviceFlags) add(f *pflag.FlagSet) {
	f.StringVar(&d.name, "device", "", "where to compute: cpu, cuda (the first GPU), cuda:1, cuda:0,1 or cuda:all; apply takes the plan's unless told")
	f.StringVar(&d.maxMemory, "max-device-memory", "", "memory of each GPU to stay within, such as 40GiB. Results do not depend on it")
}

func (d *deviceFlags) parse() (err error) {
	if d.maxMemory != "" {
		if d.budget, err = ui.ParseBytes(d.maxMemory); err != nil {
			return usageError{fmt.Errorf("--max-device-memory: %w", err)}
		}
	}
	if d.choice, err = choose.Parse(d.name); err != nil {
		return usageError{fmt.Errorf("--device %w", err)}
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
	case a.device.choice.CUDA && p == precisionAMX:
		return usageError{errors.New("--precision bf16-amx is of the CPU; on a GPU use bf16")}
	case a.device.choice.CUDA:
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
	c := a.device.choice
	c.CUDA = true
	list, err := c.OpenAll(choose.Options{Threads: a.threads, BF16: bf16, MaxMemory: a.device.budget})
	if err != nil {
		return &pipeline.Error{Kind: pipeline.KindResource, Err: err, Hint: choose.Hint}
	}
	a.dev, a.more = list[0], list[1:]
	return nil
}

// usePlanned makes the device of the class that a plan was made on, as far as this machine has it; apply refuses another.
func (a *app) usePlanned(class string) error {
	if err := a.device.parse(); err != nil {
		return err
	}
	if bf16, ok := choose.CUDAClass(class); ok && (a.device.choice.CUDA || a.device.name == "") {
		if n := choose.Several(class); n > 1 && a.device.name == "" {
			for i := range n {
				a.device.choice.Ordinals = append(a.device.choice.Ordinals, i)
			}
		}
		return a.useCUDA(bf16)
	}
	if a.device.choice.CUDA {
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
