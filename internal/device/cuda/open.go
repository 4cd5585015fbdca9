//go:build cuda

package cuda

import (
	"fmt"
	"runtime"

	cu "gorgonia.org/cu"
)

// Options say which device is opened and how.
type Options struct {
	Ordinal   int   // of the device, as the driver counts them
	BF16      bool  // MatMulNT and attention round their operands to bfloat16
	MaxMemory int64 // bytes of device memory to use; 0 for what is free, less a reserve
	Threads   int   // of the host; 0 for as many as Go may run at once
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
