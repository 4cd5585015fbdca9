package main

import (
	"fmt"
	"io"
	"runtime"
	"time"

	"modelpress/internal/device/cpu"
	"modelpress/internal/num"
)

// request is one line of the protocol that peers.cc describes.
type request struct {
	op             string
	m, n, k        int
	threads, times int
	path           string
}

// job is what a request asks for: run does it, value is a number of its result.
type job struct {
	run   func() error
	value func() float64
	close func()
}

// answer is our side of the protocol, with the op "peak" besides: operations per second in registers.
func answer(in io.Reader, out io.Writer) error {
	for {
		var q request
		if _, err := fmt.Fscan(in, &q.op, &q.m, &q.n, &q.k, &q.threads, &q.times, &q.path); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		if err := q.answer(out); err != nil {
			return err
		}
	}
}

func (q *request) answer(out io.Writer) error {
	if q.op == "peak" {
		runtime.GC()
		var flops float64
		wall, busy := timed(func() { flops = num.Peak(q.threads, cpu.New(q.threads).For) })
		_, err := fmt.Fprintln(out, flops/wall, flops/busy, 0)
		return err
	}
	j, err := q.job()
	if err != nil {
		return err
	}
	if j == nil {
		_, err := fmt.Fprintln(out, "none")
		return err
	}
	defer j.close()
	if q.op != "gptq" { // which takes long and touches all its memory anyway
		err = j.run()
	}
	runtime.GC() // what came before is not to be cleared in the time that counts
	wall, busy := timed(func() {
		for i := 0; i < q.times && err == nil; i++ {
			err = j.run()
		}
	})
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(out, wall/float64(q.times), busy/float64(q.times), j.value())
	return err
}

// job returns the job of a request, nil where there is none of that name.
func (q *request) job() (*job, error) {
	switch q.op {
	case "forward":
		return forwardJob(cpu.New(q.threads), q)
	case "forwardbf16":
		return forwardJob(cpu.NewBF16(q.threads), q)
	case "gptq":
		return gptqJob(q), nil
	}
	return productJob(q), nil
}

// productJob is a matrix product. Ours on bfloat16 always rounds the activations in the time that counts.
func productJob(q *request) *job {
	par, m, n, k := cpu.New(q.threads).For, q.m, q.n, q.k
	x, w, y := pattern(m*k, 1), pattern(n*k, 2), make([]float32, m*n)
	j := &job{value: func() float64 { return float64(y[m/2*n+n/2]) }, close: func() {}}
	switch q.op {
	case "nt":
		j.run = func() error { num.GemmNT(y, n, x, k, num.F32Weights(w, k), m, n, k, 0, par); return nil }
	case "nn":
		j.run = func() error { num.GemmNN(y, n, x, k, w, n, m, n, k, 1, 0, par); return nil }
	case "bf16", "bf16r":
		packed := num.PackBF16(num.F32Weights(w, k), n, k, par)
		j.run = func() error { num.GemmPacked(y, n, x, k, packed, m, 0, par); return nil }
	default:
		return nil
	}
	return j
}

// timed runs f and returns the seconds that it took by the clock and of processor time.
func timed(f func()) (wall, busy float64) {
	start, before := time.Now(), processorSeconds()
	f()
	return time.Since(start).Seconds(), processorSeconds() - before
}

// pattern returns n multiples of 1/64 in [-1, 1), the same as in peers.cc and peers.py.
func pattern(n int, seed uint32) []float32 {
	v := make([]float32, n)
	for i := range v {
		seed = seed*1664525 + 1013904223
		v[i] = float32(int(seed>>25)-64) / 64
	}
	return v
}
