package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
)

const gib = 1 << 30

// compare lets everyone take turns and prints the table.
func (s *settings) compare(ctx context.Context, out io.Writer, files []string, total int64) error {
	if err := os.MkdirAll(s.work, 0o755); err != nil {
		return err
	}
	defer s.clean()
	all, err := s.contestants()
	if err != nil {
		return err
	}
	for range s.rounds {
		for _, c := range all {
			if !s.warm {
				if err := forget(files); err != nil {
					return err
				}
			}
			got, err := c.turn(ctx)
			if err != nil {
				return fmt.Errorf("%s, %s: %w", c.name, c.kind, err)
			}
			c.got = append(c.got, got)
		}
	}
	s.print(out, all, total)
	return nil
}

func (s *settings) path(name string) string { return filepath.Join(s.work, name) }

// contestants are those that the options allow. The floor comes after ours, whose file says how much it has to write.
func (s *settings) contestants() ([]*contestant, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	var all []*contestant
	add := func(name, kind string, turn func(ctx context.Context) (cost, error)) *contestant {
		c := &contestant{name: name, kind: kind, turn: turn}
		all = append(all, c)
		return c
	}
	for _, kind := range s.types {
		ours := add("ours", kind, s.ours(kind))
		add("floor", kind, func(ctx context.Context) (cost, error) {
			file := s.path("floor")
			return step(ctx, file, self, "-model", s.model, "-threads", fmt.Sprint(s.threads), "-floor", file, "-write", fmt.Sprint(ours.got[len(ours.got)-1].written))
		})
		if len(s.converter) == 0 {
			continue
		}
		if kind == "f32" || kind == "f16" || kind == "bf16" {
			add("llama.cpp", kind, s.theirs(kind, "theirs.gguf"))
			continue
		}
		if s.quantize != "" {
			s.chain(kind, add)
		}
		if kind == "q8_0" {
			add("converter", kind, s.theirs(kind, "theirs.gguf"))
		}
	}
	return all, nil
}

// ours converts by compress.
func (s *settings) ours(kind string) func(ctx context.Context) (cost, error) {
	return func(ctx context.Context) (cost, error) {
		file := s.path("ours.gguf")
		args := append([]string{"convert", s.model, "--to", "gguf", "--type", kind, "-o", file}, strings.Fields(s.convertFlags)...)
		return step(ctx, file, s.compress, args...)
	}
}

// theirs converts by llama.cpp's converter.
func (s *settings) theirs(kind, name string) func(ctx context.Context) (cost, error) {
	return func(ctx context.Context) (cost, error) {
		file := s.path(name)
		args := append(slices.Clone(s.converter[1:]), s.model, "--outtype", kind, "--outfile", file)
		return step(ctx, file, s.converter[0], args...)
	}
}

// chain is llama.cpp's way to a quantized type, in two lines: all of it, and its second half, which is measured while all of it runs.
func (s *settings) chain(kind string, add func(string, string, func(context.Context) (cost, error)) *contestant) {
	var second cost
	convert := s.theirs("f16", "between.gguf")
	add("llama.cpp", kind, func(ctx context.Context) (cost, error) {
		first, err := convert(ctx)
		if err != nil {
			return cost{}, err
		}
		file := s.path("theirs.gguf")
		if second, err = step(ctx, file, s.quantize, s.path("between.gguf"), file, kind, fmt.Sprint(s.threads)); err != nil {
			return cost{}, err
		}
		return first.then(second), nil
	})
	add("quantize", kind, func(context.Context) (cost, error) { return second, nil })
}

// print writes medians.
func (s *settings) print(out io.Writer, all []*contestant, total int64) {
	cache := "cold"
	if s.warm {
		cache = "warm"
	}
	fmt.Fprintf(out, "%s/%s, %d processors; %.2f GiB of weights, %s page cache; medians of %d rounds\n", runtime.GOOS, runtime.GOARCH,
		runtime.NumCPU(), float64(total)/gib, cache, s.rounds)
	fmt.Fprintf(out, "%-10s %-7s %9s %9s %11s %11s %9s %12s\n", "", "type", "seconds", "GiB/s", "processor", "resident", "written", "time / ours")
	var ours []cost
	for _, c := range all {
		if c.name == "ours" {
			ours = c.got
		}
		each := make([]cost, len(c.got))
		for i := range each {
			each[i].wall = c.got[i].wall / ours[i].wall
		}
		wall := median(c.got, cost.seconds)
		fmt.Fprintf(out, "%-10s %-7s %9.2f %9.3f %9.2f s %7.0f MiB %5.2f GiB %12.2f\n", c.name, c.kind, wall, float64(total)/gib/wall,
			median(c.got, cost.busy), median(c.got, cost.resident)/(1<<20), float64(c.got[0].written)/gib, median(each, cost.seconds))
	}
}

// clean removes what was written.
func (s *settings) clean() {
	for _, name := range []string{"ours.gguf", "floor", "theirs.gguf", "between.gguf"} {
		_ = os.RemoveAll(s.path(name)) // a file that stays costs space, nothing else
	}
}

// median returns the median of what f gives.
func median(all []cost, f func(cost) float64) float64 {
	v := make([]float64, len(all))
	for i, c := range all {
		v[i] = f(c)
	}
	slices.Sort(v)
	return (v[len(v)/2] + v[(len(v)-1)/2]) / 2
}
