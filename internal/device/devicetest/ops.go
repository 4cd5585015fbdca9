package devicetest

import (
	"fmt"
	"math"
	"strings"
	"testing"

	"modelpress/formats"
	"modelpress/internal/device"
)

var dtypes = map[device.Kind]formats.DType{device.F32: formats.F32, device.BF16: formats.BF16, device.F16: formats.F16}

// copies: Alloc zeroes, Upload rounds to nearest even, UploadRaw keeps bits, both at offsets; Download at offsets.
func (s *suite) copies(t *testing.T) {
	for _, kind := range kinds {
		for _, n := range []int{0, 1, 7, 1000} {
			b, err := s.d.Alloc(kind, n+2)
			if err != nil {
				t.Fatal(err)
			}
			if b.Len() != n+2 || b.Kind() != kind {
				t.Fatalf("buffer of %d, kind %d", b.Len(), b.Kind())
			}
			v := values(n, 1)
			raw := make([]byte, n*kind.Size())
			if err := formats.Encode(raw, v, dtypes[kind]); err != nil {
				t.Fatal(err)
			}
			want := make([]float32, n)
			if err := formats.Decode(want, raw, dtypes[kind]); err != nil {
				t.Fatal(err)
			}
			for range 2 { // by values, then by bytes
				got := s.read(b)
				if got[0] != 0 || got[n+1] != 0 {
					t.Fatalf("kind %d: edges %v and %v", kind, got[0], got[n+1])
				}
				s.d.Upload(b, 1, v)
				same(t, s.read(b)[1:n+1], want)
				s.d.Upload(b, 1, make([]float32, n))
				s.d.UploadRaw(b, 1, raw)
				same(t, s.read(b)[1:n+1], want)
				part := make([]float32, n/2)
				s.d.Download(part, b, 1+n-n/2)
				same(t, part, want[n-n/2:])
			}
			s.hosts(t, b)
			b.Free()
		}
	}
	if b, err := s.d.Alloc(device.F32, -1); err == nil {
		t.Errorf("Alloc(-1) gives %v", b)
	}
}

// hosts: memory that the host can address is the buffer's own.
func (s *suite) hosts(t *testing.T, b device.Buf) {
	h := s.d.Host(b)
	if b.Kind() != device.F32 {
		if h != nil {
			t.Errorf("Host of kind %d is not nil", b.Kind())
		}
		return
	}
	if h == nil {
		return
	}
	h[0] = 42
	got := make([]float32, 1)
	s.d.Download(got, b, 0)
	if len(h) != b.Len() || got[0] != 42 {
		t.Errorf("Host gives %d values that are not the buffer's", len(h))
	}
}

func same(t *testing.T, got, want []float32) {
	t.Helper()
	for i := range want {
		if math.Float32bits(got[i]) != math.Float32bits(want[i]) {
			t.Fatalf("[%d] = %v, want %v", i, got[i], want[i])
		}
	}
}

// gather: y[i,:] = table[ids[i],:].
func (s *suite) gather(t *testing.T) {
	for _, kind := range kinds {
		for _, d := range []int{1, 3, 64} {
			table, rows := s.buf(t, kind, values(5*d, 2))
			ids := []int32{4, 0, 0, 3}
			y := s.out(t, len(ids)*d)
			s.d.Gather(y, table, ids, d)
			var want []float32
			for _, id := range ids {
				want = append(want, rows[int(id)*d:(int(id)+1)*d]...)
			}
			same(t, s.result(t, y, len(want)), want)
		}
	}
}

// matMul: y[M,N] = x[M,Kd] · w[N,Kd]ᵀ + beta*y.
func (s *suite) matMul(t *testing.T) {
	for _, kind := range kinds {
		for _, z := range [][3]int{{1, 1, 1}, {3, 5, 7}, {1, 17, 64}, {33, 1, 31}, {8, 9, 0}, {47, 65, 129}, {64, 64, 64}, {2, 300, 700}} {
			for _, beta := range []float32{0, 1, 0.5} {
				m, n, k := z[0], z[1], z[2]
				x, xs := s.buf(t, device.F32, values(m*k, 3))
				w, ws := s.buf(t, kind, values(n*k, 4))
				start := values(m*n, 5)
				if beta == 0 {
					for i := range start {
						start[i] = float32(math.NaN()) // not to be read
					}
				}
				y, _ := s.buf(t, device.F32, append(start, guard))
				s.d.MatMulNT(y, x, w, m, n, k, beta)
				same(t, s.read(w), ws) // however the device keeps weights after it has multiplied by them
				xs, ws = s.operand(xs), s.operand(ws)
				want := make([]float64, m*n)
				for i := range m {
					for j := range n {
						for l := range k {
							want[i*n+j] += float64(xs[i*k+l]) * float64(ws[j*k+l])
						}
						if beta != 0 {
							want[i*n+j] += float64(beta) * float64(start[i*n+j])
						}
					}
				}
				near(t, fmt.Sprintf("kind %d %v beta %v", kind, z, beta), s.result(t, y, m*n), want, 2e-6*math.Sqrt(float64(k+1))+1e-6)
			}
		}
	}
}

// operand is what a matrix product of the device takes v for: classes of bfloat16 round both operands.
func (s *suite) operand(v []float32) []float32 {
	if !strings.Contains(s.d.Class(), "bf16") {
		return v
	}
	r := make([]float32, len(v))
	for i := range v {
		r[i] = formats.BF16ToF32(formats.BF16FromF32(v[i]))
	}
	return r
}

// weights: elements that change after a product, and another shape of the same elements, count in the next one.
func (s *suite) weights(t *testing.T) {
	const n, k = 40, 70
	for _, kind := range kinds {
		w, ws := s.buf(t, kind, values(n*k, 40))
		x, xs := s.buf(t, device.F32, values(2*n*k, 41))
		check := func(m, n, k int) {
			t.Helper()
			y := s.out(t, m*n)
			s.d.MatMulNT(y, x, w, m, n, k, 0)
			want := make([]float64, m*n)
			a, b := s.operand(xs), s.operand(ws)
			for i := range want {
				for l := range k {
					want[i] += float64(a[i/n*k+l]) * float64(b[i%n*k+l])
				}
			}
			near(t, fmt.Sprintf("kind %d %dx%dx%d", kind, m, n, k), s.result(t, y, m*n), want, 3e-5)
		}
		check(3, n, k)
		s.d.Upload(w, k+3, values(5, 42))
		ws = s.read(w)
		check(3, n, k)
		raw := make([]byte, 6*kind.Size())
		s.d.UploadRaw(w, 2*k-3, raw) // zeros
		for i := range 6 {
			ws[2*k-3+i] = 0
		}
		same(t, s.read(w), ws)
		check(3, n, k)
		check(4, k, n)
		check(2, n/2, k) // the first rows alone
		part := make([]float32, k)
		s.d.Download(part, w, k+k/2)
		same(t, part, ws[k+k/2:k+k/2+k])
		y := s.out(t, 2*k)
		s.d.Gather(y, w, []int32{7, 0}, k)
		same(t, s.result(t, y, 2*k), append(append([]float32(nil), ws[7*k:8*k]...), ws[:k]...))
	}
}

// elementwise: Add and AddBias.
func (s *suite) elementwise(t *testing.T) {
	for _, z := range [][2]int{{1, 1}, {3, 7}, {129, 257}} {
		rows, n := z[0], z[1]
		start := values(rows*n, 6)
		x, xs := s.buf(t, device.F32, values(rows*n, 7))
		y, _ := s.buf(t, device.F32, append(append([]float32(nil), start...), guard))
		s.d.Add(y, x, rows*n)
		want := make([]float32, rows*n)
		for i := range want {
			want[i] = start[i] + xs[i]
		}
		same(t, s.result(t, y, rows*n), want)
		bias, bs := s.buf(t, device.F32, values(n, 8))
		s.d.AddBias(y, bias, rows, n)
		for i := range want {
			want[i] += bs[i%n]
		}
		same(t, s.result(t, y, rows*n), want)
	}
}

// rope: pair (j, j+K/2) of each head rotates by its angle.
func (s *suite) rope(t *testing.T) {
	for _, z := range [][3]int{{1, 1, 2}, {5, 3, 8}, {70, 4, 64}} {
		n, heads, k := z[0], z[1], z[2]
		half := k / 2
		cos, sin := make([]float32, n*half), make([]float32, n*half)
		for i, a := range values(n*half, 14) {
			cos[i], sin[i] = float32(math.Cos(float64(a))), float32(math.Sin(float64(a)))
		}
		x, xs := s.buf(t, device.F32, append(values(n*heads*k, 15), guard))
		want := make([]float64, n*heads*k)
		for i := range n * heads {
			for j := range half {
				c, sn := float64(cos[i/heads*half+j]), float64(sin[i/heads*half+j])
				a, b := float64(xs[i*k+j]), float64(xs[i*k+j+half])
				want[i*k+j], want[i*k+j+half] = a*c-b*sn, b*c+a*sn
			}
		}
		s.d.RoPE(x, n, heads, k, cos, sin)
		got := s.result(t, x, len(want))
		near(t, "RoPE", got, want, 1e-6)
		if d, ok := s.d.(device.Rotator); ok {
			y, _ := s.buf(t, device.F32, append(xs[:len(want):len(want)], guard))
			c, _ := s.buf(t, device.F32, append(cos, 9, 9))
			sn, _ := s.buf(t, device.F32, append(sin, 9, 9))
			d.Rotate(y, n, heads, k, c, sn)
			same(t, s.result(t, y, len(want)), got)
		}
	}
}

// activations: silu(gate)*up and both forms of GELU, at ordinary and extreme values.
func (s *suite) activations(t *testing.T) {
	for _, n := range []int{1, 3, 31, 33, 20000} {
		in := values(n, 16)
		for i := range in {
			in[i] *= 4
		}
		copy(in, []float32{-200, 0, 200})
		g, gs := s.buf(t, device.F32, in)
		u, us := s.buf(t, device.F32, append(values(n, 17), guard))
		silu, tanh, erf := make([]float64, n), make([]float64, n), make([]float64, n)
		for i := range n {
			v := float64(gs[i])
			silu[i] = v / (1 + math.Exp(-v)) * float64(us[i])
			tanh[i] = 0.5 * v * (1 + math.Tanh(math.Sqrt(2/math.Pi)*(v+0.044715*v*v*v)))
			erf[i] = 0.5 * v * (1 + math.Erf(v/math.Sqrt2))
		}
		y := s.out(t, n)
		s.d.GELU(y, g, n, true)
		near(t, "GELU tanh", s.result(t, y, n), tanh, 2e-6)
		s.d.GELU(y, g, n, false)
		near(t, "GELU erf", s.result(t, y, n), erf, 2e-6)
		s.d.SiLUMul(u, g, u, n)
		near(t, "SiLUMul in place", s.result(t, u, n), silu, 2e-6)
	}
}
