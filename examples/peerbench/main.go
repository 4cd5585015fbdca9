// Command peerbench compares the CPU engine with other software: matrix products, whole layers of GPTQ, and the forward
// pass of a model. compare.sh builds what it needs and runs it:
//
//	sh examples/peerbench/compare.sh [-ops nt,nn] [-sizes 1024,2048] [-threads 1,2] [-rounds 9]
//
// Contestants take turns on the same task, round by round, in processes of their own; a line gives the median rate of
// each and the median over rounds of our rate divided by theirs, by the clock and, where it is known, by processor time.
// The first rate is a loop of multiply-adds in registers: the peak.
package main

import (
	"flag"
	"fmt"
	"io"
	"os"
	"runtime"
	"strconv"
	"strings"
)

func main() {
	if err := run(os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "peerbench:", err)
		os.Exit(1)
	}
}

// settings are the options.
type settings struct {
	ops, sizes, layers, threads    string
	rounds, times, tokens, windows int
	peers, torch, model            string
	llamaBench, ggufF32, ggufBF16  string
}

func run(args []string, out io.Writer) error {
	var s settings
	f := flag.NewFlagSet("peerbench", flag.ContinueOnError)
	f.StringVar(&s.ops, "ops", "nt,nn,bf16,bf16r", "what to measure: nt and nn (products in f32), bf16 and bf16r (in bfloat16), gptq, forward, forwardbf16")
	f.StringVar(&s.sizes, "sizes", "1024,2048", "edges of square products")
	f.StringVar(&s.layers, "layers", "4096x4096,4096x11008", "weights of gptq, outputs x inputs")
	f.StringVar(&s.threads, "threads", "1,2", "numbers of threads")
	f.StringVar(&s.model, "model", "", "directory of a Llama in safetensors, for forward")
	f.IntVar(&s.tokens, "tokens", 512, "tokens in a window of forward")
	f.IntVar(&s.windows, "windows", 8, "windows of a run of forward")
	f.IntVar(&s.rounds, "rounds", 9, "turns that every contestant gets")
	f.IntVar(&s.times, "times", 0, "runs per turn; 0: about 50 ms of a product, 1 of all else")
	f.StringVar(&s.peers, "peers", "", "program built from peers/peers.cc (OpenBLAS, oneDNN)")
	f.StringVar(&s.torch, "torch", "", "command that runs peers/peers.py, with a Python that has torch")
	f.StringVar(&s.llamaBench, "llama-bench", "", "llama.cpp's program of that name")
	f.StringVar(&s.ggufF32, "gguf-f32", "", "the model as llama.cpp reads it, weights in f32")
	f.StringVar(&s.ggufBF16, "gguf-bf16", "", "the same, weights in bfloat16")
	serve := f.Bool("serve", false, "answer requests, as the peers do")
	if err := f.Parse(args); err != nil {
		return err
	}
	if *serve {
		return answer(os.Stdin, out)
	}
	return s.compare(out)
}

// compare runs every task and prints a line for each.
func (s *settings) compare(out io.Writer) error {
	tasks, err := s.tasks()
	if err != nil {
		return err
	}
	all, stop, err := s.contestants()
	defer stop()
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "%s/%s, %d processors, medians of %d rounds; rates by the clock (by processor time)\n",
		runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), s.rounds)
	for _, t := range tasks {
		if err := t.compare(out, all, s.rounds); err != nil {
			return err
		}
	}
	return nil
}

// contestants starts ourselves and the peers that were given. stop ends them, whether or not all have started.
func (s *settings) contestants() (all []contestant, stop func(), err error) {
	var processes []*process
	stop = func() {
		for _, p := range processes {
			p.stop()
		}
	}
	self, err := os.Executable()
	if err != nil {
		return nil, stop, err
	}
	list := []*process{{title: "ours", command: []string{self, "-serve"}}}
	if s.peers != "" {
		list = append(list,
			&process{title: "openblas", command: []string{s.peers, "openblas"}},
			&process{title: "openblas-skylakex", command: []string{s.peers, "openblas"}, env: "OPENBLAS_CORETYPE=SkylakeX"},
			&process{title: "onednn", command: []string{s.peers, "onednn"}})
	}
	if s.torch != "" {
		list = append(list, &process{title: "torch", command: strings.Fields(s.torch)})
	}
	for _, p := range list {
		if err := p.start(); err != nil {
			return nil, stop, fmt.Errorf("%s: %w", p.title, err)
		}
		processes, all = append(processes, p), append(all, p)
	}
	if s.llamaBench != "" {
		all = append(all, &llamaBench{program: s.llamaBench, models: map[string]string{"forward": s.ggufF32, "forwardbf16": s.ggufBF16}})
	}
	return all, stop, nil
}

func numbers(list, sep string) ([]int, error) {
	var all []int
	for _, word := range strings.Split(list, sep) {
		n, err := strconv.Atoi(word)
		if err != nil || n <= 0 {
			return nil, fmt.Errorf("%q is no list of positive numbers", list)
		}
		all = append(all, n)
	}
	return all, nil
}
