//go:build cuda

package cuda

import (
	"bytes"
	"fmt"
	"sync"
	"sync/atomic"

	"modelpress/internal/device"
)

// rotary remembers the tables of rotary embeddings that were uploaded last. A table is known again by its values, which are compared
// with a copy on the host, so that one that was changed in place is another one.
//
// Memory: rotaryTables tables of at most rotaryBytes in all, on the device and on the host.
type rotary struct {
	mu   sync.Mutex
	list []*rotaryTable // the last used one first
}

type rotaryTable struct {
	host []float32 // cosines, then sines, as many
	dev  device.Buf
}

const (
	rotaryTables = 8
	rotaryBytes  = 256 << 20
)

// RoPE rotates x [T, heads*K] in place in the half-split layout: pair (j, j+K/2) of each head by the angle whose cosine and sine stand
// at [t, j].
func (d *Device) RoPE(x device.Buf, t, heads, k int, cos, sin []float32) {
	half := k / 2
	if t < 0 || heads < 0 || k < 0 || k%2 != 0 || len(cos) < t*half || len(sin) < t*half {
		panic(fmt.Sprintf("cuda: RoPE: tables of %d and %d for %d positions of head dim %d", len(cos), len(sin), t, k))
	}
	if t*heads*half == 0 {
		return
	}
	n := t * half
	d.rotary.mu.Lock() // also keeps the table from being dropped before it is used
	defer d.rotary.mu.Unlock()
	known, at := d.rotaryTable(cos[:n], sin[:n])
	c := d.begin("RoPE")
	defer c.end()
	to := c.out(x, t*heads*k)
	var cosine, sine ptr
	if known != nil {
		cosine = c.in(known, 2*at)
		sine = cosine + ptr(4*at)
	} else {
		cosine, sine = c.table(floatBytes(cos[:n])), c.table(floatBytes(sin[:n]))
	}
	// As many rows at once as the kernel can number.
	most := max(1, (1<<30)/(heads*ceilDiv(half, 4)))
	for lo := 0; lo < t; lo += most {
		rows := min(most, t-lo)
		blocks := min(ceilDiv(rows*heads*ceilDiv(half, 4), rowThreads), maxBlocks)
		c.launch("rope", "rope", [3]int{blocks, 1, 1}, [3]int{rowThreads, 1, 1}, 0,
			to+ptr(4*lo*heads*k), cosine+ptr(4*lo*half), sine+ptr(4*lo*half), rows, heads, half)
	}
}

// rotaryTable returns a buffer of cosines and sines, and where the sines begin; nil where they are too large to be kept. The caller holds
// rotary.mu.
func (d *Device) rotaryTable(cos, sin []float32) (device.Buf, int) {
	r := &d.rotary
	for i, e := range r.list {
		if n := len(e.host) / 2; n >= len(cos) && d.equal(e.host[:len(cos)], cos) && d.equal(e.host[n:][:len(sin)], sin) {
			copy(r.list[1:i+1], r.list[:i])
			r.list[0] = e
			return e.dev, n
		}
	}
	if 8*len(cos) > rotaryBytes/2 {
		return nil, 0
	}
	for len(r.list) >= rotaryTables || r.bytes()+8*len(cos) > rotaryBytes {
		last := len(r.list) - 1
		r.list[last].dev.Free()
		r.list = r.list[:last]
	}
	dev, err := d.Alloc(device.F32, 2*len(cos))
	if err != nil {
		return nil, 0
	}
	host := append(append(make([]float32, 0, 2*len(cos)), cos...), sin...)
	d.Upload(dev, 0, host)
	r.list = append([]*rotaryTable{{host, dev}}, r.list...)
	return dev, len(cos)
}

func (r *rotary) bytes() (n int) {
	for _, e := range r.list {
		n += 4 * len(e.host)
	}
	return n
}

// equal compares two slices of one length bit by bit, large ones on several threads.
func (d *Device) equal(a, b []float32) bool {
	const piece = 1 << 16
	var differ atomic.Bool
	d.For(ceilDiv(len(a), piece), func(i int) {
		lo, hi := i*piece, min(len(a), (i+1)*piece)
		if !differ.Load() && !bytes.Equal(floatBytes(a[lo:hi]), floatBytes(b[lo:hi])) {
			differ.Store(true)
		}
	})
	return !differ.Load()
}
