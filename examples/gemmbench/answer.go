package main

import (
	"fmt"
	"io"
	"runtime"
	"time"

	"modelpress/internal/device/cpu"
	"modelpress/internal/num"
)

// answer is our side of the protocol that peers.cc describes, with the op "peak" besides: operations per second in
// registers.
func answer(in io.Reader, out io.Writer) error {
	for {
		var op string
		var m, n, k, threads, times int
		if _, err := fmt.Fscan(in, &op, &m, &n, &k, &threads, &times); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		par := cpu.New(threads).For
		if op == "peak" {
			var flops float64
			wall, busy := timed(func() { flops = num.Peak(threads, par) })
			fmt.Fprintln(out, flops/wall, flops/busy, 0)
			continue
		}
		x, w, y := pattern(m*k, 1), pattern(n*k, 2), make([]float32, m*n)
		product := prepare(op, y, x, w, m, n, k, par)
		if product == nil {
			fmt.Fprintln(out, "none")
			continue
		}
		runtime.GC() // what the matrices before left behind is not to be cleared in the time that counts
		product()
		wall, busy := timed(func() {
			for range times {
				product()
			}
		})
		fmt.Fprintln(out, wall/float64(times), busy/float64(times), y[m/2*n+n/2])
	}
}

// prepare returns the product to time, nil where there is none of that name. Ours on bfloat16 always rounds the
// activations in the time that counts.
func prepare(op string, y, x, w []float32, m, n, k int, par num.Par) func() {
	switch op {
	case "nt":
		return func() { num.GemmNT(y, n, x, k, num.F32Weights(w, k), m, n, k, 0, par) }
	case "nn":
		return func() { num.GemmNN(y, n, x, k, w, n, m, n, k, 1, 0, par) }
	case "bf16", "bf16r":
		packed := num.PackBF16(num.F32Weights(w, k), n, k, par)
		return func() { num.GemmPacked(y, n, x, k, packed, m, 0, par) }
	}
	return nil
}

// timed runs f and returns the seconds that it took by the clock and of processor time.
func timed(f func()) (wall, busy float64) {
	start, before := time.Now(), processorSeconds()
	f()
	return time.Since(start).Seconds(), processorSeconds() - before
}

// pattern returns n multiples of 1/64 in [-1, 1), the same as in peers.cc.
func pattern(n int, seed uint32) []float32 {
	v := make([]float32, n)
	for i := range v {
		seed = seed*1664525 + 1013904223
		v[i] = float32(int(seed>>25)-64) / 64
	}
	return v
}
