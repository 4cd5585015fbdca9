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

// panics returns the text that an operation with wrong sizes panics with.
func panics(t *testing.T, body func()) (text string) {
	t.Helper()
	defer func() {
		p := recover()
		s, ok := p.(string)
		if !ok {
			t.Errorf("panic %v, want a text", p)
		}
		text = s
	}()
	body()
	return ""
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
	const n = 1000
	x, y := alloc(t, d, device.F32, n), alloc(t, d, device.F32, n)
	host := make([]float32, n)
	for _, c := range []struct {
		op, fail, want string
		body           func()
	}{
		{"Add", "launch:1:701", "cuLaunchKernel: CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES (701); add with", func() { d.Add(y, x, n) }},
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
	const n = 400000
	x, y := alloc(t, d, device.F32, n), alloc(t, d, device.F32, n)
	host := make([]float32, n)
	t.Setenv("MODELPRESS_EMU_FAIL", "launch:1:700")
	_ = caught(t, func() { d.Add(y, x, n) }) // at once or later
	for op, body := range map[string]func(){
		"Download": func() { d.Download(host, y, 0) },
		"Upload":   func() { d.Upload(x, 0, host) },
		"Add":      func() { d.Add(y, x, n) },
	} {
		if f := caught(t, body); f == nil || f.Op != op || !strings.Contains(f.Error(), "CUDA_ERROR_ILLEGAL_ADDRESS (700)") || !strings.Contains(f.Error(), "a kernel failed") {
			t.Errorf("%s: %v", op, f)
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

// Memory: the budget, what the driver has, and what is remembered for speed.
func TestMemory(t *testing.T) {
	const budget = 40 << 20
	d := open(t, Options{MaxMemory: budget, BF16: true})
	if d.Room() != budget {
		t.Errorf("room %d", d.Room())
	}
	x := alloc(t, d, device.F32, 6<<20)
	if _, err := d.Alloc(device.F32, 5<<20); !errors.Is(err, ErrMemory) {
		t.Errorf("over the budget: %v", err)
	}
	c := d.begin("test")
	if !c.room(8<<20) || c.room(20<<20) {
		t.Error("room is not what scratch gets")
	}
	f := caught(t, func() { c.scratch(20 << 20) })
	c.scratch(8 << 20)
	c.end()
	if f == nil || !errors.Is(f, ErrMemory) {
		t.Errorf("scratch over the budget: %v", f)
	}
	if d.Used() != 24<<20 || d.Peak() != 32<<20 {
		t.Errorf("%d bytes in use, %d at most", d.Used(), d.Peak())
	}
	w, y := alloc(t, d, device.BF16, 64<<10), alloc(t, d, device.F32, 100)
	d.MatMulNT(y, x, w, 96, 1, 64<<10, 0) // leaves x in bfloat16
	if d.rounded.store == nil || d.rounded.block.bytes != 12<<20 {
		t.Fatalf("%+v", d.rounded)
	}
	room := d.Room()
	if b, err := d.Alloc(device.F32, 3<<20); err != nil || d.rounded.store != nil { // in its place
		t.Errorf("room of %d bytes, and none for 12 MiB: %v", room, err)
	} else {
		b.Free()
	}
	x.Free()
	if _, err := d.Alloc(device.F32, -1); err == nil {
		t.Error("a negative size passes")
	}
	t.Setenv("MODELPRESS_EMU_FAIL", "alloc:1:2,alloc:2:2,alloc:3:2")
	if _, err := d.Alloc(device.F32, 9<<20); !errors.Is(err, ErrMemory) || !strings.Contains(err.Error(), "CUDA_ERROR_OUT_OF_MEMORY (2)") {
		t.Errorf("the driver has none: %v", err)
	}
	t.Setenv("MODELPRESS_EMU_FAIL", "")
	d = open(t, Options{MaxMemory: 1 << 30})
	t.Setenv("MODELPRESS_EMU_FAIL", "alloc:1:2")
	alloc(t, d, device.F32, 9<<20).Free() // the driver has some at the second try
}

// Open refuses what it cannot open.
func TestOpen(t *testing.T) {
	open(t, Options{})
	for _, c := range []struct {
		name, value string
		o           Options
		want        error
	}{
		{"ordinal", "", Options{Ordinal: 1}, ErrNoDevice},
		{"ordinal", "", Options{Ordinal: -1}, ErrNoDevice},
		{"budget", "", Options{MaxMemory: 1 << 20}, ErrMemory},
		{"MODELPRESS_EMU_FAIL", "pinned:3:2", Options{}, ErrMemory},
	} {
		if strings.HasPrefix(c.name, "MODELPRESS") {
			t.Setenv(c.name, c.value)
		}
		if _, err := Open(c.o); !errors.Is(err, c.want) {
			t.Errorf("%s %+v: %v", c.name, c.o, err)
		}
	}
	t.Setenv("MODELPRESS_EMU_FAIL", "")
	open(t, Options{})
}

// Wrong buffers and arguments are bugs: a text says which.
func TestWrongUse(t *testing.T) {
	d, other := open(t, Options{}), open(t, Options{})
	x, half, foreign := alloc(t, d, device.F32, 10), alloc(t, d, device.BF16, 10), alloc(t, other, device.F32, 10)
	freed := alloc(t, d, device.F32, 10)
	slice := d.Slice(freed, 2, 3)
	slice.Free()
	d.Zero(slice, 0, 3)
	freed.Free()
	freed.Free()
	launch := func(args ...any) func() {
		return func() {
			c := d.begin("test")
			defer c.end()
			c.launch("convert", "scale", [3]int{1, 1, 1}, [3]int{32, 1, 1}, 0, args...)
		}
	}
	for want, body := range map[string]func(){
		"kind 1 with 10 elements where 5 of f32": func() { d.Add(x, half, 5) },
		"with 10 elements where 11 of f32":       func() { d.Add(x, x, 11) },
		"a buffer of another device":             func() { d.Add(x, foreign, 5) },
		"a buffer that was freed":                func() { d.Add(x, freed, 5) },
		"Zero: a buffer that was freed":          func() { d.Zero(slice, 0, 1) },
		"elements [8, 8+3) of a buffer of 10":    func() { d.Upload(x, 8, make([]float32, 3)) },
		"elements [-1, -1+3) of a buffer of 10":  func() { d.Download(make([]float32, 3), x, -1) },
		"Slice: elements [5, 5+6)":               func() { d.Slice(x, 5, 6) },
		"no whole number of elements":            func() { d.UploadRaw(half, 0, make([]byte, 3)) },
		"from kind 1 to kind 0":                  func() { d.Copy(x, 0, half, 0, 1) },
		"a place that they overlap":              func() { d.Copy(x, 0, x, 1, 5) },
		"argument 4 is a float64":                launch(ptr(0), int64(0), int64(0), int64(0), 1.0),
		"argument 1 is a int":                    launch(ptr(0), 1, int64(0), int64(0), float32(1)),
		"a matrix of -1x2":                       func() { d.MatMulNT(x, x, x, -1, 2, 2, 0) },
		"weight of 10 elements where 4x4":        func() { d.MatMulNN(x, x, half, 1, 4, 4, 0) },
		"no kernel nothing in module convert": func() {
			c := d.begin("test")
			defer c.end()
			c.launch("convert", "nothing", [3]int{1, 1, 1}, [3]int{1, 1, 1}, 0)
		},
		"no module nothing": func() {
			c := d.begin("test")
			defer c.end()
			c.launch("nothing", "x", [3]int{1, 1, 1}, [3]int{1, 1, 1}, 0)
		},
		"[1 65536 1] blocks of [1 1 1] threads": func() {
			c := d.begin("test")
			defer c.end()
			c.launch("convert", "scale", [3]int{1, 1 << 16, 1}, [3]int{1, 1, 1}, 0)
		},
		"blocks of [1024 2 1] threads": func() {
			c := d.begin("test")
			defer c.end()
			c.launch("convert", "scale", [3]int{1, 1, 1}, [3]int{1024, 2, 1}, 0)
		},
		"argument 0 is 4294967296, which is no int": func() { pack("k", "i", new([maxArgs]uint64), []any{1 << 32}) },
	} {
		if got := panics(t, body); !strings.Contains(got, want) {
			t.Errorf("%q, want %q", got, want)
		}
	}
	if got := panics(t, launch(ptr(0))); !strings.Contains(got, "1 arguments, want 5 (llllf)") {
		t.Error(got)
	}
	d.Add(x, x, 10) // goes on
}

// Every kernel takes what launch can pass.
func TestKernelParameters(t *testing.T) {
	files, err := kernels.ReadDir("kernels/ptx")
	if err != nil {
		t.Fatal(err)
	}
	count := 0
	for _, f := range files {
		text, err := kernels.ReadFile("kernels/ptx/" + f.Name())
		if err != nil {
			t.Fatal(err)
		}
		entries := entriesOf(string(text))
		if n := strings.Count(string(text), ".entry"); n != len(entries) || n == 0 {
			t.Errorf("%s: %d kernels, %d read", f.Name(), n, len(entries))
		}
		for name, p := range entries {
			if count++; strings.Contains(p, "?") || len(p) > maxArgs {
				t.Errorf("%s: %s has parameters %s", f.Name(), name, p)
			}
		}
	}
	if count < len(files) {
		t.Errorf("only %d kernels", count)
	}
	for _, f := range files { // and no PTX without its source
		if _, err := os.Stat(filepath.Join("kernels", strings.TrimSuffix(f.Name(), ".ptx")+".cu")); err != nil {
			t.Error(err)
		}
	}
	if got := entriesOf(".visible .entry f(\n.param .u64 f_param_0,\n.param .f64 f_param_1,\n.param .align 8 .b8 f_param_2[16]\n)")["f"]; got != "ld?" {
		t.Errorf("parameters %q", got)
	}
}
