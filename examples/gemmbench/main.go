// Command gemmbench compares matrix products with those of other libraries. compare.sh builds what it needs and runs it:
//
//	sh examples/gemmbench/compare.sh [-sizes 1024,2048] [-threads 1,2] [-rounds 9]
//
// Contestants take turns on the same shape, round by round, in processes of their own; the table gives the median rate of
// each and the median over rounds of our rate divided by theirs, by the clock and by processor time. The first column
// after the shape is a loop of multiply-adds in registers: the peak.
package main

import (
	"flag"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
)

func main() {
	if err := run(os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "gemmbench:", err)
		os.Exit(1)
	}
}

// settings are the options.
type settings struct {
	sizes, threads []int
	ops            []string
	rounds, times  int
	peers          string
}

func run(args []string, out io.Writer) error {
	var s settings
	f := flag.NewFlagSet("gemmbench", flag.ContinueOnError)
	sizes := f.String("sizes", "1024,2048", "edges of square products")
	threads := f.String("threads", "1,2", "numbers of threads")
	ops := f.String("ops", "nt,nn,bf16,bf16r", "products: nt, nn, bf16, bf16r; see peers/peers.cc")
	f.IntVar(&s.rounds, "rounds", 9, "turns that every contestant gets")
	f.IntVar(&s.times, "times", 0, "products per turn; 0: about 50 ms of work")
	f.StringVar(&s.peers, "peers", "", "program built from peers/peers.cc; without it only our own are measured")
	serve := f.Bool("serve", false, "answer requests, as the peers do")
	if err := f.Parse(args); err != nil {
		return err
	}
	if *serve {
		return answer(os.Stdin, out)
	}
	var err error
	if s.sizes, err = numbers(*sizes); err != nil {
		return err
	}
	if s.threads, err = numbers(*threads); err != nil {
		return err
	}
	s.ops = strings.Split(*ops, ",")
	return s.compare(out)
}

func numbers(list string) ([]int, error) {
	var all []int
	for _, word := range strings.Split(list, ",") {
		n, err := strconv.Atoi(word)
		if err != nil || n <= 0 {
			return nil, fmt.Errorf("%q is no list of positive numbers", list)
		}
		all = append(all, n)
	}
	return all, nil
}

// compare runs every shape and prints a line for each.
func (s *settings) compare(out io.Writer) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	all := []*contestant{{name: "ours", command: []string{self, "-serve"}}}
	if s.peers != "" {
		all = append(all,
			&contestant{name: "openblas", command: []string{s.peers, "openblas"}},
			&contestant{name: "openblas-skylakex", command: []string{s.peers, "openblas"}, env: "OPENBLAS_CORETYPE=SkylakeX"},
			&contestant{name: "onednn", command: []string{s.peers, "onednn"}})
	}
	for _, c := range all {
		if err := c.start(); err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
		defer c.stop()
	}
	fmt.Fprintf(out, "%s/%s, %d processors, medians of %d rounds; GFLOP/s by the clock (by processor time)\n",
		runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), s.rounds)
	for _, op := range s.ops {
		for _, n := range s.sizes {
			for _, threads := range s.threads {
				if err := s.shape(out, all, op, n, threads); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// shape runs the rounds of one shape and prints what they give.
func (s *settings) shape(out io.Writer, all []*contestant, op string, n, threads int) error {
	flops, times := 2*float64(n)*float64(n)*float64(n), s.times
	if times == 0 {
		times = max(1, int(1e10*float64(threads)/flops))
	}
	got := make([][]sample, len(all))
	peaks := make([]sample, 0, s.rounds)
	for range s.rounds {
		for i, c := range all {
			if i == 0 {
				p, err := c.ask("peak", n, threads, times)
				if err != nil {
					return err
				}
				peaks = append(peaks, p)
			}
			r, err := c.ask(op, n, threads, times)
			if err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
			got[i] = append(got[i], r)
		}
	}
	fmt.Fprintf(out, "%-4s %d threads=%d", op, n, threads)
	fmt.Fprintf(out, "  peak %.0f (%.0f)", median(peaks, sample.byClock)/1e9, median(peaks, sample.byProcessor)/1e9)
	for i, c := range all {
		if got[i][0].none {
			continue
		}
		fmt.Fprintf(out, "  %s %.0f (%.0f)", c.name, flops/median(got[i], sample.seconds)/1e9, flops/median(got[i], sample.busy)/1e9)
		against, clock, processor := got[i], make([]sample, s.rounds), make([]sample, s.rounds)
		if i == 0 {
			continue
		}
		if d := got[0][0].value - against[0].value; d*d > 1e-4*(1+against[0].value*against[0].value) {
			return fmt.Errorf("%s %d: ours gives %v, %s %v", op, n, got[0][0].value, c.name, against[0].value)
		}
		for r := range s.rounds {
			clock[r].wall = against[r].wall / got[0][r].wall
			processor[r].wall = against[r].cpu / got[0][r].cpu
		}
		fmt.Fprintf(out, " ratio %.2f (%.2f)", median(clock, sample.seconds), median(processor, sample.seconds))
	}
	fmt.Fprintln(out)
	return nil
}

// median returns the median of what f gives.
func median(all []sample, f func(sample) float64) float64 {
	v := make([]float64, len(all))
	for i, s := range all {
		v[i] = f(s)
	}
	slices.Sort(v)
	return (v[len(v)/2] + v[(len(v)-1)/2]) / 2
}
