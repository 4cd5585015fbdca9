package emu

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
)

// The test programs of testdata are C++ that calls the driver as a program with a GPU would, with the kernels of testdata.
var (
	probes     = sync.OnceValues(func() (libraries, error) { return makeProbes(false) })
	raceProbes = sync.OnceValues(func() (libraries, error) { return makeProbes(true) })
)

func makeProbes(races bool) (libraries, error) {
	root, err := moduleRoot()
	if err != nil {
		return libraries{}, err
	}
	return makeWith(root, filepath.Join(root, here, "testdata"), races)
}

// programs are those that were compiled, by name.
var programs sync.Map

// program compiles a test program and returns its path.
func program(t *testing.T, name string, libraries func() (libraries, error)) string {
	t.Helper()
	l, err := libraries()
	if err != nil {
		skip(t, err)
	}
	for _, err := range l.failed {
		t.Fatal(err)
	}
	build, _ := programs.LoadOrStore(filepath.Join(l.dir, name), sync.OnceValues(func() (string, error) { return compile(l.dir, name) }))
	path, err := build.(func() (string, error))()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// compile keeps the program in the directory of the libraries that it is linked with.
func compile(dir, name string) (string, error) {
	source := filepath.Join("testdata", name+".cpp")
	sum, err := digest(nil, []string{source, "testdata/probe.h"})
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, name+"-"+sum)
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	tools, err := findTools()
	if err != nil {
		return "", err
	}
	part := path + ".part"
	args := []string{"-std=c++17", "-O1", "-Wall", "-Wextra", "-Werror", "-I", "src", "-o", part, source, "-L", dir, "-l:libcuda.so.1", "-l:libcublas.so.12",
		"-Wl,--as-needed", "-Wl,-rpath," + dir, "-pthread"}
	if err := tools.run(slices.Concat(tools.include, args)); err != nil {
		return "", err
	}
	return path, os.Rename(part, path)
}

// try runs a test of a program with more variables in its environment, and returns what it says.
func try(t *testing.T, name, test string, env ...string) (string, error) {
	t.Helper()
	return start(program(t, name, probes), test, env...)
}

// start runs a program in an environment that is the same wherever the tests run.
func start(path, test string, env ...string) (string, error) {
	cmd := exec.Command(path, test)
	for _, e := range os.Environ() {
		if !strings.HasPrefix(e, "MODELPRESS_") {
			cmd.Env = append(cmd.Env, e)
		}
	}
	cmd.Env = append(cmd.Env, env...)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// pass runs a test that has to end well, and returns what it says.
func pass(t *testing.T, name, test string, env ...string) string {
	t.Helper()
	out, err := try(t, name, test, env...)
	if err != nil || !strings.HasSuffix(out, "done\n") {
		t.Errorf("%s %s with %q: %v\n%s", name, test, env, err, out)
	}
	return strings.TrimSuffix(out, "done\n")
}

// stops runs a test that the emulation has to stop with a message.
func stops(t *testing.T, name, test, pattern string) {
	t.Helper()
	out, err := try(t, name, test)
	if err == nil || !regexp.MustCompile(pattern).MatchString(out) {
		t.Errorf("%s %s: %v, and no %q in\n%s", name, test, err, pattern, out)
	}
}
