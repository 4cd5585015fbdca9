package gguf

import (
	"fmt"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

// suffix ends the name of a file.
const suffix = ".gguf"

// partPattern is how llama.cpp names the files of a model that was split (llama_split_path).
var partPattern = regexp.MustCompile(`^(.+)-([0-9]{5})-of-([0-9]{5})\.gguf$`)

// partName returns the name of part i, counted from 0, of n.
func partName(prefix string, i, n int) string {
	return fmt.Sprintf("%s-%05d-of-%05d%s", prefix, i+1, n, suffix)
}

// parsePart takes the name of a part to pieces; i counts from 0.
func parsePart(name string) (prefix string, i, n int, ok bool) {
	m := partPattern.FindStringSubmatch(name)
	if m == nil {
		return "", 0, 0, false
	}
	i, _ = strconv.Atoi(m[2]) // digits
	n, _ = strconv.Atoi(m[3])
	return m[1], i - 1, n, true
}

// IsPart reports whether a path has the name of one of the files of a split model.
func IsPart(path string) bool {
	_, _, _, ok := parsePart(filepath.Base(path))
	return ok
}

// part is what a file says of its place among the files of a model.
type part struct {
	no, count uint64
	tensors   uint64 // of all files
	total     bool   // whether tensors is known
}

// isSplitKey reports whether a key speaks of the place of a file among others and not of the model.
func isSplitKey(key string) bool {
	return key == keySplitNo || key == keySplitCount || key == keySplitTensors
}

// part returns the place of a file. A count of 0, as in a file that was merged from parts, or 1 is a file that stands for itself.
func (h *header) part() (p part, err error) {
	var numbered bool
	if p.count, _, err = h.natural(keySplitCount); err != nil {
		return p, err
	}
	if p.no, numbered, err = h.natural(keySplitNo); err != nil {
		return p, err
	}
	if p.tensors, p.total, err = h.natural(keySplitTensors); err != nil {
		return p, err
	}
	switch {
	case p.count > MaxSplits:
		return p, fmt.Errorf("key %q: %d files are over the limit of %d", keySplitCount, p.count, MaxSplits)
	case p.count > 1 && !numbered:
		return p, fmt.Errorf("key %q is missing", keySplitNo)
	case p.count > 1 && !p.total:
		return p, fmt.Errorf("key %q is missing", keySplitTensors)
	case p.no > 0 && p.no >= p.count:
		return p, fmt.Errorf("key %q: %d, in a model of %d files", keySplitNo, p.no, p.count)
	}
	return p, nil
}

// natural returns a whole number of the metadata that is not negative.
func (h *header) natural(key string) (n uint64, there bool, err error) {
	v, there := h.lookup(key)
	if !there {
		return 0, false, nil
	}
	n, ok := v.Uint()
	if !ok {
		return 0, true, fmt.Errorf("key %q: a whole number that is not negative is needed", key)
	}
	return n, true, nil
}

// first checks that a file is the first of its model, or the only one, and returns what its name is without the number.
func (p part) first(file string) (prefix string, err error) {
	prefix, i, n, named := parsePart(file)
	switch {
	case p.no > 0 && named:
		return "", fmt.Errorf("this is part %d of %d of a model that was split: open the first, %s", p.no+1, p.count, partName(prefix, 0, n))
	case p.no > 0:
		return "", fmt.Errorf("this is part %d of %d of a model that was split: open the first", p.no+1, p.count)
	case p.count > 1 && (!named || i != 0 || n != int(p.count)):
		stem := strings.TrimSuffix(file, suffix)
		if named {
			stem = prefix
		}
		return "", fmt.Errorf("this is the first of %d files of a model that was split, and must be called %s, so that the others can be found", p.count, partName(stem, 0, int(p.count)))
	case p.count < 2 && named && n > 1:
		return "", fmt.Errorf("the name says that this is part %d of %d, and the metadata does not (key %q)", i+1, n, keySplitCount)
	}
	return prefix, nil
}
