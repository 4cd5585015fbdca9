//go:build cuda

package sparse

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

// SparseGPT on a device prunes what it prunes on the host, and leaves the other weights as it does there.
func TestSparseGPTOnDevice(t *testing.T) {
	d := openCUDA(t)
	var differ, all int
	for i, c := range []struct {
		out, n int
		s      Scheme
		store  formats.DType
		kind   device.Kind
	}{
		{19, 320, Scheme{Pattern: Pattern{Ratio: 0.5}, Block: 128, Damp: 0.01}, formats.BF16, device.BF16},
		{5, 300, Scheme{Pattern: Pattern{Ratio: 0.75}, Block: 200, Damp: 0.01}, formats.F32, device.F32},
		{9, 256, Scheme{Pattern: Pattern{N: 2, M: 4}, Block: 64, Damp: 0.01}, formats.F16, device.F16},
		{6, 320, Scheme{Pattern: Pattern{N: 5, M: 32}, Block: 320, Damp: 0.1}, formats.F32, device.F32},
		{3, 64, Scheme{Pattern: Pattern{Ratio: 0}, Block: 64, Damp: 0.01}, formats.F32, device.F32},
		{3, 64, Scheme{Pattern: Pattern{Ratio: 1}, Block: 16, Damp: 0.01}, formats.BF16, device.BF16},
	} {
		w, h := random(uint64(70+i), c.out*c.n, c.store), correlated(uint64(80+i), c.n, 2*c.n, 3)
		buf := upload(t, d, c.kind, w)
		d.Download(w, buf, 0)
		on, err := calib.NewHessian(d, h, c.n)
		if err != nil {
			t.Fatal(err)
		}
		defer on.Free()
		dst := upload(t, d, c.kind, make([]float32, len(w)))
		rep, err := SparseGPTOnDevice(d, dst, buf, c.out, on, c.s, c.store)
		if err != nil {
			t.Fatal(err)
		}
		want, wantRep, err := SparseGPT(w, c.out, c.n, h, c.s, c.store, nil)
		if err != nil {
			t.Fatal(err)
		}
		got := make([]float32, len(w))
		d.Download(got, dst, 0)
		n := 0
		for j := range got {
			if (got[j] == 0) != (want[j] == 0) || math.Abs(float64(got[j]-want[j])) > 1e-3*max(1e-3, math.Abs(float64(want[j]))) {
				n++
			}
		}
		t.Logf("%+v: %d of %d weights differ; loss %g and %g", c.s, n, len(got), rep.Loss, wantRep.Loss)
		differ, all = differ+n, all+len(got)
		if zeros, err := c.s.Holds(got, c.out, c.n); err != nil || zeros < c.s.Zeros(c.out, c.n) {
			t.Errorf("%+v: %d zeros, %v", c.s, zeros, err)
		}
		if math.Abs(rep.Loss-wantRep.Loss) > 1e-4*wantRep.Loss || math.Abs(rep.OutputError-wantRep.OutputError) > 1e-4*wantRep.OutputError {
			t.Errorf("%+v, on the host %+v", rep, wantRep)
		}
		rep.Loss, rep.OutputError, rep.Damp = wantRep.Loss, wantRep.OutputError, wantRep.Damp
		if rep != wantRep {
			t.Errorf("%+v, on the host %+v", rep, wantRep)
		}
	}
	if float64(differ) > 0.001*float64(all) {
		t.Errorf("%d of %d weights differ", differ, all)
	}
}

// Among equal weights the first ones go, as on the host, however many there are.
func TestTiesOnDevice(t *testing.T) {
	d := openCUDA(t)
	const out, n = 40, 256
	w, h := make([]float32, out*n), make([]float64, n*n)
	for i := range w {
		w[i] = float32(1 + i*7%3)
	}
	for i := range n {
		h[i*n+i] = 1
	}
	buf, dst := upload(t, d, device.F32, w), upload(t, d, device.F32, make([]float32, len(w)))
	on, err := calib.NewHessian(d, h, n)
	if err != nil {
		t.Fatal(err)
	}
	defer on.Free()
	for _, ratio := range []float64{0.1, 0.33, 0.34, 0.8, 0.999} {
		s := Scheme{Pattern: Pattern{Ratio: ratio}, Block: 256}
		if _, err := SparseGPTOnDevice(d, dst, buf, out, on, s, formats.F32); err != nil {
			t.Fatal(err)
		}
		want, _, err := SparseGPT(w, out, n, slices.Clone(h), s, formats.F32, nil)
		if err != nil {
			t.Fatal(err)
		}
		got := make([]float32, len(w))
		if d.Download(got, dst, 0); !slices.Equal(got, want) {
			t.Errorf("ratio %v: other weights", ratio)
		}
	}
}

// Errors and what is done without a factor are those of the host.
func TestSparseFallbackOnDevice(t *testing.T) {
	d := openCUDA(t)
	const out, n = 3, 64
	for i, c := range []struct {
		s     Scheme
		store formats.DType
		spoil func(w []float32, h []float64)
	}{
		{Scheme{Pattern: Pattern{Ratio: 0.5}, Block: 32}, formats.F32, func(w []float32, h []float64) { w[n+3] = float32(math.NaN()) }},
		{Scheme{Pattern: Pattern{Ratio: 0.5}, Block: 32}, formats.F32, func(w []float32, h []float64) { h[2*n+1] = math.Inf(1) }},
		{Scheme{Pattern: Pattern{Ratio: 0.5}, Block: 2000}, formats.F32, func(w []float32, h []float64) {}},
		{Scheme{Pattern: Pattern{Ratio: 1.5}, Block: 32}, formats.F32, func(w []float32, h []float64) {}},
		{Scheme{Pattern: Pattern{Ratio: 0.5}, Block: 32}, formats.I8, func(w []float32, h []float64) {}},
		{Scheme{Pattern: Pattern{Ratio: 0.5}, Block: 32, Damp: 0.01}, formats.F32, func(w []float32, h []float64) { clear(h) }},
		{Scheme{Pattern: Pattern{N: 2, M: 4}, Block: 32}, formats.F32, func(w []float32, h []float64) {
			for i := range h {
				h[i] = 1e6
				if i%(n+1) == 0 {
					h[i] = 1
				}
			}
		}},
	} {
		w, h := random(90, out*n, formats.F32), correlated(90, n, 100)
		c.spoil(w, h)
		buf, dst := upload(t, d, device.F32, w), upload(t, d, device.F32, make([]float32, len(w)))
		on, err := calib.NewHessian(d, h, n)
		if err != nil {
			t.Fatal(err)
		}
		defer on.Free()
		rep, err := SparseGPTOnDevice(d, dst, buf, out, on, c.s, c.store)
		want, wantRep, wantErr := SparseGPT(w, out, n, h, c.s, c.store, nil)
		if fmt.Sprint(err) != fmt.Sprint(wantErr) || rep != wantRep {
			t.Errorf("%d: %+v, %v; on the host %+v, %v", i, rep, err, wantRep, wantErr)
		}
		got := make([]float32, len(w))
		if d.Download(got, dst, 0); err == nil && !slices.Equal(got, want) {
			t.Errorf("%d: other weights", i)
		}
	}
}
