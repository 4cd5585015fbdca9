package emu

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// Directories from the root of the module.
const (
	here      = "internal/device/cuda/emu"
	kernelDir = "internal/device/cuda/kernels"
)

// moduleRoot returns the directory of go.mod at or above the working directory, where go test runs a package's tests.
func moduleRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		up := filepath.Dir(dir)
		if up == dir {
			return "", missing("no go.mod above the working directory")
		}
		dir = up
	}
}

// matching returns the files of a directory that match a pattern, in order.
func matching(dir, pattern string) ([]string, error) {
	list, err := filepath.Glob(filepath.Join(dir, pattern))
	slices.Sort(list)
	return list, err
}

var includePattern = regexp.MustCompile(`(?m)^\s*#\s*include\s*"([^"]+)"`)

// included returns all files that sources include by "name", found beside the file that names them or in one of the directories.
func included(sources, dirs []string) ([]string, error) {
	seen := map[string]bool{}
	var list []string
	open := slices.Clone(sources)
	for len(open) > 0 {
		file := open[0]
		open = open[1:]
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		for _, m := range includePattern.FindAllStringSubmatch(string(text), -1) {
			for _, dir := range append([]string{filepath.Dir(file)}, dirs...) {
				path := filepath.Join(dir, m[1])
				if _, err := os.Stat(path); err != nil {
					continue
				}
				if !seen[path] {
					seen[path] = true
					list, open = append(list, path), append(open, path)
				}
				break
			}
		}
	}
	slices.Sort(list)
	return list, nil
}

// digest is of texts and of the contents of files.
func digest(texts []string, files []string) (string, error) {
	h := sha256.New()
	for _, t := range texts {
		fmt.Fprintf(h, "%d %s\n", len(t), t)
	}
	for _, name := range files {
		f, err := os.Open(name)
		if err != nil {
			return "", err
		}
		fmt.Fprintf(h, "file %s\n", filepath.Base(name))
		_, err = io.Copy(h, f)
		_ = f.Close()
		if err != nil {
			return "", err
		}
	}
	return hex.EncodeToString(h.Sum(nil))[:32], nil
}

// stem is the name of a file without directory and extension.
func stem(path string) string {
	name := filepath.Base(path)
	return strings.TrimSuffix(name, filepath.Ext(name))
}
