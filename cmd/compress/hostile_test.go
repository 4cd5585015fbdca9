package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"modelpress/internal/testmodel"
)

// hostile is one way for input to be bad. Each runs plan on a small checkpoint that was damaged, and apply where planning
// succeeds.
type hostile struct {
	name    string
	options testmodel.Options // of the checkpoint; hostileBase where empty
	values  func(m *testmodel.Model) *testmodel.Model
	damage  func(d *damaged)
	recipe  string // hostileRTN where empty
	calib   bool   // give calib.npy
	code    int    // of plan, or of apply where plan exits with 0
	want    string // parts of the error, separated by |
}

var hostileBase = testmodel.Options{D: 64, H: 4, G: 2, F: 128, V: 128, Seed: 9}

const (
	hostileRTN  = "quantize: {method: rtn, group_size: 32}"
	hostileGPTQ = "calibration: {sequences: 6, holdout: 2, length: 32}\nquantize: {method: gptq, group_size: 32}"
	hostileRSQ  = "calibration: {sequences: 6, holdout: 2, length: 32}\nquantize: {method: rsq, group_size: 32}\nheads: {method: projected_error, full_share: 0.5, sink: 2, recent: 8}"
)

// TestHostileInputs prints a line for each case with -v: the exit code and the error.
func TestHostileInputs(t *testing.T) {
	for _, list := range [][]hostile{hostileHeaders, hostileConfigs, hostileIndexes, hostileSides, hostileData, hostileTokens, hostileRecipes} {
		for _, h := range list {
			t.Run(strings.ReplaceAll(h.name, " ", "_"), func(t *testing.T) { h.run(t) })
		}
	}
}

func (h *hostile) run(t *testing.T) {
	d := &damaged{t: t, base: t.TempDir()}
	d.dir = filepath.Join(d.base, "model")
	h.write(d)
	before := d.names()
	h.convert(d)
	var m0, m1 runtime.MemStats
	runtime.ReadMemStats(&m0)
	code, stdout, stderr := h.plan(d)
	plan := filepath.Join(d.base, "plan.json")
	if code != exitOK && d.names() != before {
		t.Errorf("plan failed and left something behind:\n%s", d.names())
	}
	ran := "plan"
	if code == exitOK {
		ran = "apply"
		code, stdout, stderr = runProgram(append([]string{"apply", plan, "--model", d.dir, "-o", filepath.Join(d.base, "OUT")}, h.data(d)...)...)
		_, err := os.Stat(filepath.Join(d.base, "OUT"))
		if (err == nil) != (code == exitOK) {
			t.Errorf("apply exited with %d, OUT: %v", code, err)
		}
	}
	runtime.ReadMemStats(&m1)
	t.Logf("%-5s %3d  %s", ran, code, strings.TrimSpace(strings.ReplaceAll(stderr, d.base, "…")))
	if code != h.code {
		t.Errorf("exit code %d, want %d\n%s%s", code, h.code, stdout, stderr)
	}
	for _, w := range strings.Split(h.want, "|") {
		if !strings.Contains(stderr, w) {
			t.Errorf("the error lacks %q: %s", w, stderr)
		}
	}
	if code != exitOK && strings.Contains(stderr, d.base) {
		t.Errorf("the error names a directory: %s", stderr)
	}
	if total := m1.TotalAlloc - m0.TotalAlloc; total > 512<<20 {
		t.Errorf("allocated %d MiB", total>>20)
	}
}

func (h *hostile) write(d *damaged) {
	o := h.options
	if o.Seed == 0 {
		o = hostileBase
	}
	m := testmodel.New(o)
	if h.values != nil {
		m = h.values(m)
	}
	d.check(writeModel(d.dir, m, 0))
	if h.recipe == "" {
		h.recipe = hostileRTN
	}
	write(d.t, d.base, "recipe.yaml", h.recipe)
	if h.calib {
		write(d.t, d.base, "calib.npy", string(npy(testmodel.Windows(12, 32, o.V, 3))))
	}
	if h.damage != nil {
		h.damage(d)
	}
}

func (h *hostile) data(d *damaged) []string {
	if !h.calib {
		return nil
	}
	path := "calib.npy"
	if d.data != "" {
		path = d.data
	}
	return []string{"--calib", filepath.Join(d.base, path)}
}

func (h *hostile) plan(d *damaged) (code int, stdout, stderr string) {
	args := []string{"plan", "--model", d.dir, "--recipe", filepath.Join(d.base, "recipe.yaml"), "-o", filepath.Join(d.base, "plan.json")}
	return runProgram(append(args, h.data(d)...)...)
}

func runProgram(args ...string) (code int, stdout, stderr string) {
	var out, errs bytes.Buffer
	code = run(args, &out, &errs)
	return code, out.String(), errs.String()
}

// damaged is a checkpoint directory to be damaged.
type damaged struct {
	t         *testing.T
	base, dir string
	data      string // calibration file, where it is not calib.npy
}

func (d *damaged) check(err error) {
	d.t.Helper()
	if err != nil {
		d.t.Fatal(err)
	}
}

// names lists every file and its size, without reading it.
func (d *damaged) names() string {
	var b strings.Builder
	d.check(filepath.WalkDir(d.base, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		fi, err := e.Info()
		if err == nil && !e.IsDir() {
			fmt.Fprintf(&b, "%s %d\n", path[len(d.base):], fi.Size())
		}
		return err
	}))
	return b.String()
}

// put writes a file of the checkpoint.
func (d *damaged) put(name, text string) { write(d.t, d.dir, name, text) }

// give writes the calibration file.
func (d *damaged) give(name, content string) { d.data = name; write(d.t, d.base, name, content) }

func (d *damaged) get(name string) string {
	b, err := os.ReadFile(filepath.Join(d.dir, name))
	d.check(err)
	return string(b)
}

// replace replaces the first old in a file.
func (d *damaged) replace(name, old, new string) {
	text := d.get(name)
	if !strings.Contains(text, old) {
		d.t.Fatalf("%s does not hold %q", name, old)
	}
	d.put(name, strings.Replace(text, old, new, 1))
}

const weightFile = "model.safetensors"

// weights splits the weight file into header and data.
func (d *damaged) weights() (header, data string) {
	raw := d.get(weightFile)
	n := binary.LittleEndian.Uint64([]byte(raw[:8]))
	return raw[8 : 8+n], raw[8+n:]
}

func prefixed(header string) string {
	return string(binary.LittleEndian.AppendUint64(nil, uint64(len(header)))) + header
}

// header rewrites the header of the weight file with a right length.
func (d *damaged) header(edit func(h string) string) {
	h, data := d.weights()
	d.put(weightFile, prefixed(edit(h))+data)
}

// headerEdit replaces the first old in the header.
func headerEdit(old, new string) func(*damaged) {
	return func(d *damaged) {
		d.header(func(h string) string {
			if !strings.Contains(h, old) {
				d.t.Fatalf("the header does not hold %q: %.300s", old, h)
			}
			return strings.Replace(h, old, new, 1)
		})
	}
}

// headerLength overwrites the length in front of the header.
func headerLength(n uint64) func(*damaged) {
	return func(d *damaged) {
		raw := d.get(weightFile)
		d.put(weightFile, string(binary.LittleEndian.AppendUint64(nil, n))+raw[8:])
	}
}

// headerOnly makes the weight file one header and data.
func headerOnly(header, data string) func(*damaged) {
	return func(d *damaged) { d.put(weightFile, prefixed(header)+data) }
}

// configEdit replaces text of config.json.
func configEdit(old, new string) func(*damaged) {
	return func(d *damaged) { d.replace("config.json", old, new) }
}

// sparse makes a file that is large and holds nothing.
func (d *damaged) sparse(name string, size int64) {
	f, err := os.OpenFile(filepath.Join(d.dir, name), os.O_RDWR|os.O_CREATE, 0o644)
	d.check(err)
	d.check(f.Truncate(size))
	d.check(f.Close())
}

// shard splits the checkpoint into shards of at most 100 kB with an index.
func (d *damaged) shard() {
	d.check(os.RemoveAll(d.dir))
	d.check(writeModel(d.dir, testmodel.New(hostileBase), 100_000))
	if _, err := os.Stat(filepath.Join(d.dir, shardName(1))); err != nil {
		d.t.Fatalf("not sharded: %v", err)
	}
}

const indexFile = "model.safetensors.index.json"

func shardName(i int) string {
	return fmt.Sprintf("model-%05d-of-%05d.safetensors", i, hostileShards)
}
