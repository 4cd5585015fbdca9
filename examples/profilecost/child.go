package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"runtime/pprof"
	"strconv"
	"strings"
	"time"

	"modelpress/calib"
	"modelpress/formats/hf"
	"modelpress/heads"
	"modelpress/internal/arch"
	"modelpress/internal/nn"
)

// job is one measurement.
type job struct {
	*settings
	m       *nn.Model
	how     heads.Options
	window  []int32
	windows calib.Windows  // the window alone
	ask     []calib.Prompt // the window as a prompt with its answer; nil for methods that need none
}

// gcPercent is what compress sets.
const gcPercent = 33

// child measures the method in this process.
func (s *settings) child(ctx context.Context, out io.Writer) error {
	debug.SetGCPercent(gcPercent)
	method := methodCalled(s.method)
	if method == nil || s.length < least {
		return fmt.Errorf("method %q on %d tokens", s.method, s.length)
	}
	dev, err := s.open()
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
	j := &job{settings: s, m: nn.New(dev, ckpt, a), how: heads.Options{MemLimit: s.states}}
	j.window = randomIDs(s.length, a.V)
	j.windows = calib.NewWindows([][]int32{j.window})
	if method.prompt {
		if j.ask, err = calib.ReadPrompts(s.prompts); err != nil {
			return err
		}
	}
	c, err := j.measure(ctx, method)
	if err != nil {
		return err
	}
	return json.NewEncoder(out).Encode(c)
}

func (j *job) measure(ctx context.Context, method *method) (*cost, error) {
	if j.profile != "" {
		f, err := os.Create(j.profile)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		if err := pprof.StartCPUProfile(f); err != nil {
			return nil, err
		}
		defer pprof.StopCPUProfile()
	}
	used, start := processorSeconds(), time.Now()
	passes, note, err := method.run(ctx, j)
	if err != nil {
		return nil, err
	}
	c := &cost{Tokens: passes * j.length, Wall: time.Since(start).Seconds(), CPU: processorSeconds() - used, Peak: peakResident(), Note: note}
	if own, ok := j.m.Dev.(interface{ Peak() int64 }); ok {
		c.Device = own.Peak()
	}
	return c, nil
}

// peakResident is the largest resident set of this process, 0 where the system does not tell. What getrusage tells of a
// process on Linux may be its parent's.
func peakResident() int64 {
	raw, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	for _, line := range strings.Split(string(raw), "\n") {
		if f := strings.Fields(line); len(f) == 3 && f[0] == "VmHWM:" && f[2] == "kB" {
			n, err := strconv.ParseInt(f[1], 10, 64)
			if err != nil {
				return 0
			}
			return n << 10
		}
	}
	return 0
}
