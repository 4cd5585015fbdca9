package main

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// TestMain lets the test binary be the programs that are measured: each writes as many bytes as its name says into its last
// argument but one, or the one after --outfile or -o, and fails where that is asked for.
func TestMain(m *testing.M) {
	if os.Getenv("CONVERTBENCH_STAND") != "" && len(os.Args) > 1 && !strings.HasPrefix(os.Args[1], "-test.") {
		os.Exit(stand(os.Args[1:]))
	}
	os.Exit(m.Run())
}

func stand(args []string) int {
	if slices.Contains(args, "-floor") {
		main()
		return 0
	}
	log, err := os.OpenFile(os.Getenv("CONVERTBENCH_STAND"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return 1
	}
	fmt.Fprintln(log, strings.Join(args, " "))
	log.Close()
	if os.Getenv("CONVERTBENCH_FAIL") == args[0] {
		fmt.Println("no", args[0], "today")
		return 3
	}
	size := map[string]int{"convert": 3000, "convert_hf": 5000}[args[0]]
	file := args[1]
	if size > 0 {
		file = args[1+max(slices.Index(args, "-o"), slices.Index(args, "--outfile"))]
	} else if between, err := os.ReadFile(args[0]); err != nil || len(between) != 5000 {
		return 1 // llama-quantize reads what the converter wrote
	}
	if os.WriteFile(file, make([]byte, max(size, 1500)), 0o644) != nil {
		return 1
	}
	return 0
}

// checkpoint makes weight files of the sizes given.
func checkpoint(t *testing.T, sizes ...int) string {
	t.Helper()
	dir := t.TempDir()
	for i, n := range sizes {
		data := make([]byte, n)
		for j := range data {
			data[j] = byte(1 + (i+j)%255)
		}
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("model-%d.safetensors", i)), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestCompare(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir, work := checkpoint(t, 1000, 2000), filepath.Join(t.TempDir(), "work")
	log := filepath.Join(t.TempDir(), "log")
	t.Setenv("CONVERTBENCH_STAND", log)
	args := []string{"-model", dir, "-work", work, "-compress", self, "-converter", self + " convert_hf --quiet", "-quantize", self, "-rounds", "2", "-warm", "-convert-flags", "--mem-limit 1GiB"}
	var out strings.Builder
	if err := run(t.Context(), args, &out); err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, line := range strings.Split(strings.TrimSpace(out.String()), "\n")[2:] {
		f := strings.Fields(line)
		if len(f) != 11 || f[6] == "0" && runtime.GOOS == "linux" {
			t.Errorf("line %q", line)
			continue
		}
		lines = append(lines, f[0]+" "+f[1])
	}
	want := []string{"ours f16", "floor f16", "llama.cpp f16", "ours q8_0", "floor q8_0", "llama.cpp q8_0", "quantize q8_0", "converter q8_0"}
	if !slices.Equal(lines, want) {
		t.Errorf("lines %q, want %q", lines, want)
	}
	text, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	ran := strings.Split(strings.TrimSpace(string(text)), "\n")
	round := []string{
		"convert " + dir + " --to gguf --type f16 -o " + work + "/ours.gguf --mem-limit 1GiB",
		"convert_hf --quiet " + dir + " --outtype f16 --outfile " + work + "/theirs.gguf",
		"convert " + dir + " --to gguf --type q8_0 -o " + work + "/ours.gguf --mem-limit 1GiB",
		"convert_hf --quiet " + dir + " --outtype f16 --outfile " + work + "/between.gguf",
		work + "/between.gguf " + work + "/theirs.gguf q8_0 2",
		"convert_hf --quiet " + dir + " --outtype q8_0 --outfile " + work + "/theirs.gguf",
	}
	if !slices.Equal(ran, append(round, round...)) {
		t.Errorf("ran\n%s", text)
	}
	if left, err := os.ReadDir(work); err != nil || len(left) != 0 {
		t.Errorf("%d files are left, %v", len(left), err)
	}
	t.Setenv("CONVERTBENCH_FAIL", "convert_hf")
	if err := run(t.Context(), args, &out); err == nil || !strings.Contains(err.Error(), "no convert_hf today") {
		t.Errorf("a converter that fails: %v", err)
	}
}

// The floor reads every file once and writes as much as it should, in whatever measure to what it reads.
func TestFloor(t *testing.T) {
	dir := checkpoint(t, piece+17, 5, piece)
	files, total, err := weights(dir)
	if err != nil || len(files) != 3 || total != 2*piece+22 {
		t.Fatalf("%d files of %d bytes, %v", len(files), total, err)
	}
	for _, n := range []int64{0, 1, total / 2, total, 2*total + 3} {
		for _, readers := range []int{1, 3} {
			path := filepath.Join(t.TempDir(), "floor")
			if err := floor(files, total, path, n, readers); err != nil {
				t.Fatal(err)
			}
			data, err := os.ReadFile(path)
			if err != nil || int64(len(data)) != n || bytes.IndexByte(data, 0) >= 0 {
				t.Errorf("%d readers: %d bytes, want %d without a hole, %v", readers, len(data), n, err)
			}
		}
	}
	if err := floor([]string{files[0], filepath.Join(dir, "none")}, total, filepath.Join(t.TempDir(), "floor"), 1, 2); err == nil {
		t.Error("a file that is not there is read")
	}
}

// A file is hashed as a whole.
func TestFloorHashes(t *testing.T) {
	dir := checkpoint(t, piece+9)
	files, total, err := weights(dir)
	if err != nil {
		t.Fatal(err)
	}
	out, err := os.Create(filepath.Join(t.TempDir(), "floor"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	f, sum := &flow{out: out, total: total}, sha256.New()
	if err := f.file(files[0], make([]byte, 1000), sum); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	if want := sha256.Sum256(data); !bytes.Equal(sum.Sum(nil), want[:]) {
		t.Error("another hash than that of the file")
	}
}

func TestUsage(t *testing.T) {
	dir := checkpoint(t, 1)
	for _, args := range [][]string{
		{}, {"-model", dir}, {"-model", dir, "-work", dir}, {"-model", dir, "-work", dir, "-compress", "c", "more"}, {"-what"},
		{"-model", dir, "-work", dir, "-compress", "c", "-rounds", "0"}, {"-model", t.TempDir(), "-work", dir, "-compress", "c"},
	} {
		if err := run(t.Context(), args, &strings.Builder{}); err == nil {
			t.Errorf("%q is accepted", args)
		}
	}
}

func TestMedian(t *testing.T) {
	for want, all := range map[float64][]cost{2: {{wall: 3}, {wall: 1}, {wall: 2}}, 2.5: {{wall: 4}, {wall: 2}, {wall: 3}, {wall: 1}}} {
		if got := median(all, cost.seconds); got != want {
			t.Errorf("%v, want %v", got, want)
		}
	}
	if got, want := (cost{1, 2, 3, 4}).then(cost{10, 20, 1, 5}), (cost{11, 22, 3, 5}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}
