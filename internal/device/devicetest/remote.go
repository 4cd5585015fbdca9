package devicetest

import (
	"fmt"
	"sync/atomic"

	"modelpress/internal/device"
)

// Remote stands for a device with a memory of its own, on a machine without one: it computes as the device behind it, bit for bit,
// and does not let the host at its buffers. It counts what goes over the bus and refuses memory beyond a budget.
type Remote struct {
	device.Device // the one behind it
	// Fail, where not nil, is asked before each operation, transfer and allocation by name: its error is the device's.
	Fail func(op string) error

	budget     int64
	used, peak atomic.Int64
	up, down   atomic.Int64
	ups, downs atomic.Int64
	tables     atomic.Int64
}

// NewRemote returns a device with a budget in bytes that computes as d does.
func NewRemote(d device.Device, budget int64) *Remote { return &Remote{Device: d, budget: budget} }

// Traffic is what went over the bus, and how much memory was in use.
type Traffic struct {
	Up, Down           int64 // bytes of uploads and downloads
	Uploads, Downloads int64 // calls
	Tables             int64 // bytes of tables that came with operations
	Peak, Used         int64 // bytes of buffers
}

// Traffic returns what was counted since Reset.
func (r *Remote) Traffic() Traffic {
	return Traffic{Up: r.up.Load(), Down: r.down.Load(), Uploads: r.ups.Load(), Downloads: r.downs.Load(), Tables: r.tables.Load(),
		Peak: r.peak.Load(), Used: r.used.Load()}
}

// Reset begins counting anew.
func (r *Remote) Reset() {
	for _, c := range []*atomic.Int64{&r.up, &r.down, &r.ups, &r.downs, &r.tables} {
		c.Store(0)
	}
	r.peak.Store(r.used.Load())
}

// Room implements device.Remote.
func (r *Remote) Room() int64 { return r.budget - r.used.Load() }

// remoteBuf is a buffer that only its device knows what to do with.
type remoteBuf struct {
	device.Buf
	d     *Remote
	bytes int64 // 0 for a part of another
	freed bool
}

// Free implements device.Buf. It fails where the memory is in no use any more.
func (b *remoteBuf) Free() {
	if b.freed {
		panic("devicetest: a buffer is freed twice")
	}
	b.freed = b.bytes > 0
	b.d.used.Add(-b.bytes)
	b.Buf.Free()
}

// in returns the buffer of the device behind; nil stays nil.
func in(b device.Buf) device.Buf {
	if b == nil {
		return nil
	}
	c := b.(*remoteBuf)
	if c.freed {
		panic("devicetest: a buffer is used after it was freed")
	}
	return c.Buf
}

// run counts an operation with so many 4-byte values of tables.
func (r *Remote) run(op string, tables int) {
	r.tables.Add(4 * int64(tables))
	if err := r.fail(op); err != nil {
		panic(&device.Fault{Op: op, Err: err})
	}
}

func (r *Remote) fail(op string) error {
	if r.Fail == nil {
		return nil
	}
	return r.Fail(op)
}

// Alloc implements device.Device.
func (r *Remote) Alloc(kind device.Kind, n int) (device.Buf, error) {
	if err := r.fail("Alloc"); err != nil {
		return nil, err
	}
	bytes := int64(n) * int64(kind.Size())
	if n > 0 {
		for {
			used := r.used.Load()
			if bytes > r.budget-used {
				return nil, fmt.Errorf("devicetest: %w: %d bytes, %d of %d are in use", device.ErrMemory, bytes, used, r.budget)
			}
			if r.used.CompareAndSwap(used, used+bytes) {
				break
			}
		}
	}
	b, err := r.Device.Alloc(kind, n)
	if err != nil {
		return nil, err
	}
	for peak := r.peak.Load(); peak < r.used.Load() && !r.peak.CompareAndSwap(peak, r.used.Load()); peak = r.peak.Load() {
	}
	return &remoteBuf{Buf: b, d: r, bytes: bytes}, nil
}

// Upload implements device.Device.
func (r *Remote) Upload(dst device.Buf, off int, src []float32) {
	r.run("Upload", 0)
	r.ups.Add(1)
	r.up.Add(int64(len(src)) * int64(dst.Kind().Size()))
	r.Device.Upload(in(dst), off, src)
}

// UploadRaw implements device.Device.
func (r *Remote) UploadRaw(dst device.Buf, off int, src []byte) {
	r.run("UploadRaw", 0)
	r.ups.Add(1)
	r.up.Add(int64(len(src)))
	r.Device.UploadRaw(in(dst), off, src)
}

// Download implements device.Device.
func (r *Remote) Download(dst []float32, src device.Buf, off int) {
	r.run("Download", 0)
	r.downs.Add(1)
	r.down.Add(int64(len(dst)) * int64(src.Kind().Size()))
	r.Device.Download(dst, in(src), off)
}

// Host implements device.Device: there is no such memory.
func (r *Remote) Host(b device.Buf) []float32 {
	in(b)
	return nil
}

// Slice implements device.Device.
func (r *Remote) Slice(b device.Buf, off, n int) device.Buf {
	return &remoteBuf{Buf: r.Device.Slice(in(b), off, n), d: r}
}
