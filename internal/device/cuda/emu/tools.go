package emu

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
)

// tools is what libraries are built with.
type tools struct {
	compiler string
	version  string
	include  []string // flags that lead to cuda.h
	machine  []string // flags of the processor
}

// findTools returns an error of type missing where one is not there.
func findTools() (tools, error) {
	if runtime.GOOS != "linux" {
		return tools{}, missing("the emulated device is built on Linux only")
	}
	compiler, err := exec.LookPath("g++")
	if err != nil {
		return tools{}, missing("no g++ to build the emulated device with")
	}
	version, err := exec.Command(compiler, "--version").Output()
	if err != nil {
		return tools{}, err
	}
	t := tools{compiler: compiler, version: string(version)}
	if t.include, err = findHeader(); err != nil {
		return tools{}, err
	}
	if data, err := os.ReadFile("/proc/cpuinfo"); err == nil && runtime.GOARCH == "amd64" {
		if cpu := string(data); strings.Contains(cpu, " avx2") && strings.Contains(cpu, " fma") && strings.Contains(cpu, " f16c") {
			t.machine = []string{"-march=x86-64-v3"}
		}
	}
	return t, nil
}

// findHeader looks for cuda.h where cgo finds it, and where toolkits put it.
func findHeader() ([]string, error) {
	dirs := []string{"/usr/include", "/usr/local/cuda/include", "/opt/cuda/include"}
	for _, name := range []string{"CUDA_HOME", "CUDA_PATH"} {
		if home := os.Getenv(name); home != "" {
			dirs = append([]string{filepath.Join(home, "include")}, dirs...)
		}
	}
	for i, dir := range dirs {
		if _, err := os.Stat(filepath.Join(dir, "cuda.h")); err != nil {
			continue
		}
		if i == len(dirs)-3 {
			return nil, nil // the compiler's own
		}
		return []string{"-isystem", dir}, nil
	}
	return nil, missing("no cuda.h to build the emulated device with")
}

// run runs the compiler and returns what it says where it fails.
func (t tools) run(args []string) error {
	out, err := exec.Command(t.compiler, args...).CombinedOutput()
	if err != nil {
		return &buildError{strings.Join(args, " "), string(out), err}
	}
	return nil
}

// buildError is a source that the compiler refuses.
type buildError struct {
	args, output string
	err          error
}

func (e *buildError) Error() string { return "g++ " + e.args + ": " + e.err.Error() + "\n" + e.output }
func (e *buildError) Unwrap() error { return e.err }
