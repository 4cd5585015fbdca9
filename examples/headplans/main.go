// Command headplans makes attention plans by several methods at several budgets of the KV cache, and prints what each is worth on
// held-out data at half, once and twice the calibration length, beside the two plans that take no thought: one window for every
// head, and random full heads, both of the same bytes.
//
//	go run ./examples/headplans -model DIR -calib ids -heldout ids -length 256 -methods duo,moa -budgets 0.125,0.25,0.5
//
// Plans are made exactly as `compress plan` makes them; budgets hold at twice the calibration length. Bytes are those of keys and
// values at the length in the row.
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
		fmt.Fprintln(os.Stderr, "headplans:", err)
		os.Exit(1)
	}
}

type settings struct {
	model, calib, heldout string
	methods               []string
	budgets               []float64
	length                int // of calibration windows; the longest prompt of a profile
	sequences, windows    int
	perCell               int
	seed, questions       uint64
	seeds, steps          int
	threads               int
	extra                 string // YAML lines for the heads section
}

func parse(args []string) (settings, error) {
	var s settings
	fs := flag.NewFlagSet("headplans", flag.ContinueOnError)
	fs.StringVar(&s.model, "model", "", "directory of the checkpoint")
	fs.StringVar(&s.calib, "calib", "", "calibration data, as compress plan reads it")
	fs.StringVar(&s.heldout, "heldout", "", "held-out data")
	fs.IntVar(&s.length, "length", 256, "tokens of calibration windows")
	fs.IntVar(&s.sequences, "sequences", 48, "calibration windows")
	fs.IntVar(&s.windows, "windows", 16, "held-out windows at each length, at most")
	fs.IntVar(&s.perCell, "per-cell", 10, "held-out prompts for each length and depth")
	fs.Uint64Var(&s.seed, "seed", 1, "seed of prompts and training")
	fs.Uint64Var(&s.questions, "questions", 0, "seed of the held-out questions")
	fs.IntVar(&s.seeds, "seeds", 3, "random choices of heads, whose mean is printed")
	fs.IntVar(&s.steps, "steps", 0, "most steps of gate training; 0 for the recipe's default")
	fs.IntVar(&s.threads, "threads", runtime.NumCPU(), "threads")
	fs.StringVar(&s.extra, "extra", "", "further fields of the heads section, such as 'sink: 4, recent: 24'")
	methods := fs.String("methods", "duo,moa", "methods of heads.method")
	budgets := fs.String("budgets", "0.125,0.25,0.5", "shares of the dense cache")
	if err := fs.Parse(args); err != nil {
		return s, err
	}
	if s.model == "" || s.calib == "" || s.heldout == "" {
		return s, fmt.Errorf("-model, -calib and -heldout are needed")
	}
	s.methods = strings.Split(*methods, ",")
	for _, f := range strings.Split(*budgets, ",") {
		v, err := strconv.ParseFloat(strings.TrimSpace(f), 64)
		if err != nil || !(v > 0 && v <= 1) {
			return s, fmt.Errorf("budget %q is not a number from 0 to 1", f)
		}
		s.budgets = append(s.budgets, v)
	}
	return s, nil
}
