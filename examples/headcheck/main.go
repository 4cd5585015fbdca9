// Command headcheck measures the attention heads of a checkpoint on retrieval prompts and checks the result from two
// sides:
//
//	go run ./examples/headcheck -model DIR -prompts prompts.json -reference heads.json
//
// compares every score with figures that other software gave on the same prompts (a JSON object with the fields wu, copy,
// needle, sink and local, each a matrix [layer][query head]), and
//
//	go run ./examples/headcheck -model DIR -prompts prompts.json -tasks tasks.json -sink 4 -recent 64
//
// makes streaming heads of all but the best, of all but as many random ones, and of the best alone, and prints how many
// of the tasks the model still solves. Both files are lists of {"ids", "answer", "needle"}; no tokenizer is needed.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"modelpress/calib"
	"modelpress/formats/hf"
	"modelpress/internal/arch"
	"modelpress/internal/device/cpu"
	"modelpress/internal/nn"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "headcheck:", err)
		os.Exit(1)
	}
}

type settings struct {
	model, prompts, reference, tasks, rank string
	sink, recent, seeds, threads           int
	every, limit                           int
	shares                                 []float64
}

func parse(args []string) (settings, error) {
	var s settings
	fs := flag.NewFlagSet("headcheck", flag.ContinueOnError)
	fs.StringVar(&s.model, "model", "", "directory of the checkpoint")
	fs.StringVar(&s.prompts, "prompts", "", "JSON file of the prompts that heads are scored on")
	fs.StringVar(&s.reference, "reference", "", "JSON file of reference scores")
	fs.StringVar(&s.tasks, "tasks", "", "JSON file of the prompts that plans are tested on")
	fs.StringVar(&s.rank, "rank", "wu", "score that plans are made from: "+strings.Join(ranks, ", "))
	fs.IntVar(&s.sink, "sink", 4, "sink tokens of a streaming head")
	fs.IntVar(&s.recent, "recent", 64, "recent tokens of a streaming head, the query's own included")
	fs.IntVar(&s.seeds, "seeds", 5, "random choices of heads to compare with")
	fs.IntVar(&s.every, "every", 1, "test on every n-th task")
	fs.IntVar(&s.limit, "limit", 0, "score heads on the first n prompts only (0: all)")
	fs.IntVar(&s.threads, "threads", runtime.NumCPU(), "threads")
	shares := fs.String("shares", "0.5,0.25,0.17", "shares of KV heads to keep full")
	if err := fs.Parse(args); err != nil {
		return s, err
	}
	if s.model == "" || s.prompts == "" {
		return s, fmt.Errorf("-model and -prompts are needed")
	}
	if !slices.Contains(ranks, s.rank) {
		return s, fmt.Errorf("rank %q is none of %s", s.rank, strings.Join(ranks, ", "))
	}
	for _, f := range strings.Split(*shares, ",") {
		v, err := strconv.ParseFloat(strings.TrimSpace(f), 64)
		if err != nil || !(v >= 0 && v <= 1) {
			return s, fmt.Errorf("share %q is not a number from 0 to 1", f)
		}
		s.shares = append(s.shares, v)
	}
	return s, nil
}

func run(ctx context.Context, args []string, out io.Writer) error {
	s, err := parse(args)
	if err != nil {
		return err
	}
	ckpt, err := hf.Open(s.model)
	if err != nil {
		return err
	}
	defer ckpt.Close()
	a, err := arch.Describe(ckpt.Config(), ckpt)
	if err != nil {
		return err
	}
	prompts, err := calib.ReadPrompts(s.prompts)
	if err != nil {
		return err
	}
	if s.limit > 0 && s.limit < len(prompts) {
		prompts = prompts[:s.limit]
	}
	c := check{settings: s, m: nn.New(cpu.New(s.threads), ckpt, a), prompts: prompts, out: out}
	return c.run(ctx)
}
