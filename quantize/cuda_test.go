//go:build cuda

package quantize

import (
	"fmt"
	"math"
	"os"
	"slices"
	"testing"

	"modelpress/calib"
	"modelpress/formats"
	"modelpress/internal/device"
	"modelpress/internal/device/cuda"
	"modelpress/internal/device/cuda/emu"
)

func TestMain(m *testing.M) { os.Exit(emu.Main(m)) }

func openCUDA(t *testing.T) *cuda.Device {
	t.Helper()
	emu.Require(t)
	d, err := cuda.Open(cuda.Options{Threads: 2})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Close)
	return d
}

func upload(t *testing.T, d device.Device, kind device.Kind, v []float32) device.Buf {
	t.Helper()
	b, err := d.Alloc(kind, len(v))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Free)
	d.Upload(b, 0, v)
	return b
}

// hessianOf adds rows of x up on the device and on the host.
func hessianOf(t *testing.T, d device.Device, x []float32, n int, weights []float32) (on *calib.Hessian, host []float64) {
	t.Helper()
	rows := len(x) / n
	a, err := calib.NewAccumulator(d, n)
	if err != nil {
		t.Fatal(err)
	}
	g := calib.NewGram(n)
	a.Add(upload(t, d, device.F32, x), rows, weights)
	g.Add(x, rows, weights, nil)
	on = a.Hessian()
	t.Cleanup(on.Free)
	return on, g.Hessian()
}

var stores = map[formats.DType]device.Kind{formats.F32: device.F32, formats.BF16: device.BF16, formats.F16: device.F16}

// The codes of RTN are the host's, bit for bit.
func TestRTNOnDevice(t *testing.T) {
	d := openCUDA(t)
	const out, in = 7, 256
	for i, s := range []Scheme{
		{Bits: 4, Group: 128, Symmetric: true, Clip: true}, {Bits: 3, Group: 32, Clip: true}, {Bits: 8, Group: 64, Symmetric: true},
		{Bits: 2, Group: -1}, {Bits: 4, Group: -1, Symmetric: true, Clip: true},
	} {
		for _, store := range []formats.DType{formats.BF16, formats.F16, formats.F32} {
			w := random(uint64(20+i), out*in)
			clear(w[in : in+128])
			buf := upload(t, d, stores[formats.BF16], w)
			d.Download(w, buf, 0)
			want, err := RTN(w, out, in, s, store, nil)
			if err != nil {
				t.Fatal(err)
			}
			dst := upload(t, d, stores[store], make([]float32, out*in))
			got, err := RTNOnDevice(d, dst, buf, out, in, s, store)
			if err != nil {
				t.Fatal(err)
			}
			sameMatrix(t, fmt.Sprintf("%+v %s", s, store), got, want)
			deq, host := make([]float32, out*in), make([]float32, out*in)
			d.Download(deq, dst, 0)
			want.Dequantize(host, nil)
			if !slices.Equal(deq, host) {
				t.Errorf("%+v %s: other values", s, store)
			}
		}
	}
}

func sameMatrix(t *testing.T, what string, got, want *Matrix) {
	t.Helper()
	if !slices.Equal(got.Scales, want.Scales) || !slices.Equal(got.Zeros, want.Zeros) || !slices.Equal(got.Codes, want.Codes) {
		t.Errorf("%s: %d codes, %d scales, %d zero points differ", what, differing(got.Codes, want.Codes), differing(got.Scales, want.Scales), differing(got.Zeros, want.Zeros))
	}
}

func differing[T comparable](a, b []T) (n int) {
	if len(a) != len(b) {
		return max(len(a), len(b))
	}
	for i := range a {
		if a[i] != b[i] {
			n++
		}
	}
	return n
}

func TestGPTQOnDevice(t *testing.T) {
	d := openCUDA(t)
	const rows = 700
	var codes, differ int
	for i, c := range []struct {
		out, n int
		s      Scheme
		store  formats.DType
	}{
		{9, 384, Scheme{Bits: 4, Group: 128, Symmetric: true, Damp: 0.01}, formats.BF16},
		{5, 320, Scheme{Bits: 3, Group: 32, Clip: true, Damp: 0.01}, formats.F16},
		{6, 320, Scheme{Bits: 4, Group: 64, Symmetric: true, Clip: true, ActOrder: true, Damp: 0.01}, formats.F32},
		{17, 100, Scheme{Bits: 2, Group: -1, Damp: 0.1}, formats.BF16},
		{3, 300, Scheme{Bits: 8, Group: -1, Clip: true, ActOrder: true, Damp: 0.01}, formats.F32},
	} {
		w, x, weights := random(uint64(40+i), c.out*c.n), random(uint64(50+i), rows*c.n), make([]float32, rows)
		for j := range weights {
			weights[j] = 0.5 + float32(j%3)
			x[j*c.n+7] = 0 // a dead input
			for k := 1; k < c.n; k++ {
				if k != 7 {
					x[j*c.n+k] += 0.5 * x[j*c.n+k-1]
				}
			}
		}
		on, h := hessianOf(t, d, x, c.n, weights)
		buf := upload(t, d, device.F32, w)
		want, wantRep, err := GPTQ(w, c.out, c.n, h, c.s, c.store, nil)
		if err != nil {
			t.Fatal(err)
		}
		dst := upload(t, d, stores[c.store], make([]float32, c.out*c.n))
		got, rep, err := GPTQOnDevice(d, dst, buf, c.out, on, c.s, c.store)
		if err != nil {
			t.Fatal(err)
		}
		n := differing(got.Codes, want.Codes)
		t.Logf("%+v: %d codes, %d scales of %d differ; loss %g and %g", c.s, n, differing(got.Scales, want.Scales), len(want.Scales), rep.Loss, wantRep.Loss)
		codes, differ = codes+len(got.Codes), differ+n
		if math.Abs(rep.Loss-wantRep.Loss) > 1e-4*wantRep.Loss || math.Abs(rep.OutputError-wantRep.OutputError) > 1e-4*wantRep.OutputError ||
			rep.DeadColumns != 1 || rep.Retries != wantRep.Retries || math.Abs(rep.Damp-wantRep.Damp) > 1e-6*rep.Damp {
			t.Errorf("%+v, on the host %+v", rep, wantRep)
		}
		deq, host := make([]float32, len(w)), make([]float32, len(w))
		d.Download(deq, dst, 0)
		got.Dequantize(host, nil)
		if !slices.Equal(deq, host) {
			t.Errorf("%+v: other values", c.s)
		}
		a, b := on.Gram().Energy(buf, nil, c.out), OutputEnergy(w, c.out, c.n, h, nil)
		e, f := on.Gram().Energy(buf, dst, c.out), rep.OutputError
		if math.Abs(a-b) > 1e-5*b || math.Abs(e-f) > 1e-3*f {
			t.Errorf("energy %v, %v; error %v, %v", a, b, e, f)
		}
	}
	t.Logf("%d of %d codes differ", differ, codes)
	if float64(differ) > 0.001*float64(codes) {
		t.Errorf("%d of %d codes differ", differ, codes)
	}
}

// uploaded is a Hessian that comes from the host.
func uploaded(t *testing.T, d device.Quantizer, h []float64, n int) *calib.Hessian {
	t.Helper()
	on, err := calib.NewHessian(d, h, n)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(on.Free)
	return on
}

// A Hessian that cannot be factored is damped, and given up, as on the host.
func TestFallbackOnDevice(t *testing.T) {
	d := openCUDA(t)
	const out, n = 4, 128
	w := random(9, out*n)
	buf := upload(t, d, device.F32, w)
	singular := make([]float64, n*n) // of rank 1
	indefinite := make([]float64, n*n)
	for i := range indefinite {
		singular[i], indefinite[i] = 1, 1e6
		if i%(n+1) == 0 {
			indefinite[i] = 1
		}
	}
	for _, h := range [][]float64{singular, indefinite, make([]float64, n*n)} {
		for _, s := range []Scheme{{Bits: 4, Group: 32, Symmetric: true}, {Bits: 4, Group: 32, Symmetric: true, Damp: 0.01, ActOrder: true}} {
			on := uploaded(t, d, h, n)
			got, rep, err := GPTQOnDevice(d, nil, buf, out, on, s, formats.F32)
			if err != nil {
				t.Fatal(err)
			}
			want, wantRep, err := GPTQ(w, out, n, slices.Clone(h), s, formats.F32, nil)
			if err != nil {
				t.Fatal(err)
			}
			if rep.FellBack {
				sameMatrix(t, "fallback", got, want)
			} else if math.Abs(rep.Loss-wantRep.Loss) > 1e-4*wantRep.Loss {
				t.Errorf("loss %v, %v", rep.Loss, wantRep.Loss)
			}
			rep.Loss, rep.OutputError = wantRep.Loss, wantRep.OutputError
			if rep != wantRep {
				t.Errorf("%+v, on the host %+v", rep, wantRep)
			}
			kept := make([]float64, n*n)
			on.Gram().Download(kept)
			for i := range n {
				if !slices.Equal(kept[i*n:][:i+1], h[i*n:][:i+1]) {
					t.Fatalf("row %d of the Hessian changed", i)
				}
			}
		}
	}
}

// Errors are those of the host, word for word.
func TestErrorsOnDevice(t *testing.T) {
	d := openCUDA(t)
	const out, n = 3, 128
	for i, c := range []struct {
		group int
		store formats.DType
		spoil func(w []float32, h []float64)
	}{
		{32, formats.BF16, func(w []float32, h []float64) { w[n+6] = float32(math.NaN()) }},
		{32, formats.BF16, func(w []float32, h []float64) { w[n+6], w[n+3] = float32(math.Inf(1)), float32(math.Inf(-1)) }},
		{32, formats.BF16, func(w []float32, h []float64) { h[n+1] = math.Inf(1) }},
		{32, formats.BF16, func(w []float32, h []float64) { h[3*n+1], h[2*n+2] = math.NaN(), -2 }},
		{32, formats.BF16, func(w []float32, h []float64) { h[3*n+1], h[3*n+3] = math.Inf(-1), -2 }},
		{48, formats.BF16, func(w []float32, h []float64) {}},
		{32, formats.I8, func(w []float32, h []float64) {}},
		{32, formats.F16, func(w []float32, h []float64) { w[n+40], w[2*n] = 1e9, 1e9 }},
		{-1, formats.F16, func(w []float32, h []float64) { w[2*n+40], w[n+60] = 1e9, -1e9 }},
	} {
		w, h := random(60, out*n), correlated(60, n, 300)
		c.spoil(w, h)
		buf, on := upload(t, d, device.F32, w), uploaded(t, d, h, n)
		s := Scheme{Bits: 4, Group: c.group, Damp: 0.01}
		_, _, got := GPTQOnDevice(d, nil, buf, out, on, s, c.store)
		_, _, want := GPTQ(w, out, n, h, s, c.store, nil)
		if got == nil || want == nil || got.Error() != want.Error() {
			t.Errorf("%d: error %v, on the host %v", i, got, want)
		}
		_, got = RTNOnDevice(d, nil, buf, out, n, s, c.store)
		_, want = RTN(w, out, n, s, c.store, nil)
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%d: error %v, on the host %v", i, got, want)
		}
	}
}

// The bits do not depend on the order in which threads and streams get on.
func TestScheduleOnDevice(t *testing.T) {
	d := openCUDA(t)
	const out, n, rows = 18, 384, 1100
	w, x, weights := random(61, out*n), random(62, rows*n), random(63, rows)
	s := Scheme{Bits: 3, Group: 64, Clip: true, Damp: 0.01}
	var first *Matrix
	var loss, energy float64
	for _, c := range [][2]string{{"up", "lazy"}, {"down", "eager"}, {"random:1", "random:2"}, {"random:3", "ahead"}} {
		t.Setenv("MODELPRESS_EMU_SCHEDULE", c[0])
		t.Setenv("MODELPRESS_EMU_STREAMS", c[1])
		a, err := calib.NewAccumulator(d, n)
		if err != nil {
			t.Fatal(err)
		}
		for i := range weights {
			weights[i] = float32(math.Abs(float64(weights[i])))
		}
		a.Add(upload(t, d, device.F32, x), rows, weights)
		h := a.Hessian()
		buf := upload(t, d, device.F16, w)
		m, rep, err := GPTQOnDevice(d, nil, buf, out, h, s, formats.BF16)
		if err != nil {
			t.Fatal(err)
		}
		e := h.Gram().Energy(buf, nil, out)
		h.Free()
		if first == nil {
			first, loss, energy = m, rep.Loss, e
		}
		sameMatrix(t, fmt.Sprint(c), m, first)
		if rep.Loss != loss || e != energy {
			t.Errorf("%v: loss %v and %v, energy %v and %v", c, rep.Loss, loss, e, energy)
		}
	}
}

// Rotated matrices have the bits of the host: whole and in blocks, along rows and columns, by transforms with and without a small factor, and by
// matrices.
func TestMixOnDevice(t *testing.T) {
	d := openCUDA(t)
	list := func(kind string, n, count int) []*orthogonal {
		var all []*orthogonal
		for i := range count {
			o, err := newOrthogonal(kind, n, 5, uint64(i))
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, o)
		}
		return all
	}
	for _, c := range []struct {
		rows, cols  int
		gain        bool
		left, right []*orthogonal
	}{
		{70, 64, true, nil, list(QR, 64, 1)},
		{64, 70, false, list(Hadamard, 64, 1), nil},
		{128, 96, true, list(Hadamard, 32, 4), list(Hadamard, 24, 4)},
		{96, 40, false, list(QR, 48, 2), list(Hadamard, 40, 1)},
		{688, 8, false, list(Hadamard, 688, 1), nil}, // a small factor of 344
		{300, 16, true, list(QR, 300, 1), list(QR, 8, 2)},
		{512, 9, false, list(Hadamard, 512, 1), nil},
	} {
		n := &recipe{info: formats.TensorInfo{Shape: []int64{int64(c.rows), int64(c.cols)}}, left: c.left, right: c.right}
		if c.gain {
			n.gain = random(71, c.cols)
		}
		w := random(70, c.rows*c.cols)
		want := slices.Clone(w)
		strip := c.cols
		if c.right != nil {
			strip = c.right[0].n
		}
		for i := range c.cols / strip {
			n.mix(want, 0, i, strip)
		}
		if err := d.Mix(w, c.rows, c.cols, n.gain, orthogonals(c.left), orthogonals(c.right)); err != nil {
			t.Fatal(err)
		}
		if k := differing(w, want); k > 0 {
			t.Errorf("[%d, %d]: %d values differ", c.rows, c.cols, k)
		}
	}
}
