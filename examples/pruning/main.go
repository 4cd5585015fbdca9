// Command pruning prunes a model in several ways, recovers each result by distillation, trains a model of the same shape from
// nothing, and prints what each is worth as a Markdown table: perplexity and KL to the source on held-out data.
//
//	go run ./examples/pruning -model DIR -calib ids -train DIR:.ext -heldout ids -params 0.75,0.5 -seeds 1,2,3 -o DIR
//
// Every result is planned as `compress plan` does it, applied as `compress apply` does it, and measured on what was written, as
// `compress eval` does it. What is finished is remembered in the output directory, so that an interrupted run goes on.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"strconv"
	"strings"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	s, err := parse(os.Args[1:])
	if err == nil {
		err = run(ctx, s, os.Stdout)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "pruning:", err)
		os.Exit(1)
	}
}

type settings struct {
	model, calib, train, heldout, out, target string
	methods, prune                            []string
	params                                    []float64
	seeds                                     []uint64

	sequences, length, trainLength, trainSequences, windows int
	bos                                                     string
	replace                                                 bool

	steps, batch  int
	rate, scratch float64
	threads       int
}

func parse(args []string) (settings, error) {
	var s settings
	fs := flag.NewFlagSet("pruning", flag.ContinueOnError)
	fs.StringVar(&s.model, "model", "", "directory of the checkpoint")
	fs.StringVar(&s.calib, "calib", "", "calibration data, as compress plan reads it")
	fs.StringVar(&s.train, "train", "", "training data; the calibration data by default")
	fs.StringVar(&s.heldout, "heldout", "", "data to measure on")
	fs.StringVar(&s.out, "o", "", "directory for results; what is there is taken over")
	fs.IntVar(&s.sequences, "sequences", 96, "calibration windows")
	fs.IntVar(&s.length, "length", 512, "tokens of a window")
	fs.IntVar(&s.trainLength, "train-length", 0, "tokens of a training window; 0 for -length")
	fs.IntVar(&s.trainSequences, "train-sequences", 4000, "training windows; 0 for all")
	fs.IntVar(&s.windows, "windows", 32, "windows to measure on, at most")
	fs.StringVar(&s.bos, "bos", "auto", "first id of the windows to measure on, as compress eval takes it")
	fs.BoolVar(&s.replace, "replace-first", false, "that id takes the place of each window's first token")
	fs.IntVar(&s.steps, "steps", 100, "steps of recovery; 0 for none")
	fs.IntVar(&s.batch, "batch", 8, "windows of a step of recovery")
	fs.Float64Var(&s.rate, "rate", 1e-3, "learning rate of recovery")
	fs.Float64Var(&s.scratch, "scratch-rate", 3e-3, "learning rate of the model that is trained from nothing; 0 for no such model")
	fs.IntVar(&s.threads, "threads", runtime.NumCPU(), "threads")
	methods := fs.String("methods", "vib,minitron,taylor,magnitude,random", "methods of pruning")
	fs.StringVar(&s.target, "target", "hf", "runtime whose rules the results keep; layers of several sizes load in llama.cpp alone")
	params := fs.String("params", "0.75,0.5", "shares of the parameters that stay")
	seeds := fs.String("seeds", "1,2,3", "seeds: of masks, of random choices, of the order of training data, and of the draw of calibration windows")
	fs.Func("prune", "another field of the recipe's section prune, such as 'layout: compact'; may be given several times", func(v string) error { s.prune = append(s.prune, v); return nil })
	if err := fs.Parse(args); err != nil {
		return s, err
	}
	if s.model == "" || s.calib == "" || s.heldout == "" || s.out == "" {
		return s, fmt.Errorf("-model, -calib, -heldout and -o are needed")
	}
	var err error
	if s.params, err = list(*params, func(v string) (float64, error) { return strconv.ParseFloat(v, 64) }); err != nil {
		return s, fmt.Errorf("-params: %w", err)
	}
	if s.seeds, err = list(*seeds, func(v string) (uint64, error) { return strconv.ParseUint(v, 10, 64) }); err != nil {
		return s, fmt.Errorf("-seeds: %w", err)
	}
	s.methods, err = list(*methods, func(v string) (string, error) { return v, nil })
	return s, err
}

// list reads values between commas.
func list[T any](text string, read func(string) (T, error)) (out []T, err error) {
	for _, f := range strings.FieldsFunc(text, func(r rune) bool { return r == ',' }) {
		v, err := read(strings.TrimSpace(f))
		if err != nil {
			return nil, err
		}
		out = append(out, v)
	}
	return out, nil
}
