package emu

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
)

// artifact is one library: what it is made of, and how.
type artifact struct {
	name    string   // of the file
	sources []string // that are compiled
	depends []string // that they include
	flags   []string
	include []string // directories; their names are not part of what is built
	links   string   // artifact that it is linked with, "" for none
}

var (
	common = []string{"-std=c++17", "-fPIC", "-shared", "-fvisibility=hidden", "-fno-gnu-unique", "-Wall", "-Wextra", "-Werror", "-Wl,-Bsymbolic"}
	// The driver's own code.
	runtimeFlags = []string{"-O2", "-Wl,-soname,libcuda.so.1", "-pthread"}
	// Kernels: as nvcc, sums and products may be fused; shared memory is reached by others at any call that is not seen through.
	kernelFlags = []string{"-x", "c++", "-DHOST_KERNELS", "-O2", "-ffp-contract=fast", "-fno-strict-aliasing", "-fno-exceptions", "-fno-rtti",
		"-fno-ipa-reference", "-Wno-unknown-pragmas", "-Wno-unused-parameter", "-Wno-unused-function", "-Wno-unused-but-set-variable",
		"-Wno-maybe-uninitialized", "-fsanitize=alignment,bounds,shift-exponent,signed-integer-overflow,integer-divide-by-zero", "-fno-sanitize-recover=all"}
)

// Make builds the libraries with the kernels of package cuda and returns their directory.
var Make = sync.OnceValues(func() (string, error) {
	root, err := moduleRoot()
	if err != nil {
		return "", err
	}
	return makeWith(root, filepath.Join(root, "internal/device/cuda/kernels"))
})

// makeWith builds the libraries with all kernels of a directory.
func makeWith(root, kernels string) (string, error) {
	t, err := findTools()
	if err != nil {
		return "", err
	}
	list, err := artifacts(root, kernels)
	if err != nil {
		return "", err
	}
	cache, err := cacheDir()
	if err != nil {
		return "", err
	}
	unlock, err := lock(filepath.Join(cache, "lock"))
	if err != nil {
		return "", err
	}
	defer unlock()
	return t.build(cache, list)
}

// artifacts lists the libraries.
func artifacts(root, kernels string) ([]artifact, error) {
	src := filepath.Join(root, here, "src")
	var failed error
	files := func(dir, pattern string) []string {
		list, err := matching(dir, pattern)
		failed = errors.Join(failed, err)
		return list
	}
	headers := files(src, "*.h")
	language := files(filepath.Join(root, "internal/device/cuda/kernels"), "*.cuh")
	list := []artifact{{name: "libcuda.so.1", sources: files(src, "*.cpp"), depends: headers, flags: runtimeFlags}}
	for _, cu := range files(kernels, "*.cu") {
		list = append(list, artifact{
			name: "kernels-" + stem(cu) + ".so", sources: []string{cu}, depends: slices.Concat(headers, language, files(kernels, "*.cuh")),
			flags: kernelFlags, include: []string{src, filepath.Join(root, "internal/device/cuda/kernels")}, links: "libcuda.so.1",
		})
	}
	return list, failed
}

// build makes every artifact that the cache has not, and a directory with all of them.
func (t tools) build(cache string, list []artifact) (string, error) {
	paths := map[string]string{}
	var all []string
	for _, a := range list {
		hash, err := t.hash(a)
		if err != nil {
			return "", err
		}
		paths[a.name] = filepath.Join(cache, hash+"-"+a.name)
		all = append(all, a.name, hash)
	}
	for _, a := range list {
		if err := t.make(a, paths); err != nil {
			return "", err
		}
	}
	sum, err := digest(all, nil)
	if err != nil {
		return "", err
	}
	return collect(filepath.Join(cache, sum), list, paths)
}

func (t tools) hash(a artifact) (string, error) {
	return digest(slices.Concat([]string{t.version, a.name, a.links}, common, a.flags, t.include, t.machine), slices.Concat(a.sources, a.depends))
}

// make builds one library.
func (t tools) make(a artifact, paths map[string]string) error {
	path := paths[a.name]
	if _, err := os.Stat(path); err == nil {
		return nil
	}
	part := fmt.Sprintf("%s.%d", path, os.Getpid())
	args := slices.Concat(common, t.machine, t.include, a.flags, []string{"-o", part})
	for _, dir := range a.include {
		args = append(args, "-I", dir)
	}
	args = append(args, a.sources...)
	if a.links != "" {
		args = append(args, "-x", "none", paths[a.links], "-Wl,-rpath,$ORIGIN")
	}
	if err := t.run(args); err != nil {
		return err
	}
	return os.Rename(part, path)
}

// collect puts links to the libraries into a directory.
func collect(dir string, list []artifact, paths map[string]string) (string, error) {
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	part := fmt.Sprintf("%s.%d", dir, os.Getpid())
	if err := os.MkdirAll(part, 0o755); err != nil {
		return "", err
	}
	for _, a := range list {
		if err := os.Link(paths[a.name], filepath.Join(part, a.name)); err != nil {
			return "", err
		}
	}
	return dir, os.Rename(part, dir)
}

// cacheDir is where libraries are kept: in the user's cache, or among temporary files where there is none.
func cacheDir() (string, error) {
	dir, err := os.UserCacheDir()
	if err != nil {
		dir = os.TempDir()
	}
	dir = filepath.Join(dir, "modelpress", "emu")
	return dir, os.MkdirAll(dir, 0o755)
}

// lock has one process at a time build.
func lock(path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		_ = f.Close()
		return nil, err
	}
	return func() { _ = f.Close() }, nil
}
