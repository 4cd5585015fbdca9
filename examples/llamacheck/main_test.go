package main

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"modelpress/calib"
	"modelpress/formats/ggml"
	"modelpress/formats/gguf"
)

// TestMain lets the test binary be compress and logits: they write what they were asked to LOG and answer as files say
// that a test made beside it.
func TestMain(m *testing.M) {
	if log := os.Getenv("LLAMACHECK_LOG"); log != "" {
		os.Exit(stand(log, os.Args[1:]))
	}
	os.Exit(m.Run())
}

// stand is either program. compress converts into a file that holds the name of the type; the perplexities of a type are in
// TYPE.eval and TYPE.llama.
func stand(log string, args []string) int {
	f, err := os.OpenFile(log, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return 1
	}
	fmt.Fprintln(f, strings.Join(args, " "))
	f.Close()
	say := func(file, ending, format string) int {
		kind, err := os.ReadFile(file)
		if err != nil {
			return 1
		}
		ppl, err := os.ReadFile(filepath.Join(filepath.Dir(log), string(kind)+ending))
		if err != nil {
			fmt.Fprintln(os.Stderr, "refused")
			return 4
		}
		fmt.Printf(format, ppl)
		return 0
	}
	switch args[0] {
	case "convert":
		if os.WriteFile(args[7], []byte(args[5]), 0o644) != nil {
			return 1
		}
		return 0
	case "eval":
		return say(args[1], ".eval", `{"event":"progress"}`+"\n"+`{"event":"result","name":"evaluation","data":{"perplexity":{"NLL":1,"PPL":%s}}}`+"\n")
	}
	if len(args) == 5 {
		reference, err := os.ReadFile(filepath.Join(filepath.Dir(log), "logits"))
		if err != nil || os.WriteFile(args[4], reference, 0o644) != nil {
			return 1
		}
	}
	return say(args[0], ".llama", "%s 1.5 3 2 1\n")
}

func write(t *testing.T, path string, data string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(data), 0o644); err != nil {
		t.Fatal(err)
	}
}

// model makes a checkpoint directory that has nothing but reference ids, one row of four, and reference logits for a
// vocabulary of two.
func model(t *testing.T) (dir, log string) {
	t.Helper()
	dir, log = t.TempDir(), filepath.Join(t.TempDir(), "log")
	if err := writeWindows([][]int32{{1, 0, 1, 1}}, filepath.Join(dir, "ref_ids.npy"), filepath.Join(dir, "ids")); err != nil {
		t.Fatal(err)
	}
	logits := "\x00\x00\x80\x3f\x00\x00\x00\x40" // 1, 2
	head := "{'descr': '<f4', 'fortran_order': False, 'shape': (1, 2), }\n"
	write(t, filepath.Join(dir, "ref_logits.npy"), "\x93NUMPY\x01\x00"+string(rune(len(head)))+"\x00"+head+logits)
	write(t, filepath.Join(filepath.Dir(log), "logits"), logits)
	t.Setenv("LLAMACHECK_LOG", log)
	return dir, log
}

// perplexityOf runs the first part on it; an error has what was printed with it.
func perplexityOf(t *testing.T, dir string, more ...string) error {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	args := append([]string{"perplexity", "-compress", self, "-logits", self, "-model", dir, "-work", filepath.Join(dir, "work"), "-threads", "3"}, more...)
	if err := run(t.Context(), args, &out); err != nil {
		return fmt.Errorf("%w\n%s", err, out.String())
	}
	return nil
}

func TestPerplexity(t *testing.T) {
	dir, log := model(t)
	near := filepath.Dir(log)
	for kind, ppl := range map[string][2]string{"f32": {"5", "5"}, "q8_0": {"5.0099", "5"}, "q4_0": {"5.0101", "5"}, "q6_k": {"nan", "5"}, "bf16": {"5", "5"}} {
		write(t, filepath.Join(near, kind+".llama"), ppl[0])
		write(t, filepath.Join(near, kind+".eval"), ppl[1])
	}
	if err := perplexityOf(t, dir, "-types", "f32,q8_0"); err != nil {
		t.Error(err)
	}
	text, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	w := filepath.Join(dir, "work")
	want := []string{
		"convert " + dir + " --to gguf --type f32 -o " + w + "/f32.gguf",
		w + "/f32.gguf " + w + "/ids.i32 4 3 " + w + "/logits.f32",
		"eval " + w + "/f32.gguf --json --data " + w + "/ids.npy --length 4",
		"convert " + dir + " --to gguf --type q8_0 -o " + w + "/q8_0.gguf",
		w + "/q8_0.gguf " + w + "/ids.i32 4 3",
		"eval " + w + "/q8_0.gguf --json --data " + w + "/ids.npy --length 4",
	}
	if got := strings.Split(strings.TrimSpace(string(text)), "\n"); !slices.Equal(got, want) {
		t.Errorf("ran\n%s\nwant\n%s", text, strings.Join(want, "\n"))
	}
	var f *failed
	if err := perplexityOf(t, dir, "-types", "bf16,q4_0,q6_k"); !errors.As(err, &f) || !strings.Contains(f.what, "q4_0, q6_k") {
		t.Errorf("0.202 %% and NaN: %v", err)
	}
	if err := perplexityOf(t, dir, "-types", "f16"); err == nil || errors.As(err, &f) || !strings.Contains(err.Error(), "refused") {
		t.Errorf("a program that fails: %v", err)
	}
	write(t, filepath.Join(near, "logits"), "\x00\x00\x80\x3f\x00\x10\x00\x40")
	if err := perplexityOf(t, dir, "-types", "f32"); err != nil {
		t.Errorf("logits 0.001 apart: %v", err)
	}
	for _, bad := range []string{"\x00\x00\x80\x3f\x00\x30\x00\x40", "\x00\x00\x80\x3f\x00\x00\xc0\x7f"} {
		write(t, filepath.Join(near, "logits"), bad)
		if err := perplexityOf(t, dir, "-types", "f32"); !errors.As(err, &f) {
			t.Errorf("logits %q: %v", bad, err)
		}
	}
	write(t, filepath.Join(near, "logits"), "\x00\x00\x80\x3f")
	if err := perplexityOf(t, dir, "-types", "f32"); err == nil {
		t.Error("one logit of two is accepted")
	}
}

func TestWindows(t *testing.T) {
	rows := [][]int32{{1, 2, 3, 4, 5}, {6, 7, 8, 1 << 30, 10}}
	for _, c := range []struct {
		length, count int
		want          [][]int32
	}{
		{2, 0, [][]int32{{1, 2}, {3, 4}, {6, 7}, {8, 1 << 30}}}, {2, 3, [][]int32{{1, 2}, {3, 4}, {6, 7}}}, {5, 0, rows},
		{4, 0, [][]int32{{1, 2, 3, 4}, {6, 7, 8, 1 << 30}}},
	} {
		got, err := cut(rows, c.length, c.count)
		if err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%d of %d: %v, %v", c.count, c.length, got, err)
		}
		npy, raw := filepath.Join(t.TempDir(), "ids.npy"), filepath.Join(t.TempDir(), "ids")
		if err := writeWindows(got, npy, raw); err != nil {
			t.Fatal(err)
		}
		back, err := calib.ReadIDs(npy)
		if err != nil || !reflect.DeepEqual(back, c.want) {
			t.Errorf("read back %v, %v", back, err)
		}
		ids, err := os.ReadFile(raw)
		if err != nil || len(ids) != 4*len(got)*c.length || ids[0] != 1 || ids[4] != 2 {
			t.Errorf("ids % x, %v", ids, err)
		}
	}
	if _, err := cut(rows, 6, 0); err == nil {
		t.Error("windows longer than rows are found")
	}
}

// file writes a GGUF file of two tensors, in the types given, from values that change changes.
func file(t *testing.T, name string, kinds [2]ggml.Type, change func(name string, v []float32)) string {
	t.Helper()
	tensors := []gguf.Tensor{{Name: "a.weight", Type: kinds[0], Shape: []int64{3, 256}}, {Name: "b.weight", Type: kinds[1], Shape: []int64{1200, 256}}}
	path := filepath.Join(t.TempDir(), name)
	w, err := gguf.Create(path, nil, tensors, gguf.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range tensors {
		values := make([]float32, m.Shape[0]*m.Shape[1])
		for i := range values {
			values[i] = float32(math.Sin(float64(i*i) / 7))
		}
		change(m.Name, values)
		n, err := m.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		data := make([]byte, n)
		if err := ggml.Quantize(m.Type, data, values, 256, nil); err != nil {
			t.Fatal(err)
		}
		if err := w.WriteAt(m.Name, data, 0); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Commit(); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestTensors(t *testing.T) {
	same := func(string, []float32) {}
	// last changes the last value of a tensor, which lies in its second chunk.
	last := func(name string, v []float32) {
		if name == "b.weight" {
			v[len(v)-1] = -3
		}
	}
	plain, grid := [2]ggml.Type{ggml.F32, ggml.F32}, [2]ggml.Type{ggml.F32, ggml.Q8_0}
	source, good, bad := file(t, "f32.gguf", plain, same), file(t, "good.gguf", grid, same), file(t, "bad.gguf", grid, last)
	other := file(t, "other.gguf", [2]ggml.Type{ggml.F32, ggml.Q4_0}, same)
	for _, c := range []struct {
		ours, theirs, want string
		fails              bool
	}{
		{good, good, "2 tensors: 2 with the same bytes, 0 nearer to the values than llama.cpp's, 0 as near, 0 farther, 0 not alike", false},
		{good, bad, "1 with the same bytes, 1 nearer", false},
		{bad, good, "FARTHER", true},
		{good, other, "b.weight is Q8_0 [1200 256], llama.cpp's Q4_0 [1200 256]", true},
	} {
		var out strings.Builder
		err := run(t.Context(), []string{"tensors", "-source", source, c.ours, c.theirs}, &out)
		var f *failed
		if errors.As(err, &f) != c.fails || !c.fails && err != nil || !strings.Contains(out.String(), c.want) {
			t.Errorf("%v, want %q in\n%s", err, c.want, out.String())
		}
	}
	// The error of a file against its own values is that of its type: half a step of Q8_0 or less.
	var out strings.Builder
	if err := run(t.Context(), []string{"tensors", "-all", "-source", source, good, good}, &out); err != nil {
		t.Fatal(err)
	}
	var f *failed
	if err := run(t.Context(), []string{"tensors", "-same", "-source", source, good, bad}, &out); !errors.As(err, &f) || !strings.Contains(f.what, "1 tensors have other bytes") {
		t.Errorf("other bytes, and nearer ones: %v", err)
	}
	if err := run(t.Context(), []string{"tensors", "-same", "-source", source, good, good}, &out); err != nil {
		t.Errorf("the same bytes: %v", err)
	}
	out.Reset()
	if err := run(t.Context(), []string{"tensors", "-all", "-source", source, good, good}, &out); err != nil {
		t.Fatal(err)
	}
	var ours, theirs float64
	at := strings.Index(out.String(), "squared error ")
	line := out.String()[strings.Index(out.String(), "b.weight"):]
	if at < 0 {
		t.Fatalf("no error in\n%s", out.String())
	}
	if _, err := fmt.Sscanf(line[strings.Index(line, "squared error "):], "squared error %g, llama.cpp's %g", &ours, &theirs); err != nil {
		t.Fatal(err)
	}
	if step := 1.0 / 127; ours != theirs || !(ours > 0) || ours > step*step/4 {
		t.Errorf("errors %g and %g", ours, theirs)
	}
	if err := run(t.Context(), []string{"tensors", "-source", good, good, good}, &out); err == nil {
		t.Error("values in Q8_0 are accepted")
	}
}

func TestUsage(t *testing.T) {
	var out strings.Builder
	for _, args := range [][]string{{}, {"what"}, {"tensors"}, {"tensors", "-source", "a", "b"}, {"perplexity", "-model", "m"}, {"tensors", "-source", "none", "none", "none"},
		{"imatrix", "a"}, {"imatrix", "none", "none"}, {"windows"}, {"windows", "-model", "m", "-gguf", "g", "-text", "t", "-o", "o", "-length", "1"},
		{"windows", "-model", "m", "-gguf", "g", "-text", "t", "-o", "o"}} {
		if err := run(t.Context(), args, &out); err == nil {
			t.Errorf("%q is accepted", args)
		}
	}
}
