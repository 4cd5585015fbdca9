//go:build cuda

package cuda

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"modelpress/internal/device"
)

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
