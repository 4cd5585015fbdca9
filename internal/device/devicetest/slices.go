package devicetest

import (
	"testing"

	"modelpress/formats"
	"modelpress/internal/device"
)

// slices: a part of a buffer is the same memory, also of a part and as an operand, and outlives neither its Free nor that of others;
// Copy and Zero touch what they name and nothing else.
func (s *suite) slices(t *testing.T) {
	const n = 1000
	for _, kind := range kinds {
		b, v := s.buf(t, kind, values(n, 80))
		p := s.d.Slice(b, 10, 500)
		q := s.d.Slice(p, 90, 300)
		if p.Len() != 500 || p.Kind() != kind || q.Len() != 300 {
			t.Fatalf("slices of %d and %d, kind %d", p.Len(), q.Len(), p.Kind())
		}
		same(t, s.read(q), v[100:400])
		_, other := s.buf(t, kind, values(20, 81))
		s.d.Upload(q, 5, other)
		copy(v[105:], other)
		s.d.Upload(b, 200, other[:7])
		copy(v[200:], other[:7])
		same(t, s.read(q), v[100:400])
		same(t, s.read(b), v)
		if h := s.d.Host(b); h != nil {
			same(t, s.d.Host(q), h[100:400])
		}
		q.Free()
		p.Free()
		same(t, s.read(b), v)
		s.copying(t, b, v)
	}
}

// copying: Copy between buffers and within one, Zero at offsets. b holds v.
func (s *suite) copying(t *testing.T, b device.Buf, v []float32) {
	t.Helper()
	c, w := s.buf(t, b.Kind(), values(70, 82))
	s.d.Copy(b, 3, c, 1, 60)
	copy(v[3:], w[1:61])
	s.d.Copy(b, 900, b, 0, 100)
	copy(v[900:], v[:100])
	s.d.Copy(s.d.Slice(b, 500, 100), 50, s.d.Slice(c, 60, 10), 0, 10)
	copy(v[550:], w[60:])
	s.d.Copy(b, 0, c, 0, 0)
	s.d.Zero(b, 7, 31)
	clear(v[7:38])
	s.d.Zero(s.d.Slice(b, 640, 8), 1, 7)
	clear(v[641:648])
	s.d.Zero(b, len(v), 0)
	same(t, s.read(b), v)
	same(t, s.read(c), w)
}

// sliced: products and other operations on parts of buffers are those on buffers of their own, wherever the parts begin.
func (s *suite) sliced(t *testing.T) {
	for _, kind := range kinds {
		for _, at := range []int{0, 4, 3} {
			s.slicedProducts(t, kind, at)
		}
	}
	for _, at := range []int{0, 100, 7} {
		x, xs := s.buf(t, device.F32, values(400, 85))
		s.d.Add(s.d.Slice(x, 200+at, 100), s.d.Slice(x, at, 100), 100)
		for i := range 100 {
			xs[200+at+i] += xs[at+i]
		}
		same(t, s.read(x), xs)
		part, _ := s.buf(t, device.F32, xs[at:at+300])
		s.elementwiseOn(t, part, 300)
		s.elementwiseOn(t, s.d.Slice(x, at, 300), 300)
		same(t, s.read(x)[at:at+300], s.read(part))
		same(t, s.read(x)[at+300:], xs[at+300:])
	}
}

// elementwiseOn changes x [n/30, 30] in place by norms, activations and the like.
func (s *suite) elementwiseOn(t *testing.T, x device.Buf, n int) {
	t.Helper()
	rows, d := n/30, 30
	w, _ := s.buf(t, device.F32, values(d, 89))
	y := s.out(t, n)
	s.d.RMSNorm(x, x, w, rows, d, float32(d), 1e-5)
	s.d.LayerNorm(y, x, w, w, rows, d, float32(d), 1e-5)
	s.d.SiLUMul(x, x, y, n)
	s.d.AddBias(x, w, rows, d)
	s.d.GELU(x, x, n, true)
	s.d.ScaleColumns(x, x, values(d, 90), rows, d)
	s.d.RMSNormBack(y, x, x, w, rows, d, float32(d), 1e-5)
	s.d.Add(x, y, n)
}

// slicedProducts multiplies parts that begin at a place. A library may take another kernel where that is no multiple of 16 bytes.
func (s *suite) slicedProducts(t *testing.T, kind device.Kind, at int) {
	t.Helper()
	const m, n, k = 9, 24, 40
	w, ws := s.buf(t, kind, values(3*n*k, 83))
	x, xs := s.buf(t, device.F32, values(2*m*k, 84))
	alone, _ := s.buf(t, kind, ws[n*k+at:][:n*k])
	row, _ := s.buf(t, device.F32, xs[at:][:m*k])
	equal := same
	if at%4 != 0 {
		equal = func(t *testing.T, got, want []float32) { t.Helper(); near(t, "unaligned", got, doubles(want), 1e-4) }
	}
	want, got := s.out(t, m*n), s.out(t, 2*m*n)
	y, part := s.d.Slice(got, 3*at, m*n), s.d.Slice(w, n*k+at, n*k)
	for range 2 { // also after the device has multiplied by all of them
		s.d.MatMulNT(want, row, alone, m, n, k, 0)
		s.d.MatMulNT(y, s.d.Slice(x, at, m*k), part, m, n, k, 0)
		equal(t, s.read(y), s.result(t, want, m*n))
		all := s.out(t, m*3*n)
		s.d.MatMulNT(all, x, w, m, 3*n, k, 0)
		same(t, s.read(w), ws)
	}
	for i, g := range s.result(t, got, 2*m*n) {
		if (i < 3*at || i >= 3*at+m*n) && g != 0 {
			t.Fatalf("value %v beside the result", g)
		}
	}
	back, there := s.out(t, m*k), s.out(t, 2*m*k)
	s.d.MatMulNN(back, want, alone, m, n, k, 0)
	s.d.MatMulNN(s.d.Slice(there, 5*at, m*k), y, part, m, n, k, 0)
	equal(t, s.read(there)[5*at:5*at+m*k], s.result(t, back, m*k))
	rows := s.out(t, 2*k)
	s.d.Gather(s.d.Slice(rows, at, k), part, []int32{3}, k)
	same(t, s.read(rows)[at:at+k], ws[n*k+at+3*k:][:k])
}

func doubles(x []float32) []float64 {
	out := make([]float64, len(x))
	for i, v := range x {
		out[i] = float64(v)
	}
	return out
}

// ahead: buffers are made, filled and given back while operations run on others, and the bits are those without that.
func (s *suite) ahead(t *testing.T) {
	const m, n, k, times = 64, 200, 300, 20
	x, _ := s.buf(t, device.F32, values(m*k, 86))
	w, _ := s.buf(t, device.BF16, values(n*k, 87))
	y := s.out(t, m*n)
	s.d.MatMulNT(y, x, w, m, n, k, 0)
	want := s.result(t, y, m*n)
	in, raw := values(n*k, 88), make([]byte, 2*n*k)
	loaded, failed := make([]device.Buf, 2*times), make(chan error, 1)
	go func() { failed <- s.fill(loaded, in, raw) }()
	for range times {
		s.d.MatMulNT(y, x, w, m, n, k, 0)
	}
	got := s.result(t, y, m*n)
	if err := <-failed; err != nil {
		t.Fatal(err)
	}
	same(t, got, want)
	for i, b := range loaded {
		if b == nil {
			continue
		}
		v := s.read(b)
		for j, g := range v {
			if i%2 == 1 && g != 0 || i%2 == 0 && g != in[j] {
				t.Fatalf("buffer %d: [%d] = %v", i, j, g)
			}
		}
		s.d.MatMulNT(y, x, b, m, n, k, 0)
		b.Free()
	}
}

// pieces: several threads upload parts of one buffer, of values and of bytes, that begin anywhere and leave some elements zero.
func (s *suite) pieces(t *testing.T) {
	const n, step = 50000, 1237
	for _, kind := range kinds {
		raw := make([]byte, n*kind.Size())
		in := values(n, 91)
		if err := formats.Encode(raw, in, dtypes[kind]); err != nil {
			t.Fatal(err)
		}
		b, err := s.d.Alloc(kind, n)
		if err != nil {
			t.Fatal(err)
		}
		want := make([]float32, n)
		if err := formats.Decode(want, raw, dtypes[kind]); err != nil {
			t.Fatal(err)
		}
		s.d.For(n/step, func(i int) {
			lo, hi := i*step+i%3, (i+1)*step
			if i%2 == 0 {
				s.d.Upload(b, lo, in[lo:hi])
			} else {
				s.d.UploadRaw(b, lo, raw[lo*kind.Size():hi*kind.Size()])
			}
		})
		for i := range n / step {
			clear(want[i*step : i*step+i%3])
		}
		clear(want[n/step*step:])
		same(t, s.read(b), want)
		b.Free()
	}
}

// fill makes buffers of values, and of zero bytes over values, and gives every fourth of them back.
func (s *suite) fill(dst []device.Buf, in []float32, raw []byte) error {
	for i := range dst {
		kind := kinds[i%2]
		b, err := s.d.Alloc(kind, len(in))
		if err != nil {
			return err
		}
		s.d.Upload(b, 0, in)
		if i%2 == 1 {
			s.d.UploadRaw(b, 0, raw)
		}
		if i%4 == 3 {
			b.Free()
			continue
		}
		dst[i] = b
	}
	return nil
}

// room: what is allocated is not free any more, and is again after Free.
func (s *suite) room(t *testing.T) {
	d, ok := s.d.(device.Remote)
	if !ok {
		t.Skip("the device has no memory of its own")
	}
	before := d.Room()
	b, err := d.Alloc(device.F32, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	if d.Host(b) != nil {
		t.Error("the host addresses the memory of a remote device")
	}
	with := d.Room()
	b.Free()
	if before-with < 4<<20 || d.Room() != before {
		t.Errorf("room %d, %d with a buffer of 4 MiB, %d after it", before, with, d.Room())
	}
}
