package emu

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
)

// libraries is a directory of what was built, and what could not be.
type libraries struct {
	dir    string
	failed []error
}

// build makes every artifact that the cache has not, and a directory with all of them. The first is the driver, which the others may
// be linked with.
func (t tools) build(cache string, list []artifact) (libraries, error) {
	paths := map[string]string{}
	for _, a := range list {
		hash, err := t.hash(a)
		if err != nil {
			return libraries{}, err
		}
		paths[a.name] = filepath.Join(cache, hash+"-"+a.name)
	}
	if err := t.make(list[0], paths); err != nil {
		return libraries{}, err
	}
	errs := make([]error, len(list))
	each(len(list)-1, func(i int) { errs[i+1] = t.make(list[i+1], paths) })
	for i, err := range errs {
		if err != nil && !list[i].optional {
			return libraries{}, err
		}
	}
	return collect(cache, list, paths, errs)
}

// each runs f(0..n-1) on a few threads.
func each(n int, f func(int)) {
	var wait sync.WaitGroup
	next := make(chan int)
	for range min(n, runtime.NumCPU(), 8) {
		wait.Go(func() {
			for i := range next {
				f(i)
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	wait.Wait()
}

func (t tools) hash(a artifact) (string, error) {
	return digest(slices.Concat([]string{t.version, a.name, a.links}, common, a.flags, t.include, t.machine), slices.Concat(a.sources, a.depends))
}

// make builds one library where the cache has not got it.
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
	var link []string
	if a.links != "" {
		link = []string{"-x", "none", paths[a.links], "-Wl,-rpath,$ORIGIN"}
	}
	if !a.races {
		args = append(args, link...)
	} else {
		// Two steps, or the compiler would link libtsan.
		object := part + ".o"
		defer os.Remove(object)
		if err := t.run(slices.Concat(args, []string{"-c", "-o", object})); err != nil {
			return err
		}
		args = slices.Concat(common, []string{"-o", part, object}, link)
	}
	if err := t.run(args); err != nil {
		return err
	}
	return os.Rename(part, path)
}
