// Command gpubench measures a device against itself: how fast it multiplies matrices, and which share of that attention and
// whole forward passes reach.
//
//	go run ./examples/randommodel -shape llama-3-8b -layers 32 -windows 8 -length 2048 -o DIR
//	go run -tags cuda ./examples/gpubench -device cuda -precision bf16 -model DIR
//
// It works on any device; sizes are for a GPU unless told. Times are the best of the repeats, after one that does not count.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"modelpress/internal/device"
	"modelpress/internal/device/choose"
	"modelpress/internal/ui"
)

func main() {
	if err := run(os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "gpubench:", err)
		os.Exit(1)
	}
}

// settings are the options.
type settings struct {
	model, device, precision string
	only                     []string
	memory                   int64
	threads, repeats         int
	matrix                   int // rows and columns of square products
	windows, length          int
	attention                []int // lengths
	heads, kv, dim           int
}

// parts are the measurements in their order.
var parts = []struct {
	name  string
	model bool // reads the model
	run   func(b *bench) error
}{
	{"matrix", false, (*bench).matrix},
	{"attention", false, (*bench).attention},
	{"forward", true, (*bench).forward},
	{"stream", true, (*bench).stream},
}

func parse(args []string) (*settings, error) {
	s := &settings{}
	f := flag.NewFlagSet("gpubench", flag.ContinueOnError)
	f.StringVar(&s.model, "model", "", "directory of the checkpoint, for forward and stream")
	f.StringVar(&s.device, "device", "cpu", "where to compute: "+choose.Known)
	f.StringVar(&s.precision, "precision", "f32", "f32 or bf16")
	only := f.String("only", "", "measurements, such as matrix,forward (empty: all, those of a model where there is one)")
	memory := f.String("max-device-memory", "", "memory of the GPU to stay within, such as 40GiB")
	f.IntVar(&s.threads, "threads", 0, "threads of the host; 0 for all cores")
	f.IntVar(&s.repeats, "repeats", 3, "repeats that count")
	f.IntVar(&s.matrix, "matrix", 8192, "rows and columns of the matrices")
	f.IntVar(&s.windows, "windows", 128, "windows of a forward pass")
	f.IntVar(&s.length, "length", 2048, "tokens of a window")
	lengths := f.String("lengths", "2048,8192,32768,131072", "tokens of a sequence for attention")
	f.IntVar(&s.heads, "heads", 32, "query heads of attention")
	f.IntVar(&s.kv, "kv", 8, "KV heads of attention")
	f.IntVar(&s.dim, "dim", 128, "head dimension of attention")
	err := f.Parse(args)
	if err != nil {
		return nil, err
	}
	if s.attention, err = numbers(*lengths); err != nil {
		return nil, err
	}
	if *memory != "" {
		if s.memory, err = ui.ParseBytes(*memory); err != nil {
			return nil, fmt.Errorf("-max-device-memory: %w", err)
		}
	}
	for _, p := range parts {
		if *only == "" && (s.model != "" || !p.model) || slices.Contains(strings.Split(*only, ","), p.name) {
			s.only = append(s.only, p.name)
			if p.model && s.model == "" {
				return nil, fmt.Errorf("%s needs -model", p.name)
			}
		}
	}
	if len(s.only) == 0 || *only != "" && len(s.only) != len(strings.Split(*only, ",")) {
		return nil, fmt.Errorf("-only %q: known are matrix, attention, forward, stream", *only)
	}
	if s.precision != "f32" && s.precision != "bf16" || min(s.repeats, s.matrix, s.windows, s.length, s.kv, s.dim) < 1 || s.heads < s.kv || s.heads%s.kv != 0 {
		return nil, errors.New("a precision or a size is out of range")
	}
	return s, nil
}

func numbers(list string) (out []int, err error) {
	for _, word := range strings.Split(list, ",") {
		var n int
		if _, err := fmt.Sscan(word, &n); err != nil || n < 1 {
			return nil, fmt.Errorf("length %q is no number from 1 on", word)
		}
		out = append(out, n)
	}
	return out, nil
}

// bench is one run.
type bench struct {
	*settings
	dev  device.Device
	out  io.Writer
	rate float64 // of matrix products, in operations per second; 0 where it was not measured
}

func run(args []string, out io.Writer) error {
	s, err := parse(args)
	if err != nil {
		return err
	}
	c, err := choose.Parse(s.device)
	if err != nil {
		return err
	}
	dev, err := c.Open(choose.Options{Threads: s.threads, BF16: s.precision == "bf16", MaxMemory: s.memory})
	if err != nil {
		return err
	}
	b := &bench{settings: s, dev: dev, out: out}
	fmt.Fprintf(out, "%s\n", dev.Class())
	for _, p := range parts {
		if !slices.Contains(s.only, p.name) {
			continue
		}
		if err := p.run(b); err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
	}
	return nil
}

// best returns the shortest time of f in seconds, with everything done that it has queued, after one call that does not count.
func (b *bench) best(f func() error) (float64, error) {
	least := 0.0
	for i := range b.repeats + 1 {
		start := time.Now()
		if err := f(); err != nil {
			return 0, err
		}
		if err := b.wait(); err != nil {
			return 0, err
		}
		if t := time.Since(start).Seconds(); i > 0 && (least == 0 || t < least) {
			least = t
		}
	}
	return least, nil
}

// wait returns once the device has done all that was queued.
func (b *bench) wait() error {
	one, err := b.dev.Alloc(device.F32, 1)
	if err != nil {
		return err
	}
	defer one.Free()
	b.dev.Add(one, one, 1)
	b.dev.Download(make([]float32, 1), one, 0)
	return nil
}

// line prints a measurement: operations and seconds.
func (b *bench) line(what string, ops, seconds float64) {
	share := ""
	if b.rate > 0 {
		share = fmt.Sprintf("%6.1f %% of the products' rate", 100*ops/seconds/b.rate)
	}
	fmt.Fprintf(b.out, "%-44s %10.4f s %9.2f TFLOP/s %s\n", what, seconds, ops/seconds/1e12, share)
}
