//go:build cuda

package cuda

import (
	"math/rand/v2"
	"slices"
	"testing"

	"modelpress/internal/device"
)

// held is a buffer and what it must hold.
type held struct {
	buf  device.Buf
	want []float32
}

// program runs random operations, in an order that only the device's own care keeps right: uploads go on beside the rest, and memory is
// freed while work that uses it is queued and given out again.
type program struct {
	t    *testing.T
	d    *Device
	rng  *rand.Rand
	live []held
}

// Sizes are above and below what is worth a mark of its own, in a budget for a few of them.
func (p *program) alloc() {
	n := 1000 + p.rng.IntN(400000)
	b, err := p.d.Alloc(device.F32, n)
	if err != nil {
		p.t.Fatal(err)
	}
	p.live = append(p.live, held{b, make([]float32, n)})
}

func (p *program) step() {
	if len(p.live) < 3 || len(p.live) < 12 && p.rng.IntN(4) == 0 {
		p.alloc()
	}
	x, y := p.live[p.rng.IntN(len(p.live))], p.live[p.rng.IntN(len(p.live))]
	n := min(len(x.want), len(y.want))
	off := p.rng.IntN(n)
	v := make([]float32, 1+p.rng.IntN(n-off))
	for i := range v {
		v[i] = float32(p.rng.IntN(1000))
	}
	switch p.rng.IntN(8) {
	case 0: // all of it
		full := make([]float32, len(x.want))
		copy(full, v)
		p.d.Upload(x.buf, 0, full)
		copy(x.want, full)
	case 1:
		p.d.Upload(x.buf, off, v)
		copy(x.want[off:], v)
	case 2:
		p.d.UploadRaw(p.d.Slice(x.buf, off, len(v)), 0, floatBytes(v))
		copy(x.want[off:], v)
	case 3, 4:
		p.d.Add(x.buf, y.buf, n)
		for i, v := range y.want[:n] {
			x.want[i] += v
		}
	case 5:
		if x.buf != y.buf {
			p.d.Copy(x.buf, off, y.buf, 0, len(v))
			copy(x.want[off:], y.want[:len(v)])
		}
	case 6:
		p.d.Zero(x.buf, off, len(v))
		clear(x.want[off : off+len(v)])
	default:
		i := p.rng.IntN(len(p.live))
		if p.rng.IntN(2) == 0 {
			p.check(p.live[i])
		}
		p.live[i].buf.Free()
		p.live = slices.Delete(p.live, i, i+1)
	}
}

func (p *program) check(h held) {
	p.t.Helper()
	got := make([]float32, len(h.want))
	p.d.Download(got, h.buf, 0)
	for i, w := range h.want {
		if got[i] != w {
			p.t.Fatalf("[%d] of %d is %v, want %v", i, len(got), got[i], w)
		}
	}
}

// Whenever streams do their work, results are those of one step after the other.
func TestOrder(t *testing.T) {
	for i, streams := range []string{"lazy", "ahead", "eager", "random:1", "random:2"} {
		t.Run(streams, func(t *testing.T) {
			t.Setenv("MODELPRESS_EMU_STREAMS", streams)
			p := &program{t: t, d: open(t, Options{MaxMemory: 36 << 20}), rng: rand.New(rand.NewPCG(uint64(i), 1))}
			for range 150 {
				p.step()
			}
			for _, h := range p.live {
				p.check(h)
				h.buf.Free()
			}
			if used := p.d.Used(); used != 0 || p.d.Peak() < 1<<20 {
				t.Errorf("%d bytes remain in use, at most %d were", used, p.d.Peak())
			}
		})
	}
}

// Memory that is freed and given out again is left to what was queued before: an operation still reads the old values, and an upload that
// nobody waited for does not reach the new owner.
func TestReuse(t *testing.T) {
	const n = 300000
	value := func(v float32) []float32 {
		x := make([]float32, n)
		for i := range x {
			x[i] = v
		}
		return x
	}
	for _, streams := range []string{"lazy", "ahead", "eager", "random:1", "random:2", "random:3"} {
		t.Run(streams, func(t *testing.T) {
			t.Setenv("MODELPRESS_EMU_STREAMS", streams)
			d := open(t, Options{})
			alloc := func(v ...float32) held {
				b, err := d.Alloc(device.F32, n)
				if err != nil {
					t.Fatal(err)
				}
				if len(v) > 0 {
					d.Upload(b, 0, value(v[0]))
				}
				return held{b, value(0)}
			}
			p := &program{t: t, d: d}
			y := alloc()
			for round := range 4 {
				x := alloc(1)
				d.Add(y.buf, x.buf, n)
				x.buf.Free()
				z := alloc(2) // where x was
				unread := alloc(3)
				unread.buf.Free()
				w := alloc() // where unread was
				d.Add(w.buf, z.buf, n)
				p.check(held{w.buf, value(2)})
				p.check(held{z.buf, value(2)})
				d.Upload(z.buf, 0, value(4))
				p.check(held{w.buf, value(2)})
				p.check(held{y.buf, value(float32(round + 1))})
				z.buf.Free()
				w.buf.Free()
			}
			if d.Peak() > 5*4*n {
				t.Errorf("%d bytes in use at most: memory was not used again", d.Peak())
			}
		})
	}
}
