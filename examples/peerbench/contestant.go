package main

import (
	"bufio"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"strings"
	"time"
)

// contestant runs tasks on request.
type contestant interface {
	name() string
	ask(t *task) (sample, error)
}

// sample is the answer to one request.
type sample struct {
	none      bool    // the contestant cannot do it
	wall, cpu float64 // seconds per run, or for the peak operations per second; cpu is NaN where it is not known
	value     float64 // a number of the result, to see that the same was computed
}

func (s sample) seconds() float64 { return s.wall }
func (s sample) busy() float64    { return s.cpu }

// process is a contestant that answers the requests that peers.cc describes.
type process struct {
	title   string
	command []string
	env     string
	cmd     *exec.Cmd
	in      io.WriteCloser
	out     *bufio.Reader
}

func (p *process) name() string { return p.title }

// start runs the process. Threads of peers that wait must not burn the processor that others are measured on.
func (p *process) start() error {
	p.cmd = exec.Command(p.command[0], p.command[1:]...)
	p.cmd.Env = append(os.Environ(), "OMP_WAIT_POLICY=passive", "OPENBLAS_THREAD_TIMEOUT=20")
	if p.env != "" {
		p.cmd.Env = append(p.cmd.Env, p.env)
	}
	p.cmd.Stderr = os.Stderr
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return err
	}
	p.out = bufio.NewReader(out)
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		return err
	}
	return p.cmd.Start()
}

// stop ends the process by closing its input.
func (p *process) stop() {
	p.in.Close()
	_ = p.cmd.Wait() // the figures are already printed
}

func (p *process) ask(t *task) (sample, error) {
	time.Sleep(20 * time.Millisecond) // threads of the one before go to sleep
	if _, err := fmt.Fprintln(p.in, t.op, t.m, t.n, t.k, t.threads, t.times, t.path); err != nil {
		return sample{}, err
	}
	line, err := p.out.ReadString('\n')
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

// llamaBench is llama.cpp's own benchmark of prompt processing. It does not tell its processor time, nor any result.
type llamaBench struct {
	program string
	models  map[string]string // by op
}

func (l *llamaBench) name() string { return "llama.cpp" }

func (l *llamaBench) ask(t *task) (sample, error) {
	model := l.models[t.op]
	if model == "" {
		return sample{none: true}, nil
	}
	cmd := exec.Command(l.program, "-m", model, "-p", fmt.Sprint(t.m), "-n", "0", "-t", fmt.Sprint(t.threads), "-r", fmt.Sprint(t.times*t.n), "-o", "csv")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return sample{}, err
	}
	ns, err := csvColumn(string(out), "avg_ns")
	return sample{wall: ns * float64(t.n) / 1e9, cpu: math.NaN(), value: math.NaN()}, err
}
