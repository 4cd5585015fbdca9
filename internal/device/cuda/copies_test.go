//go:build cuda

package cuda

import (
	"math/rand/v2"
	"slices"
	"testing"

	"modelpress/internal/device"
)

// Uploads of many threads on buffers of their own, while operations run.
func TestUploadsBeside(t *testing.T) {
	d := open(t, Options{Threads: 4})
	const n = 50000
	base, err := d.Alloc(device.F32, n)
	if err != nil {
		t.Fatal(err)
	}
	ones := make([]float32, n)
	for i := range ones {
		ones[i] = 1
	}
	d.Upload(base, 0, ones)
	bufs := make([]device.Buf, 12)
	done := make(chan bool)
	go func() {
		defer close(done)
		d.For(len(bufs), func(i int) {
			b, err := d.Alloc(device.F32, n)
			if err != nil {
				panic(err)
			}
			v := make([]float32, n)
			for j := range v {
				v[j] = float32(i)
			}
			d.Upload(b, 0, v)
			bufs[i] = b
		})
	}()
	for range 10 {
		d.Add(base, base, n)
	}
	<-done
	for i, b := range bufs {
		d.Add(b, base, n)
		got := make([]float32, n)
		d.Download(got, b, 0)
		if want := float32(i) + 1024; got[0] != want || got[n-1] != want {
			t.Errorf("buffer %d has %v and %v, want %v", i, got[0], got[n-1], want)
		}
	}
}

// Pieces of pinned memory: values of several of them arrive in their places, in every kind.
func TestLongCopies(t *testing.T) {
	d := open(t, Options{})
	for _, kind := range []device.Kind{device.F32, device.BF16, device.F16} {
		n := 3*slotBytes/kind.Size() + 12345
		b, err := d.Alloc(kind, n)
		if err != nil {
			t.Fatal(err)
		}
		v := make([]float32, n-1)
		for i := range v {
			v[i] = float32(i*7%251) / 4 // exact in all kinds
		}
		d.Upload(b, 1, v)
		got := make([]float32, n)
		d.Download(got, b, 0)
		if got[0] != 0 || !slices.Equal(got[1:], v) {
			t.Errorf("kind %d: other values", kind)
		}
		b.Free()
	}
}

// Tables go around their ring, in parts where they are long, and do not wait for what is queued.
func TestTables(t *testing.T) {
	d := open(t, Options{})
	rng := rand.New(rand.NewPCG(3, 3))
	for round := range 40 {
		var src [][]byte
		var dst []ptr
		c := d.begin("test")
		for range 1 + rng.IntN(4) {
			b := make([]byte, rng.IntN(1<<(4+round%20)))
			for i := range b {
				b[i] = byte(rng.Uint32())
			}
			src, dst = append(src, slices.Clone(b)), append(dst, c.table(b))
			clear(b)
		}
		for i, want := range src {
			got := make([]byte, len(want))
			c.fetch(got, dst[i])
			if !slices.Equal(got, want) {
				t.Fatalf("round %d: table %d of %d bytes", round, i, len(want))
			}
		}
		c.end()
	}
}
