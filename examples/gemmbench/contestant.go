package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"
)

// contestant is a process that computes on request.
type contestant struct {
	name    string
	command []string
	env     string
	cmd     *exec.Cmd
	in      io.WriteCloser
	out     *bufio.Reader
}

// sample is the answer to one request.
type sample struct {
	none      bool    // the contestant has no such product
	wall, cpu float64 // seconds per product, or for the peak operations per second
	value     float64 // the element of the result in the middle
}

func (s sample) seconds() float64     { return s.wall }
func (s sample) busy() float64        { return s.cpu }
func (s sample) byClock() float64     { return s.wall }
func (s sample) byProcessor() float64 { return s.cpu }

// start runs the process. Threads of peers that wait must not burn the processor that others are measured on.
func (c *contestant) start() error {
	c.cmd = exec.Command(c.command[0], c.command[1:]...)
	c.cmd.Env = append(os.Environ(), "OMP_WAIT_POLICY=passive", "OPENBLAS_THREAD_TIMEOUT=20")
	if c.env != "" {
		c.cmd.Env = append(c.cmd.Env, c.env)
	}
	c.cmd.Stderr = os.Stderr
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		return err
	}
	c.out = bufio.NewReader(out)
	if c.in, err = c.cmd.StdinPipe(); err != nil {
		return err
	}
	return c.cmd.Start()
}

// stop ends the process by closing its input.
func (c *contestant) stop() {
	c.in.Close()
	_ = c.cmd.Wait() // the figures are already printed
}

// ask requests one measurement of a square product.
func (c *contestant) ask(op string, n, threads, times int) (sample, error) {
	time.Sleep(20 * time.Millisecond) // threads of the one before go to sleep
	if _, err := fmt.Fprintln(c.in, op, n, n, n, threads, times); err != nil {
		return sample{}, err
	}
	line, err := c.out.ReadString('\n')
	if err != nil {
		return sample{}, err
	}
	line = strings.TrimSpace(line)
	if line == "none" {
		return sample{none: true}, nil
	}
	var s sample
	if _, err := fmt.Sscan(line, &s.wall, &s.cpu, &s.value); err != nil {
		return sample{}, fmt.Errorf("answer %q: %w", line, err)
	}
	return s, nil
}
