//go:build cuda

package cuda

import (
	"runtime"
	"sync"

	cu "gorgonia.org/cu"

	"modelpress/internal/device"
)

// Device is a GPU. It is safe for concurrent use as long as calls do not share buffers that one of them writes; operations run one
// after the other, while uploads go on beside them.
//
// Memory of the device is at most Options.MaxMemory for buffers and scratch (see arena) and, beyond it, the 32 MiB of workspace of
// cuBLAS and what the driver needs for the context and the code of kernels. Pinned memory of the host is 128 MiB: 8 pieces of 8 MiB for
// uploads, 4 for downloads, and 32 MiB for the tables of operations.
type Device struct {
	ordinal int
	dev     cu.Device
	ctx     cu.CUContext
	info    Info
	bf16    bool
	threads int
	class   string
	pieces  pieceSizes

	work    sync.Mutex         // held by the operation that runs
	modules map[string]*module // guarded by work
	tables  *ring              // guarded by work
	down    *downloads         // guarded by work
	blas    *blas              // guarded by work; nil where there is no cuBLAS
	shared  int                // guarded by work; shared memory of a block, 0 until it is asked for
	blocks  int                // guarded by work; blocks that statistics are spread over, 0 for 1024

	uploads chan *slot

	order   sync.Mutex // guards what follows and the state of buffers; taken after work
	compute *timeline
	copies  *timeline
	arena   *arena
	rounded rounded
	closed  bool
}

// enter ties the goroutine to its thread and makes the device current on it, until restore.
func (d *Device) enter() (restore func(), err error) {
	runtime.LockOSThread()
	if err := cu.SetCurrentContext(d.ctx); err != nil {
		runtime.UnlockOSThread()
		return nil, failed("cuCtxSetCurrent", err, "")
	}
	return runtime.UnlockOSThread, nil
}

// Class names what fixes the bits of results.
func (d *Device) Class() string { return d.class }

// Threads is the number of host threads that For uses.
func (d *Device) Threads() int { return d.threads }

// For runs body(0..n-1) on threads of the host and waits.
func (d *Device) For(n int, body func(i int)) { device.Loop(d.threads, n, body) }

// Host returns nil: the host cannot address the memory of the device.
func (d *Device) Host(device.Buf) []float32 { return nil }

// Room implements device.Remote: the bytes of device memory that are free within the budget.
func (d *Device) Room() int64 {
	d.order.Lock()
	defer d.order.Unlock()
	room := d.arena.budget - d.arena.used
	if d.rounded.store != nil {
		room += d.rounded.block.bytes
	}
	return room
}

// Used is the number of bytes of device memory in use, Peak the most that it has been.
func (d *Device) Used() int64 {
	d.order.Lock()
	defer d.order.Unlock()
	return d.arena.used
}

// Peak is the most that Used has been.
func (d *Device) Peak() int64 {
	d.order.Lock()
	defer d.order.Unlock()
	return d.arena.peak
}

// Close waits for what is queued and gives everything back. Buffers must not be used after it.
func (d *Device) Close() {
	d.work.Lock()
	defer d.work.Unlock()
	d.order.Lock()
	defer d.order.Unlock()
	if d.closed {
		return
	}
	d.closed = true
	if restore, err := d.enter(); err == nil {
		_ = cu.Synchronize()
		d.release()
		restore()
	}
	_ = d.dev.ReleasePrimaryCtx()
}

func (d *Device) release() {
	for _, m := range d.modules {
		_ = m.mod.Unload()
	}
	if d.blas != nil {
		d.blas.close()
	}
	closeSlots(d.uploads)
	if d.down != nil {
		d.down.close()
	}
	if d.tables != nil {
		d.tables.close()
	}
	if d.arena != nil {
		d.arena.close()
	}
	for _, l := range []*timeline{d.compute, d.copies} {
		if l != nil {
			l.close()
		}
	}
}
