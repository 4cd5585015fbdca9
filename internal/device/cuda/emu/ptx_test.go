package emu

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// remembered returns the file of the cache that a tool writes, and has it written where what it depends on has changed.
func remembered(name string, texts, files []string, write func(path string) error) ([]byte, error) {
	sum, err := digest(append([]string{name}, texts...), files)
	if err != nil {
		return nil, err
	}
	cache, err := cacheDir()
	if err != nil {
		return nil, err
	}
	path := filepath.Join(cache, sum+"-"+name)
	if data, err := os.ReadFile(path); err == nil {
		return data, nil
	}
	part := fmt.Sprintf("%s.%d", path, os.Getpid())
	if err := write(part); err != nil {
		return nil, err
	}
	if err := os.Rename(part, path); err != nil {
		return nil, err
	}
	return os.ReadFile(path)
}

// tool returns the path and the version of a program of the toolkit, and skips the test where it is not there.
func tool(t *testing.T, name string) (path, version string) {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skipf("no %s", name)
	}
	out, err := exec.Command(path, "--version").Output()
	if err != nil {
		t.Fatal(err)
	}
	return path, string(out)
}

func kernelsDir(t *testing.T) string {
	t.Helper()
	root, err := moduleRoot()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(root, kernelDir)
}

// The PTX that is committed is what nvcc 11.8 makes of the sources.
func TestCommittedPTX(t *testing.T) {
	if testing.Short() {
		t.Skip("the compiler takes a minute")
	}
	_, version := tool(t, "nvcc")
	if !strings.Contains(version, "release 11.8") {
		t.Skip("the PTX is written by nvcc 11.8, and this is another release")
	}
	dir := kernelsDir(t)
	sources, err := matching(dir, "*.cu")
	if err != nil {
		t.Fatal(err)
	}
	committed, err := matching(filepath.Join(dir, "ptx"), "*.ptx")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range committed {
		if !slices.Contains(sources, filepath.Join(dir, stem(path)+".cu")) {
			t.Errorf("%s.ptx has no source", stem(path))
		}
	}
	errs := make([]error, len(sources))
	each(len(sources), func(i int) { errs[i] = comparePTX(dir, sources[i], version) })
	for _, err := range errs {
		if err != nil {
			t.Error(err)
		}
	}
}

// sortedLines leaves out the order, of which nvcc lets a little depend on where the system puts its memory.
func sortedLines(text []byte) []string { return slices.Sorted(strings.Lines(string(text))) }

func comparePTX(dir, source, version string) error {
	script, name := filepath.Join(dir, "build.sh"), stem(source)+".ptx"
	headers, err := included([]string{source}, nil)
	if err != nil {
		return err
	}
	want, err := remembered(name, []string{version}, append([]string{script, source}, headers...), func(path string) error {
		to, err := os.MkdirTemp("", "ptx")
		if err != nil {
			return err
		}
		defer os.RemoveAll(to)
		if out, err := exec.Command(script, to, filepath.Base(source)).CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w\n%s", filepath.Base(source), err, out)
		}
		data, err := os.ReadFile(filepath.Join(to, name))
		if err != nil {
			return err
		}
		return os.WriteFile(path, data, 0o644)
	})
	if err != nil {
		return err
	}
	if got, err := os.ReadFile(filepath.Join(dir, "ptx", name)); err != nil || !slices.Equal(sortedLines(got), sortedLines(want)) {
		return fmt.Errorf("ptx/%s is not what nvcc makes of its source: run %s/build.sh", name, kernelDir)
	}
	return nil
}
