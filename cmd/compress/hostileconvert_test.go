package main

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
)

// convertedOtherwise are the codes of conversions that differ from those of plan: more of a checkpoint is looked at, or less. Tensors whose
// bytes are copied are not read as numbers; those beside the model have no place in GGUF; its tokenizer is read; blocks have scales of F16.
var convertedOtherwise = map[string]map[string]int{
	"tokenizer not needed is copied unread": {"gguf": 4},
	"largest f32 under rtn":                 {"gguf": 4},
	"largest bf16 under rtn":                {"gguf": 4},
	"NaN beside the model":                  {"gguf": 0, "compressed-tensors": 0},
	"minus Inf in an embedding":             {"compressed-tensors": 0},
	"NaN in a bf16 norm":                    {"compressed-tensors": 0},
	"bf16 beyond f16 in one layer":          {"compressed-tensors": 0},
}

// convert reads the same checkpoint into other formats: it fails where plan does, and leaves nothing. Plain weights are written of models
// that are not understood, too, with a warning.
func (h *hostile) convert(d *damaged) {
	if h.recipe != hostileRTN || h.name == "tokenizer of 1 GB" { // the fault is not the checkpoint's; it would be copied
		return
	}
	for _, to := range [][]string{{"gguf", "--type", "q8_0"}, {"compressed-tensors", "--scheme", "w8a8"}, {"safetensors", "--dtype", "bf16"}} {
		want, ok := convertedOtherwise[h.name][to[0]]
		if !ok {
			want = h.code
		}
		code, stderr := d.convert(d.dir, to...)
		if plain := to[0] == "safetensors"; code != want && !(plain && (code == exitOK || code == exitInput)) {
			d.t.Errorf("convert --to %s: exit code %d, want %d\n%s", to[0], code, want, stderr)
		}
	}
}

// convert converts what lies at a path, with bounded memory. Where it fails it leaves nothing and names no directory.
func (d *damaged) convert(model string, to ...string) (code int, stderr string) {
	before := d.names()
	out := filepath.Join(d.base, "converted")
	var m0, m1 runtime.MemStats
	runtime.ReadMemStats(&m0)
	code, _, stderr = runProgram(append([]string{"convert", model, "-o", out, "--to"}, to...)...)
	runtime.ReadMemStats(&m1)
	d.t.Logf("convert --to %s %3d  %s", to[0], code, strings.TrimSpace(strings.ReplaceAll(stderr, d.base, "…")))
	if total := m1.TotalAlloc - m0.TotalAlloc; total > 512<<20 {
		d.t.Errorf("convert --to %s allocated %d MiB", to[0], total>>20)
	}
	if code != exitOK && strings.Contains(stderr, d.base) {
		d.t.Errorf("convert --to %s names a directory: %s", to[0], stderr)
	}
	if _, err := os.Stat(out); (err == nil) != (code == exitOK) {
		d.t.Errorf("convert --to %s exited with %d, and the output: %v", to[0], code, err)
	}
	d.check(os.RemoveAll(out))
	if d.names() != before {
		d.t.Errorf("convert --to %s left something behind:\n%s", to[0], d.names())
	}
	return code, stderr
}
