package emu

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// usage is what ptxas says of a kernel.
type usage struct {
	name                                  string
	stack, stores, loads, registers, smem int
}

func (u usage) spills() bool { return u.stack+u.stores+u.loads > 0 }

func (u usage) String() string {
	s := fmt.Sprintf("%s: %d registers, %d bytes of shared memory", u.name, u.registers, u.smem)
	if u.spills() {
		s += fmt.Sprintf(", %d bytes of stack, %d stored and %d loaded", u.stack, u.stores, u.loads)
	}
	return s
}

var (
	entryPattern = regexp.MustCompile(`Compiling entry function '(\w+)'`)
	spillPattern = regexp.MustCompile(`(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads`)
	usedPattern  = regexp.MustCompile(`Used (\d+) registers`)
	smemPattern  = regexp.MustCompile(`(\d+) bytes smem`)
)

// usages reads what ptxas -v writes.
func usages(text string) []usage {
	var list []usage
	for line := range strings.Lines(text) {
		if m := entryPattern.FindStringSubmatch(line); m != nil {
			list = append(list, usage{name: m[1]})
		}
		if len(list) == 0 {
			continue
		}
		u := &list[len(list)-1]
		number := func(to *int, s string) { *to, _ = strconv.Atoi(s) }
		if m := spillPattern.FindStringSubmatch(line); m != nil {
			number(&u.stack, m[1])
			number(&u.stores, m[2])
			number(&u.loads, m[3])
		}
		if m := usedPattern.FindStringSubmatch(line); m != nil {
			number(&u.registers, m[1])
		}
		if m := smemPattern.FindStringSubmatch(line); m != nil {
			number(&u.smem, m[1])
		}
	}
	return list
}

// The test must be able to fail.
func TestUsages(t *testing.T) {
	got := usages(`ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function 'a' for 'sm_80'
ptxas info    : Function properties for a
    16 bytes stack frame, 8 bytes spill stores, 4 bytes spill loads
ptxas info    : Used 40 registers, 1024 bytes smem, 376 bytes cmem[0]
ptxas info    : Compiling entry function 'b' for 'sm_80'
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 8 registers, 352 bytes cmem[0]
`)
	want := []usage{{"a", 16, 8, 4, 40, 1024}, {"b", 0, 0, 0, 8, 0}}
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// hotKernels reads the list of kernels that must not spill.
func hotKernels(t *testing.T, dir string) map[string]bool {
	t.Helper()
	list, err := os.ReadFile(filepath.Join(dir, "hot.txt"))
	if err != nil {
		t.Fatal(err)
	}
	hot := map[string]bool{}
	for line := range strings.Lines(string(list)) {
		line, _, _ = strings.Cut(line, "#")
		for _, name := range strings.Fields(line) {
			hot[name] = true
		}
	}
	return hot
}

// assemble returns what ptxas says of the kernels of a file.
func assemble(assembler, version, file, arch string) ([]usage, error) {
	text, err := remembered(stem(file)+"."+arch+".txt", []string{version}, []string{file}, func(path string) error {
		out, err := exec.Command(assembler, "-v", "-arch="+arch, file, "-o", os.DevNull).CombinedOutput()
		if err != nil {
			return fmt.Errorf("%s, %s: %w\n%s", stem(file), arch, err, out)
		}
		return os.WriteFile(path, out, 0o644)
	})
	return usages(string(text)), err
}

// Kernels assemble for the GPUs that the program is for, and those of hot.txt keep all they hold in registers.
func TestRegisters(t *testing.T) {
	if testing.Short() {
		t.Skip("the assembler takes a minute")
	}
	assembler, version := tool(t, "ptxas")
	dir := kernelsDir(t)
	hot := hotKernels(t, dir)
	files, err := matching(filepath.Join(dir, "ptx"), "*.ptx")
	if err != nil {
		t.Fatal(err)
	}
	lists := make([][]usage, 2*len(files))
	errs := make([]error, len(lists))
	arch := func(i int) string { return []string{"sm_80", "sm_90"}[i%2] }
	each(len(lists), func(i int) { lists[i], errs[i] = assemble(assembler, version, files[i/2], arch(i)) })
	seen := map[string]bool{}
	for i, list := range lists {
		if errs[i] != nil {
			t.Error(errs[i])
		}
		for _, u := range list {
			seen[u.name] = true
			if hot[u.name] && u.spills() {
				t.Errorf("%s %s", arch(i), u)
			} else {
				t.Logf("%s %s", arch(i), u)
			}
		}
	}
	for name := range hot {
		if !seen[name] {
			t.Errorf("hot.txt names %s, and there is no such kernel", name)
		}
	}
}
