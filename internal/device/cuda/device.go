//go:build cuda

package cuda

import (
	"fmt"
	"runtime"
	"sync"

	cu "gorgonia.org/cu"

	"modelpress/internal/device"
)

// Options say which device is opened and how.
type Options struct {
	Ordinal   int   // of the device, as the driver counts them
	BF16      bool  // MatMulNT and attention round their operands to bfloat16
	MaxMemory int64 // bytes of device memory to use; 0 for what is free, less a reserve
	Threads   int   // of the host; 0 for as many as Go may run at once
}

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

// Open opens a device. The error is, or wraps, ErrNoDriver, ErrNoDevice or an *Error.
func Open(o Options) (*Device, error) {
	if err := openDriver(); err != nil {
		return nil, err
	}
	info, err := inspect(o.Ordinal)
	if err != nil {
		return nil, err
	}
	if info.Major < 8 {
		return nil, fmt.Errorf("%w: %s has compute capability %d.%d, and 8.0 is the least", ErrNoDevice, info.Name, info.Major, info.Minor)
	}
	d := &Device{ordinal: o.Ordinal, info: info, bf16: o.BF16, threads: o.Threads, modules: map[string]*module{}, pieces: pieceSizes{weightPiece, rowsPiece}}
	if d.threads <= 0 {
		d.threads = runtime.GOMAXPROCS(0)
	}
	if d.dev, err = cu.GetDevice(o.Ordinal); err != nil {
		return nil, failed("cuDeviceGet", err, "")
	}
	if d.ctx, err = d.dev.RetainPrimaryCtx(); err != nil {
		return nil, failed("cuDevicePrimaryCtxRetain", err, "")
	}
	if err := d.start(o.MaxMemory); err != nil {
		d.Close()
		return nil, err
	}
	return d, nil
}

// start makes what operations need.
func (d *Device) start(budget int64) error {
	restore, err := d.enter()
	if err != nil {
		return err
	}
	defer restore()
	if d.compute, err = newTimeline(); err != nil {
		return err
	}
	if d.copies, err = newTimeline(); err != nil {
		return err
	}
	d.compute.other, d.copies.other = d.copies, d.compute
	if d.uploads, err = newSlots(uploadSlots); err != nil {
		return err
	}
	if d.down, err = newDownloads(); err != nil {
		return err
	}
	if d.tables, err = newRing(); err != nil {
		return err
	}
	if d.blas, err = openBlas(d.compute.stream); err != nil {
		return err
	}
	if budget <= 0 {
		free, total, err := cu.MemInfo()
		if err != nil {
			return failed("cuMemGetInfo", err, "")
		}
		budget = free - max(reserveBytes, total/64)
	}
	if budget < leastBudget {
		return &Error{Op: "cuMemGetInfo", Code: codeNoMemory, Detail: fmt.Sprintf("%d bytes to use", budget)}
	}
	d.arena = newArena(&driverMemory{d}, budget)
	d.class = d.className()
	return nil
}

// reserveBytes is what is left to the driver, for the code of kernels and what they keep in local memory. A device with a smaller budget than
// leastBudget is of no use.
const (
	reserveBytes = 768 << 20
	leastBudget  = 32 << 20
)

// className names what fixes the bits of results. cuBLAS promises the same ones for one version of it on devices of the same architecture
// and number of multiprocessors (cuBLAS Library, section 2.1.4, Results reproducibility).
func (d *Device) className() string {
	numbers, multiply := "f32", "own"
	if d.bf16 {
		numbers = "bf16"
	}
	if d.blas != nil {
		multiply = "cublas" + d.blas.version
	}
	return fmt.Sprintf("cuda-%s-sm_%d%d-%d-%s", numbers, d.info.Major, d.info.Minor, d.info.Multiprocessors, multiply)
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

// driverMemory is the driver as the source of slabs.
type driverMemory struct{ d *Device }

func (m *driverMemory) alloc(bytes int64) (ptr, error) {
	p, err := cu.MemAlloc(bytes)
	if err != nil {
		return 0, failed("cuMemAlloc", err, fmt.Sprintf("%d bytes", bytes))
	}
	return ptr(p), nil
}

// free waits for all work before it takes memory away.
func (m *driverMemory) free(p ptr) error {
	if err := cu.Synchronize(); err != nil {
		return failed("cuCtxSynchronize", err, "")
	}
	return failed("cuMemFree", cu.MemFree(cu.DevicePtr(p)), "")
}
