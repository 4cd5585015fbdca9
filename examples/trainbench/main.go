// Command trainbench trains a checkpoint on token ids from the values that it holds, and prints one JSON line for each step and one
// with the speed: the other side of train.py, which does the same with PyTorch.
//
//	go run ./examples/trainbench -model DIR -data ids.safetensors -length 128 -batch 8 -steps 200
//
// The windows of a step are the next ones, from the first again after the last. Nothing is written.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"slices"
	"time"

	"modelpress/calib"
	"modelpress/distill"
	"modelpress/formats/hf"
	"modelpress/internal/arch"
	"modelpress/internal/device/cpu"
	"modelpress/internal/nn"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	s, err := parse(os.Args[1:])
	if err == nil {
		err = s.run(ctx, os.Stdout)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "trainbench:", err)
		os.Exit(1)
	}
}

type settings struct {
	model, data          string
	length, batch, steps int
	threads, warmup      int
	lr                   float64
	keep                 int64
	json, bench          bool
}

func parse(args []string) (settings, error) {
	var s settings
	fs := flag.NewFlagSet("trainbench", flag.ContinueOnError)
	fs.StringVar(&s.model, "model", "", "checkpoint directory, the values to start from")
	fs.StringVar(&s.data, "data", "", ".npy or .safetensors file of token ids")
	fs.IntVar(&s.length, "length", 128, "tokens of a window")
	fs.IntVar(&s.batch, "batch", 8, "windows of a step")
	fs.IntVar(&s.steps, "steps", 200, "number of steps")
	fs.IntVar(&s.threads, "threads", runtime.NumCPU(), "threads")
	fs.Float64Var(&s.lr, "lr", 3e-3, "peak of the rate")
	fs.IntVar(&s.warmup, "warmup", 20, "steps until the peak")
	fs.Int64Var(&s.keep, "keep", 1<<30, "bytes of activations kept for the way back")
	fs.BoolVar(&s.json, "json", true, "print JSON lines; false for text")
	fs.BoolVar(&s.bench, "bench", false, "print speed alone")
	if err := fs.Parse(args); err != nil {
		return s, err
	}
	if s.model == "" || s.data == "" {
		return s, fmt.Errorf("-model and -data are needed")
	}
	if s.length < 2 || s.threads < 1 {
		return s, fmt.Errorf("-length %d, -threads %d", s.length, s.threads)
	}
	return s, nil
}

// windows cuts each row of ids into windows; what is left over is dropped.
func windows(rows [][]int32, length int) calib.Windows {
	var out [][]int32
	for _, r := range rows {
		for ; len(r) >= length; r = r[length:] {
			out = append(out, r[:length])
		}
	}
	return calib.NewWindows(out)
}

// gcPercent is what compress sets.
const gcPercent = 33

func (s *settings) run(ctx context.Context, out io.Writer) error {
	debug.SetGCPercent(gcPercent)
	ckpt, err := hf.Open(s.model)
	if err != nil {
		return err
	}
	defer ckpt.Close()
	a, err := arch.Describe(ckpt.Config(), ckpt)
	if err != nil {
		return err
	}
	rows, err := calib.ReadIDs(s.data)
	if err != nil {
		return err
	}
	p, err := distill.NewParams(ckpt, a)
	if err != nil {
		return err
	}
	t := &distill.Trainer{Model: nn.New(cpu.New(s.threads), p, p.Arch), Params: p, Data: windows(rows, s.length),
		Objective: distill.Objective{CE: 1}, Options: s.options()}
	return s.train(ctx, t, out)
}

// options are those of train.py.
func (s *settings) options() distill.Options {
	o := distill.DefaultAdamW()
	o.Decay = 0.1
	return distill.Options{
		Schedule: distill.Schedule{Steps: s.steps, Warmup: s.warmup, LR: s.lr, Decay: distill.Cosine, Floor: 0.1},
		AdamW:    o, Batch: s.batch, InOrder: true, Clip: 1, Keep: s.keep,
	}
}

// line is what is printed of a step, counted from 0.
type line struct {
	Step int     `json:"step"`
	Loss float64 `json:"loss"`
	Norm float64 `json:"norm"`
	Rate float64 `json:"lr"`
}

// speed is printed at the end, by the median step; the first one, which takes memory, does not count where there are others.
type speed struct {
	Threads   int     `json:"threads"`
	Batch     int     `json:"batch"`
	Length    int     `json:"length"`
	Steps     int     `json:"steps"`
	PerSecond float64 `json:"tokens_per_second"`
	PerCPU    float64 `json:"tokens_per_cpu_second,omitempty"`
}

func (s *settings) train(ctx context.Context, t *distill.Trainer, out io.Writer) error {
	var wall, processor []float64
	clock, used := time.Now(), processorSeconds()
	var failed error
	t.Options.Progress = func(r distill.Report) {
		wall, processor = append(wall, time.Since(clock).Seconds()), append(processor, processorSeconds()-used)
		if l := (line{r.Step - 1, r.Loss, r.Norm, r.Rate}); !s.bench && failed == nil {
			failed = s.print(out, l, fmt.Sprintf("step %d: loss %.5f, norm %.4f, rate %.3g", l.Step, l.Loss, l.Norm, l.Rate))
		}
		clock, used = time.Now(), processorSeconds()
	}
	if err := t.Train(ctx); err != nil {
		return err
	}
	if failed != nil {
		return failed
	}
	tokens := float64(s.batch * s.length)
	v := speed{s.threads, s.batch, s.length, s.steps, tokens / median(wall), 0}
	if c := median(processor); c > 0 {
		v.PerCPU = tokens / c
	}
	return s.print(out, v, fmt.Sprintf("%.0f tokens/s, %.0f a second of processor time", v.PerSecond, v.PerCPU))
}

// print writes a value as JSON, or the text for it.
func (s *settings) print(out io.Writer, v any, text string) error {
	if !s.json {
		_, err := fmt.Fprintln(out, text)
		return err
	}
	return json.NewEncoder(out).Encode(v)
}

// median returns that of the steps but the first.
func median(x []float64) float64 {
	if len(x) > 1 {
		x = x[1:]
	}
	x = slices.Sorted(slices.Values(x))
	return (x[(len(x)-1)/2] + x[len(x)/2]) / 2
}
