//go:build cuda

package cuda

import (
	"unsafe"

	cu "gorgonia.org/cu"

	"modelpress/internal/device"
	"modelpress/internal/num"
)

// downloads are pieces of pinned memory that copies to the host go through.
type downloads struct{ slots [downloadSlots]*slot }

func newDownloads() (*downloads, error) {
	w := &downloads{}
	for i := range w.slots {
		s, err := newSlot()
		if err != nil {
			w.close()
			return nil, err
		}
		w.slots[i] = s
	}
	return w, nil
}

func (w *downloads) close() {
	for _, s := range w.slots {
		if s != nil {
			s.close()
		}
	}
}

// Download copies src[off:off+len(dst)] to dst as f32, once all that was queued before is done.
func (d *Device) Download(dst []float32, src device.Buf, off int) {
	c := d.begin("Download")
	defer c.end()
	o := d.own(c.op, src)
	o.check(c.op, off, len(dst))
	size := o.kind.Size()
	from := c.use(o, false) + ptr(off*size)
	if o.kind == device.F32 {
		c.fetch(floatBytes(dst), from)
		return
	}
	widen := num.BF16ToF32
	if o.kind == device.F16 {
		widen = num.F16ToF32
	}
	c.receive(from, len(dst)*size, func(piece []byte, at int) { widen(dst[at/size:(at+len(piece))/size], halves(piece)) })
}

// fetch copies bytes of the device to the host once all that was queued before is done.
func (c *call) fetch(dst []byte, src ptr) {
	c.receive(src, len(dst), func(piece []byte, at int) { copy(dst[at:], piece) })
}

// receive gets n bytes from src on. As they arrive, take is called with pieces of them and with where they belong, on many threads.
func (c *call) receive(src ptr, n int, take func(piece []byte, at int)) {
	d := c.d
	count := (n + slotBytes - 1) / slotBytes
	for i := range count + downloadSlots - 1 {
		if i < count {
			s := d.down.slots[i%downloadSlots]
			at := i * slotBytes
			err := cu.MemcpyDtoHAsync(unsafe.Pointer(&s.data[0]), cu.DevicePtr(src)+cu.DevicePtr(at), int64(min(n-at, slotBytes)), d.compute.stream)
			c.fail(failed("cuMemcpyDtoHAsync", err, ""))
			c.fail(s.record(d.compute.stream))
		}
		if k := i - (downloadSlots - 1); k >= 0 {
			s := d.down.slots[k%downloadSlots]
			c.fail(s.wait())
			d.spread(s.data[:min(n-k*slotBytes, slotBytes)], k*slotBytes, take)
		}
	}
}

// spread calls take for parts of a piece on the threads of the host.
func (d *Device) spread(piece []byte, at int, take func(part []byte, at int)) {
	const part = 1 << 20
	d.For((len(piece)+part-1)/part, func(i int) { take(piece[i*part:min(len(piece), (i+1)*part)], at+i*part) })
}
