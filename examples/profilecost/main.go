// Command profilecost measures what each method of package heads costs: wall time, processor time and the largest resident
// set of one profile of one window, beside a plain forward pass of the same tokens.
//
//	go run ./examples/randommodel -shape llama-135m -context 16384 -o DIR
//	go run ./examples/profilecost -model DIR -lengths 2048,4096,8192 -threads 2
//	go run -tags cuda ./examples/profilecost -device cuda -precision bf16 -model DIR -lengths 32768,131072
//
// The window is random token ids, which cost what text does. Every method runs in a process of its own, so that its memory
// is its own. Methods that count only prompts that the model answers get as the right answer what the model itself says, which
// is found out beforehand ("answers"): their figures are of the same work, and their scores mean nothing. Times of Duo are
// of a few gradient steps; what all steps would take is reckoned from these and marked with "~".
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"modelpress/internal/device"
	"modelpress/internal/device/choose"
	"modelpress/internal/ui"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "profilecost:", err)
		os.Exit(1)
	}
}

// settings are the options, for the parent and for the process of one method.
type settings struct {
	model, method, prompts, profile string
	device, precision, deviceMemory string
	methods                         []string
	lengths                         []int
	length, threads, answer         int
	steps, all                      int
	states                          int64
}

func parse(args []string) (*settings, error) {
	s := &settings{}
	f := flag.NewFlagSet("profilecost", flag.ContinueOnError)
	f.StringVar(&s.method, "method", "", "measure this one method in this process and write the result as JSON")
	f.StringVar(&s.prompts, "prompts", "", "with -method: JSON file of the prompt")
	f.StringVar(&s.profile, "cpuprofile", "", "with -method: file for a profile of the processor time")
	f.IntVar(&s.length, "length", 0, "with -method: tokens of the window")
	f.StringVar(&s.model, "model", "", "directory of the checkpoint")
	f.IntVar(&s.threads, "threads", runtime.NumCPU(), "threads")
	f.IntVar(&s.answer, "answer", 4, "tokens of the answer, and of the needle")
	f.IntVar(&s.steps, "steps", 3, "gradient steps of duo that are measured, of which the first does not count")
	f.IntVar(&s.all, "all-steps", 2000, "gradient steps that the time of duo is reckoned for")
	f.StringVar(&s.device, "device", "cpu", "where to compute: "+choose.Known)
	f.StringVar(&s.precision, "precision", "f32", "f32 or bf16")
	f.StringVar(&s.deviceMemory, "max-device-memory", "", "memory of the GPU to stay within, such as 40GiB")
	lengths := f.String("lengths", "8192", "tokens of the window, one table each")
	methods := f.String("methods", strings.Join(methodNames(), ","), "methods to measure")
	states := f.String("states", "", "hidden states kept in memory, such as 64MiB, the rest on disk (empty: all in memory)")
	if err := f.Parse(args); err != nil {
		return nil, err
	}
	if s.model == "" {
		return nil, errors.New("-model is needed")
	}
	s.methods = strings.Split(*methods, ",")
	for _, name := range s.methods {
		if !slices.Contains(methodNames(), name) {
			return nil, fmt.Errorf("method %q is none of %s", name, strings.Join(methodNames(), ", "))
		}
	}
	for _, word := range strings.Split(*lengths, ",") {
		n, err := strconv.Atoi(word)
		if err != nil || n < least {
			return nil, fmt.Errorf("length %q is no number from %d on", word, least)
		}
		s.lengths = append(s.lengths, n)
	}
	if *states != "" {
		var err error
		if s.states, err = ui.ParseBytes(*states); err != nil {
			return nil, err
		}
	}
	if s.answer < 1 || s.answer > least/8 || s.steps < 2 || s.all < s.steps || s.threads < 1 {
		return nil, errors.New("a number of tokens, steps or threads is out of range")
	}
	return s, nil
}

// open opens the device that is measured.
func (s *settings) open() (device.Device, error) {
	c, err := choose.Parse(s.device)
	if err != nil {
		return nil, fmt.Errorf("-device %w", err)
	}
	if s.precision != "f32" && s.precision != "bf16" {
		return nil, fmt.Errorf("-precision %q: known are f32 and bf16", s.precision)
	}
	o := choose.Options{Threads: s.threads, BF16: s.precision == "bf16"}
	if s.deviceMemory != "" {
		if o.MaxMemory, err = ui.ParseBytes(s.deviceMemory); err != nil {
			return nil, fmt.Errorf("-max-device-memory: %w", err)
		}
	}
	return c.Open(o)
}

func run(ctx context.Context, args []string, out io.Writer) error {
	s, err := parse(args)
	if err != nil {
		return err
	}
	if s.method != "" {
		return s.child(ctx, out)
	}
	return s.tables(ctx, out)
}
