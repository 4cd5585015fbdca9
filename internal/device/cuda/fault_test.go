//go:build cuda

package cuda

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"modelpress/internal/device"
	"modelpress/internal/device/cuda/emu"
	"modelpress/internal/device/devicetest"
)

// caught runs an operation and returns the fault that it panics with, nil for none.
func caught(t *testing.T, body func()) (fault *device.Fault) {
	t.Helper()
	defer func() {
		if p := recover(); p != nil {
			f, ok := p.(*device.Fault)
			if !ok {
				t.Fatalf("panic %v", p)
			}
			fault = f
		}
	}()
	body()
	return nil
}

func alloc(t *testing.T, d *Device, kind device.Kind, n int) device.Buf {
	t.Helper()
	b, err := d.Alloc(kind, n)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// What the driver refuses becomes a fault of the operation, or an error where it may return one, that names function and result. The
// device goes on where the driver does.
func TestFaults(t *testing.T) {
	d := open(t, Options{})
	emulated(t, d)
	const n = 1000
	x, y := alloc(t, d, device.F32, n), alloc(t, d, device.F32, n)
	host := make([]float32, n)
	for _, c := range []struct {
		op, fail, want string
		body           func()
	}{
		{"Add", "launch:1:701", "kernel add: cuda: cuLaunchKernel: CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES (701); [1 1 1] blocks of", func() { d.Add(y, x, n) }},
		{"GELU", "module:1:218", "cuModuleLoadDataEx: CUDA_ERROR_INVALID_PTX (218); module activation", func() { d.GELU(y, x, n, true) }},
		{"Upload", "copy:1:1", "cuMemcpyHtoDAsync: CUDA_ERROR_INVALID_VALUE (1)", func() { d.Upload(x, 0, host) }},
		{"Download", "copy:1:1", "cuMemcpyDtoHAsync: CUDA_ERROR_INVALID_VALUE (1)", func() { d.Download(host, x, 0) }},
		{"Copy", "copy:1:1", "cuMemcpyDtoDAsync: CUDA_ERROR_INVALID_VALUE (1)", func() { d.Copy(x, 0, y, 0, n) }},
		{"Gather", "copy:1:1", "cuMemcpyHtoDAsync: CUDA_ERROR_INVALID_VALUE (1)", func() { d.Gather(y, x, []int32{1}, 10) }},
		{"MatMulNT", "blas:1:13", "cublasGemmEx: CUBLAS_STATUS_EXECUTION_FAILED (13); 10x10x10", func() { d.MatMulNT(y, x, x, 10, 10, 10, 0) }},
	} {
		t.Setenv("MODELPRESS_EMU_FAIL", c.fail)
		f := caught(t, c.body)
		t.Setenv("MODELPRESS_EMU_FAIL", "")
		var e *Error
		if f == nil || f.Op != c.op || !errors.As(f, &e) || !strings.Contains(f.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.op, f, c.want)
		}
		if f := caught(t, c.body); f != nil {
			t.Errorf("%s: still %v", c.op, f)
		}
	}
	d.Download(host, y, 0)
	x.Free()
	y.Free()
	if used := d.Used(); used != 0 {
		t.Errorf("%d bytes remain in use", used)
	}
}

// A kernel that fails leaves nothing of the device: each operation says so from then on, and memory can be freed all the same. The driver
// does not recover in the process that it happened in.
func TestLostDevice(t *testing.T) {
	emu.Require(t)
	if os.Getenv("MODELPRESS_TEST_RUN") != "lost" {
		again(t, "^TestLostDevice$", "MODELPRESS_TEST_RUN=lost")
		return
	}
	d := open(t, Options{})
	emulated(t, d)
	const n = 400000
	x, y := alloc(t, d, device.F32, n), alloc(t, d, device.F32, n)
	host := make([]float32, n)
	t.Setenv("MODELPRESS_EMU_FAIL", "launch:1:700")
	_ = caught(t, func() { d.Add(y, x, n) }) // at once or later
	for _, c := range []struct {
		op   string
		body func()
	}{
		{"Download", func() { d.Download(host, y, 0) }}, // waits for it
		{"Upload", func() { d.Upload(x, 0, host) }},
		{"Add", func() { d.Add(y, x, n) }},
	} {
		f := caught(t, c.body)
		if f == nil || f.Op != c.op || !strings.Contains(f.Error(), "CUDA_ERROR_ILLEGAL_ADDRESS (700)") || !strings.Contains(f.Error(), "a kernel failed") {
			t.Errorf("%s: %v", c.op, f)
		}
	}
	x.Free()
	y.Free()
	if used := d.Used(); used != 0 {
		t.Errorf("%d bytes remain in use", used)
	}
	d.Close()
	if _, err := Open(Options{}); err == nil {
		t.Error("opened again")
	}
}

// again runs tests of this program in a process of their own.
func again(t *testing.T, pattern string, env ...string) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe, "-test.run", pattern, "-test.v")
	cmd.Env = append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS") {
		t.Fatalf("%v\n%s", err, out)
	}
}

// Without cuBLAS products are those of kernels of this package, in a class of their own.
func TestWithoutBlas(t *testing.T) {
	emu.Require(t)
	if os.Getenv("MODELPRESS_TEST_RUN") == "blas" {
		d := open(t, Options{BF16: true})
		if d.blas != nil || !strings.HasPrefix(d.Class(), "cuda-bf16-sm_90-") || !strings.HasSuffix(d.Class(), "-own") {
			t.Fatalf("class %s", d.Class())
		}
		devicetest.Run(t, d)
		return
	}
	from, _, _ := strings.Cut(os.Getenv("MODELPRESS_CUDA_PATH"), ":")
	files, err := os.ReadDir(from)
	if err != nil {
		t.Fatal(err)
	}
	to := t.TempDir()
	for _, f := range files {
		if !strings.Contains(f.Name(), "cublas") {
			if err := os.Symlink(filepath.Join(from, f.Name()), filepath.Join(to, f.Name())); err != nil {
				t.Fatal(err)
			}
		}
	}
	again(t, "^TestWithoutBlas$/^(MatMulNT|Weights)$", "MODELPRESS_TEST_RUN=blas", "MODELPRESS_CUDA_PATH="+to+":-")
}
