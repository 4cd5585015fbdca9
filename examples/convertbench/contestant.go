package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// cost is what one turn took.
type cost struct {
	wall, cpu float64 // seconds
	peak      int64   // bytes
	written   int64   // size of the result
}

func (c cost) seconds() float64  { return c.wall }
func (c cost) busy() float64     { return c.cpu }
func (c cost) resident() float64 { return float64(c.peak) }

// contestant writes a file of a type.
type contestant struct {
	name, kind string
	// turn does it once, into files of its own that it leaves.
	turn func(ctx context.Context) (cost, error)
	got  []cost
}

// step runs a program and waits until its result is on the disk.
func step(ctx context.Context, result string, program string, args ...string) (cost, error) {
	if err := os.RemoveAll(result); err != nil {
		return cost{}, err
	}
	c := exec.CommandContext(ctx, program, args...)
	var said bytes.Buffer
	c.Stdout, c.Stderr = &said, &said
	start := time.Now()
	if err := c.Run(); err != nil {
		return cost{}, fmt.Errorf("%s %s: %w: %s", filepath.Base(program), strings.Join(args, " "), err, tail(said.String()))
	}
	size, err := settle(result)
	wall := time.Since(start).Seconds()
	if err != nil {
		return cost{}, err
	}
	p := c.ProcessState
	return cost{wall, p.UserTime().Seconds() + p.SystemTime().Seconds(), peakResident(p), size}, nil
}

// settle waits until a file is on the disk and returns its size.
func settle(name string) (int64, error) {
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	if err := f.Sync(); err != nil {
		return 0, err
	}
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// tail returns the end of what a program said.
func tail(said string) string {
	if len(said) > 2000 {
		said = "…" + said[len(said)-2000:]
	}
	return strings.TrimSpace(said)
}

// then adds the cost of a step that came after.
func (c cost) then(d cost) cost {
	return cost{c.wall + d.wall, c.cpu + d.cpu, max(c.peak, d.peak), d.written}
}
