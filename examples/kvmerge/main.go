// Command kvmerge merges the KV heads of a model in several ways and prints what each is worth as a Markdown table: perplexity and
// KL to the source on calibration windows and on one or more held-out sets, and needle accuracy.
//
//	go run ./examples/kvmerge -model DIR -calib ids -heldout ids -heldout other -kv 4,2 -prompts prompts.json
//
// Every row is planned as `compress plan` does it, applied to a temporary directory as `compress apply` does it, and measured on
// what was written, as `compress eval` does it.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"regexp"
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
		fmt.Fprintln(os.Stderr, "kvmerge:", err)
		os.Exit(1)
	}
}

type settings struct {
	model, calib string
	heldout      []string
	kv           []int
	budgets      []float64
	apart        bool
	rows         *regexp.Regexp

	sequences, length, windows int
	seed                       uint64
	bos                        string
	replace                    bool

	prompts        string
	maxPrompts     int
	fact, question string
	threads        int
}

func parse(args []string) (settings, error) {
	var s settings
	fs := flag.NewFlagSet("kvmerge", flag.ContinueOnError)
	fs.StringVar(&s.model, "model", "", "directory of the checkpoint")
	fs.StringVar(&s.calib, "calib", "", "calibration data, as compress plan reads it")
	fs.Func("heldout", "held-out data; may be given several times", func(v string) error { s.heldout = append(s.heldout, v); return nil })
	fs.BoolVar(&s.apart, "apart", false, "add rows that keep retrieval heads apart from others (mix: false)")
	fs.IntVar(&s.sequences, "sequences", 96, "calibration windows to merge by")
	fs.IntVar(&s.length, "length", 512, "tokens of a window")
	fs.IntVar(&s.windows, "windows", 16, "windows of each set to measure on, at most")
	fs.Uint64Var(&s.seed, "seed", 1, "seed of the recipe")
	fs.StringVar(&s.bos, "bos", "auto", "first id of the windows to measure on, as compress eval takes it")
	fs.BoolVar(&s.replace, "replace-first", false, "that id takes the place of each window's first token")
	fs.StringVar(&s.prompts, "prompts", "", "JSON file of retrieval prompts; without it they are generated in the first held-out set")
	fs.IntVar(&s.maxPrompts, "max-prompts", 0, "prompts of the file to take, evenly spread; 0 for all")
	fs.StringVar(&s.fact, "fact", "\n// The pass key of {name} is {code}. Remember {name}.\n", "text of a generated fact")
	fs.StringVar(&s.question, "question", "\n// What is the pass key of {name}? The pass key of {name} is", "text of a generated question")
	fs.IntVar(&s.threads, "threads", runtime.NumCPU(), "threads")
	kv := fs.String("kv", "4,2", "numbers of KV heads a layer")
	budgets := fs.String("budgets", "", "shares of the cache to add rows for, such as 0.5")
	rows := fs.String("rows", "", "regular expression that the names of rows must match, such as 'kv 4 pca/pca cost'")
	if err := fs.Parse(args); err != nil {
		return s, err
	}
	if s.model == "" || s.calib == "" || len(s.heldout) == 0 {
		return s, fmt.Errorf("-model, -calib and -heldout are needed")
	}
	var err error
	if s.rows, err = regexp.Compile(*rows); err != nil {
		return s, err
	}
	if s.kv, err = list(*kv, strconv.Atoi); err != nil {
		return s, fmt.Errorf("-kv: %w", err)
	}
	s.budgets, err = list(*budgets, func(v string) (float64, error) { return strconv.ParseFloat(v, 64) })
	if err != nil {
		return s, fmt.Errorf("-budgets: %w", err)
	}
	return s, nil
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
