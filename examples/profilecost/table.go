package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
)

// cost is what the process of one method reports.
type cost struct {
	Tokens    int     // that went through the model
	Wall, CPU float64 // seconds, without opening the checkpoint
	Peak      int64   // bytes, largest resident set of the process; 0 where the system does not tell
	Device    int64   // bytes, most that was in use on a device with memory of its own; else 0
	Note      string  // what was counted
}

// tables prints a table for each length.
func (s *settings) tables(ctx context.Context, out io.Writer) error {
	dir, err := os.MkdirTemp("", "profilecost")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	s.prompts = filepath.Join(dir, "prompts.json")
	fmt.Fprintf(out, "%s/%s, %d processors, %d threads\n", runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), s.threads)
	for _, s.length = range s.lengths {
		if err := s.table(ctx, out); err != nil {
			return err
		}
	}
	return nil
}

// table prints a line for each method, ratios being those to the first, and goes on where one fails.
func (s *settings) table(ctx context.Context, out io.Writer) error {
	fmt.Fprintf(out, "\none window of %d tokens\n%-15s %7s %9s %9s %9s %7s %10s %6s  %s\n", s.length, "method", "tokens", "wall s", "CPU s",
		"CPU/first", "MiB", "device MiB", "load", "counted")
	var first float64
	var failed error
	names := s.methods
	if s.needAnswers() {
		names = append([]string{answers}, names...)
	}
	for _, name := range names {
		load := loadAverage()
		c, err := s.measure(ctx, name)
		if err != nil {
			fmt.Fprintf(out, "%-15s %v\n", name, err)
			failed = errors.Join(failed, fmt.Errorf("%s: %w", name, err))
			continue
		}
		if first == 0 && name != answers {
			first = c.CPU
		}
		ratio := "-"
		if first > 0 {
			ratio = fmt.Sprintf("%.2f", c.CPU/first)
		}
		fmt.Fprintf(out, "%-15s %7d %9.2f %9.2f %9s %7d %10d %6s  %s\n", name, c.Tokens, c.Wall, c.CPU, ratio, c.Peak>>20, c.Device>>20, load, c.Note)
	}
	return failed
}

// needAnswers says whether a method among those asked for reads a prompt.
func (s *settings) needAnswers() bool {
	for _, name := range s.methods {
		if methodCalled(name).prompt {
			return true
		}
	}
	return false
}

// measure runs one method in a process of its own.
func (s *settings) measure(ctx context.Context, name string) (*cost, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	args := []string{"-method", name, "-model", s.model, "-prompts", s.prompts, "-device", s.device, "-precision", s.precision, "-max-device-memory", s.deviceMemory}
	for _, n := range []struct {
		flag  string
		value int64
	}{{"length", int64(s.length)}, {"threads", int64(s.threads)}, {"answer", int64(s.answer)}, {"steps", int64(s.steps)}, {"all-steps", int64(s.all)}} {
		args = append(args, "-"+n.flag, strconv.FormatInt(n.value, 10))
	}
	if s.states > 0 {
		args = append(args, "-states", strconv.FormatInt(s.states, 10)+"B")
	}
	cmd := exec.CommandContext(ctx, self, args...)
	var said bytes.Buffer
	cmd.Stderr = &said
	raw, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%w: %s", err, strings.TrimSpace(said.String()))
	}
	c := &cost{}
	return c, json.Unmarshal(raw, c)
}

// loadAverage is the machine's load over the last minute, "-" where the system does not tell.
func loadAverage() string {
	raw, err := os.ReadFile("/proc/loadavg")
	if err != nil || len(strings.Fields(string(raw))) == 0 {
		return "-"
	}
	return strings.Fields(string(raw))[0]
}
