// Package emu lets tests run the device of package cuda without a GPU. It builds, with g++, the kernels as plain C++ and a library
// libcuda.so.1 that runs them: threads of a block are fibers in an order that a seed chooses, streams do nothing before they must,
// memory is full of NaN before it is written, and what a GPU leaves undefined ends the process with a message. It is slow, and finds
// errors that a GPU shows now and then.
//
// The environment chooses how it behaves, and may change between two calls:
//
//	MODELPRESS_EMU_SCHEDULE    order of threads and blocks: up (default), down, random:SEED
//	MODELPRESS_EMU_STREAMS     lazy (default), ahead, eager, random:SEED
//	MODELPRESS_EMU_MEMORY      bytes of the device, 2 GiB by default
//	MODELPRESS_EMU_THREADS     threads of the system that run blocks, 2 by default
//	MODELPRESS_EMU_FAIL        KIND:N:CODE,...: the n-th launch, alloc, pinned, copy, module or blas call fails so
//	MODELPRESS_EMU_INIT        result of cuInit
//	MODELPRESS_EMU_DEVICES     number of devices, 1 by default
//	MODELPRESS_EMU_CAPABILITY  compute capability times ten, 90 by default
//	MODELPRESS_EMU_TRACE       anything: streams say on stderr what they do
//
// With MODELPRESS_EMU_CHECK=races when the libraries are built, kernels tell of every access to memory, and two accesses to one byte that
// nothing orders (a barrier of the block, a __syncwarp of the warp, the end of a launch) stop the process; with
// MODELPRESS_EMU_RACES set each place in the code is reported once, and it goes on. Everything takes some times as long then.
//
// With random, ahead and lazy streams the same program may see its memory at different times; results that differ are its error.
package emu

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// Variables of the environment: where the libraries are, and why there are none.
const (
	pathVariable   = "MODELPRESS_CUDA_PATH"
	reasonVariable = "MODELPRESS_EMU_MISSING"
	checkVariable  = "MODELPRESS_EMU_CHECK"
)

// built is what the libraries of package cuda have become, and builtRaces those whose kernels tell of their accesses.
var (
	built      = sync.OnceValues(func() (libraries, error) { return makeKernels(os.Getenv(checkVariable) == "races") })
	builtRaces = sync.OnceValues(func() (libraries, error) { return makeKernels(true) })
)

func makeKernels(races bool) (libraries, error) {
	root, err := moduleRoot()
	if err != nil {
		return libraries{}, err
	}
	return makeWith(root, filepath.Join(root, kernelDir), races)
}

// makeWith builds the libraries with all kernels of a directory.
func makeWith(root, kernels string, races bool) (libraries, error) {
	t, err := findTools()
	if err != nil {
		return libraries{}, err
	}
	list, err := artifacts(root, kernels, races)
	if err != nil {
		return libraries{}, err
	}
	cache, err := cacheDir()
	if err != nil {
		return libraries{}, err
	}
	unlock, err := lock(filepath.Join(cache, "lock"))
	if err != nil {
		return libraries{}, err
	}
	defer unlock()
	return t.build(cache, list)
}

// Build returns the directory of the libraries, which it builds where they or what they are made of changed. It skips the test on
// machines without the tools. A kernel source that does not compile is left out, and who launches it is told.
func Build(t testing.TB) string {
	t.Helper()
	l, err := built()
	if err != nil {
		skip(t, err)
	}
	return l.dir
}

// BuildRaces is Build for the libraries that find races.
func BuildRaces(t testing.TB) string {
	t.Helper()
	l, err := builtRaces()
	if err != nil {
		skip(t, err)
	}
	return l.dir
}

// skip skips a test where tools are missing, and fails it where they report an error.
func skip(t testing.TB, err error) {
	t.Helper()
	if _, ok := err.(missing); ok {
		t.Skip(err)
	}
	t.Fatal(err)
}

// missing says which tool is not there.
type missing string

func (m missing) Error() string { return string(m) }

// Environ returns the environment for a process that is to find the libraries, and no others, with more variables, each NAME=value.
func Environ(dir string, more ...string) []string {
	return append(append(os.Environ(), pathVariable+"="+dir+":-"), more...)
}

// Main is the body of the TestMain of a package whose tests want the emulated device:
//
//	func TestMain(m *testing.M) { os.Exit(emu.Main(m)) }
//
// It builds the libraries and starts the test binary again in an environment that leads to them, since a process looks for them once.
// Where MODELPRESS_CUDA_PATH is set already, it leads the tests to whatever is there: on a machine with a GPU, a
// directory without libraries, such as /, leaves the emulation out.
func Main(m *testing.M) int {
	if os.Getenv(pathVariable) != "" || os.Getenv(reasonVariable) != "" {
		return m.Run()
	}
	var env []string
	if l, err := built(); err == nil {
		env = Environ(l.dir)
		for _, err := range l.failed {
			fmt.Fprintln(stderr{}, err)
		}
	} else if _, ok := err.(missing); ok {
		env = append(os.Environ(), reasonVariable+"="+strings.ReplaceAll(err.Error(), "\x00", ""))
	} else {
		fmt.Fprintln(stderr{}, err)
		return 1
	}
	self, err := os.Executable()
	if err == nil {
		err = syscall.Exec(self, os.Args, env)
	}
	fmt.Fprintln(stderr{}, err)
	return 1
}

// stderr is the standard error of the process.
type stderr struct{}

func (stderr) Write(p []byte) (int, error) { return syscall.Write(2, p) }

// Require skips a test of a package with Main where the libraries could not be built.
func Require(t testing.TB) {
	t.Helper()
	if why := os.Getenv(reasonVariable); why != "" {
		t.Skip(why)
	}
}
