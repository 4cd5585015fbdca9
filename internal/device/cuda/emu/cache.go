package emu

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"
)

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

// collect puts links to the libraries into a directory of the cache, and for each that was not built, NAME.failed with the reason.
func collect(cache string, list []artifact, paths map[string]string, errs []error) (libraries, error) {
	var l libraries
	var parts []string
	for i, a := range list {
		parts = append(parts, paths[a.name])
		if errs[i] != nil {
			parts = append(parts, errs[i].Error())
			l.failed = append(l.failed, errs[i])
		}
	}
	sum, err := digest(parts, nil)
	if err != nil {
		return l, err
	}
	l.dir = filepath.Join(cache, sum)
	if _, err := os.Stat(l.dir); err == nil {
		return l, nil
	}
	part := fmt.Sprintf("%s.%d", l.dir, os.Getpid())
	if err := os.MkdirAll(part, 0o755); err != nil {
		return l, err
	}
	for i, a := range list {
		if errs[i] != nil {
			err = os.WriteFile(filepath.Join(part, a.name+".failed"), []byte(errs[i].Error()), 0o644)
		} else {
			err = os.Link(paths[a.name], filepath.Join(part, a.name))
		}
		if err != nil {
			return l, err
		}
	}
	if err := os.Rename(part, l.dir); err != nil {
		return l, err
	}
	return l, prune(cache)
}

// kept bounds the entries of the cache: a few hundred megabytes.
const kept = 2000

// prune removes the oldest entries of the cache beyond kept.
func prune(cache string) error {
	entries, err := os.ReadDir(cache)
	if err != nil || len(entries) <= kept {
		return err
	}
	age := func(e os.DirEntry) time.Time {
		info, err := e.Info()
		if err != nil {
			return time.Time{}
		}
		return info.ModTime()
	}
	slices.SortFunc(entries, func(a, b os.DirEntry) int { return age(a).Compare(age(b)) })
	for _, e := range entries[:len(entries)-kept] {
		if e.Name() == "lock" {
			continue
		}
		if err := os.RemoveAll(filepath.Join(cache, e.Name())); err != nil {
			return err
		}
	}
	return nil
}
