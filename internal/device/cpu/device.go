// Package cpu is the reference device: plain memory and the kernels of internal/num on a pool of threads.
package cpu

import (
	"runtime"

	"modelpress/internal/device"
	"modelpress/internal/num"
)

// Device runs every operation at once, on the calling goroutine and up to Threads-1 others. It is safe for concurrent
// use as long as calls do not share buffers that one of them writes.
type Device struct {
	threads int
	bf16    bool // MatMulNT multiplies in bfloat16
}

var _ device.Device = (*Device)(nil)

// New returns a device of that many threads; 0 or less means as many as Go may run at once.
func New(threads int) *Device {
	if threads <= 0 {
		threads = runtime.GOMAXPROCS(0)
	}
	return &Device{threads: threads}
}

// Class names the kernels that fix the bits of results.
func (d *Device) Class() string {
	if d.bf16 {
		return bf16Class()
	}
	return "cpu-" + num.Class()
}

// Threads returns the number of threads.
func (d *Device) Threads() int { return d.threads }

// For runs body(0), …, body(n-1) and waits. Which thread runs which index is left open, so bodies must write to places
// of their own. A panic in a body is raised again in the caller once all threads have stopped.
func (d *Device) For(n int, body func(i int)) { device.Loop(d.threads, n, body) }

// rows runs body over [0, n) in pieces of about grain elements of work, where each row costs cost. The pieces depend on
// the sizes alone.
func (d *Device) rows(n, cost int, body func(lo, hi int)) {
	const grain = 1 << 14
	step := max(1, grain/max(1, cost))
	if n <= step {
		body(0, n)
		return
	}
	d.For((n+step-1)/step, func(i int) { body(i*step, min(n, (i+1)*step)) })
}
