package main

import (
	"encoding/csv"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
)

// task is what contestants are asked to do: op of sizes m, n and k, times times over.
type task struct {
	op             string
	m, n, k        int
	threads, times int
	path           string  // of a model, "-" where there is none
	work           float64 // per run
	unit           string  // of work per second, once divided by scale
	scale          float64
	alike          float64 // how far results may differ, relative to their size; 0: they need not agree
}

// tasks are those of the options.
func (s *settings) tasks() ([]*task, error) {
	var all []*task
	threads, err := numbers(s.threads, ",")
	if err != nil {
		return nil, err
	}
	for _, op := range strings.Split(s.ops, ",") {
		shapes, err := s.shapes(op)
		if err != nil {
			return nil, err
		}
		for _, shape := range shapes {
			for _, n := range threads {
				t := shape
				t.op, t.threads, t.times = op, n, s.times
				if t.times == 0 {
					t.times = t.usualTimes()
				}
				all = append(all, &t)
			}
		}
	}
	return all, nil
}

// shapes are the tasks of an op, without threads.
func (s *settings) shapes(op string) ([]task, error) {
	var all []task
	switch op {
	case "nt", "nn", "bf16", "bf16r":
		sizes, err := numbers(s.sizes, ",")
		if err != nil {
			return nil, err
		}
		for _, n := range sizes {
			cube := float64(n) * float64(n) * float64(n)
			all = append(all, task{m: n, n: n, k: n, path: "-", work: 2 * cube, unit: "GFLOP/s", scale: 1e9, alike: 1e-2})
		}
	case "gptq":
		for _, word := range strings.Split(s.layers, ",") {
			l, err := numbers(word, "x")
			if err != nil {
				return nil, err
			}
			if len(l) != 2 {
				return nil, fmt.Errorf("layer %q is not of the form OUTPUTSxINPUTS", word)
			}
			all = append(all, task{m: l[0], n: l[1], path: "-", work: float64(l[0]) * float64(l[1]), unit: "M weights/s", scale: 1e6})
		}
	case "forward", "forwardbf16":
		if s.model == "" {
			return nil, fmt.Errorf("%s needs -model", op)
		}
		all = append(all, task{m: s.tokens, n: s.windows, path: s.model, work: float64(s.tokens * s.windows), unit: "tokens/s", scale: 1, alike: 2e-2})
	default:
		return nil, fmt.Errorf("unknown op %q", op)
	}
	return all, nil
}

func (t *task) usualTimes() int {
	if t.unit != "GFLOP/s" {
		return 1
	}
	return max(1, int(1e10*float64(t.threads)/t.work))
}

func (t *task) String() string {
	return fmt.Sprintf("%s %dx%d threads=%d", t.op, t.m, t.n, t.threads)
}

// compare runs the rounds and prints what they give.
func (t *task) compare(out io.Writer, all []contestant, rounds int) error {
	got := make([][]sample, len(all))
	var peaks []sample
	for range rounds {
		peak, err := all[0].ask(&task{op: "peak", m: 1, n: 1, k: 1, threads: t.threads, path: "-"})
		if err != nil {
			return err
		}
		peaks = append(peaks, peak)
		for i, c := range all {
			s, err := c.ask(t)
			if err != nil {
				return fmt.Errorf("%s: %w", c.name(), err)
			}
			got[i] = append(got[i], s)
		}
	}
	fmt.Fprintf(out, "%v  peak %.0f (%.0f) GFLOP/s", t, median(peaks, sample.seconds)/1e9, median(peaks, sample.busy)/1e9)
	ours := got[0]
	for i, c := range all {
		theirs := got[i]
		if theirs[0].none {
			continue
		}
		fmt.Fprintf(out, "  %s %s %s", c.name(), t.rate(theirs), t.unit)
		if i == 0 {
			continue
		}
		if d := math.Abs(ours[0].value - theirs[0].value); t.alike > 0 && d > t.alike*(1+math.Abs(theirs[0].value)) {
			return fmt.Errorf("%v: ours gives %v, %s %v", t, ours[0].value, c.name(), theirs[0].value)
		}
		fmt.Fprintf(out, " ratio %s", ratio(ours, theirs))
	}
	_, err := fmt.Fprintln(out)
	return err
}

// rate formats the median rate, by the clock and by processor time.
func (t *task) rate(all []sample) string {
	return withBusy("%.4g", t.work/median(all, sample.seconds)/t.scale, t.work/median(all, sample.busy)/t.scale)
}

// ratio formats the median over rounds of their time divided by ours.
func ratio(ours, theirs []sample) string {
	each := make([]sample, len(ours))
	for r := range ours {
		each[r] = sample{wall: theirs[r].wall / ours[r].wall, cpu: theirs[r].cpu / ours[r].cpu}
	}
	return withBusy("%.2f", median(each, sample.seconds), median(each, sample.busy))
}

func withBusy(format string, wall, busy float64) string {
	if math.IsNaN(busy) {
		return fmt.Sprintf(format, wall)
	}
	return fmt.Sprintf(format+" ("+format+")", wall, busy)
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

// csvColumn returns the number in a column of the first row of a table.
func csvColumn(text, column string) (float64, error) {
	rows, err := csv.NewReader(strings.NewReader(text)).ReadAll()
	if err != nil {
		return 0, err
	}
	if len(rows) < 2 {
		return 0, fmt.Errorf("no row in the table %q", text)
	}
	at := slices.Index(rows[0], column)
	if at < 0 {
		return 0, fmt.Errorf("no column %s in the table", column)
	}
	return strconv.ParseFloat(rows[1][at], 64)
}
