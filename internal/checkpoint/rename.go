package checkpoint

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"modelpress/formats"
)

// ErrRename is the cause of a failure to rename tensors as asked.
var ErrRename = errors.New("tensors are not renamed")

// Rename changes names of tensors: every match of the pattern is replaced, as regexp.ReplaceAllString does it.
type Rename struct {
	Pattern *regexp.Regexp
	To      string
}

// ParseRename reads a rule of the form PATTERN=REPLACEMENT, split at the last "=".
func ParseRename(s string) (Rename, error) {
	i := strings.LastIndexByte(s, '=')
	if i <= 0 {
		return Rename{}, fmt.Errorf("rename %q: want PATTERN=REPLACEMENT", s)
	}
	re, err := regexp.Compile(s[:i])
	if err != nil {
		return Rename{}, fmt.Errorf("rename %q: %w", s, err)
	}
	return Rename{re, s[i+1:]}, nil
}

// ApplyRenames returns what a name becomes by all rules in turn.
func ApplyRenames(rules []Rename, name string) string {
	for _, r := range rules {
		name = r.Pattern.ReplaceAllString(name, r.To)
	}
	return name
}

// rename shows the tensors of the store under other names. The configuration of quantized weights has names of modules in it, and so they
// keep theirs.
func (c *Checkpoint) rename(rules []Rename) error {
	if len(rules) == 0 {
		return nil
	}
	if c.QuantizationConfig() != nil {
		return formats.Errorf("config.json", "", "%w: quantization_config names modules of a quantized model; convert it to plain weights first", ErrRename)
	}
	r := &renamed{Store: c.Store, from: map[string]string{}}
	for _, t := range c.Store.DataOrder() {
		old := t.Name
		t.Name = ApplyRenames(rules, t.Name)
		if t.Name == "" {
			return formats.Errorf("", old, "%w: its new name is empty", ErrRename)
		}
		if first, twice := r.from[t.Name]; twice {
			return formats.Errorf("", old, "%w: it and %q would both be %q", ErrRename, first, t.Name)
		}
		r.from[t.Name] = old
		r.order = append(r.order, t)
	}
	r.sorted = slices.Clone(r.order)
	slices.SortFunc(r.sorted, func(a, b formats.TensorInfo) int { return strings.Compare(a.Name, b.Name) })
	c.Store, c.Dense = r, r
	return nil
}

// renamed is a store whose tensors have other names.
type renamed struct {
	Store
	order, sorted []formats.TensorInfo
	from          map[string]string
}

func (r *renamed) Tensors() []formats.TensorInfo { return r.sorted }

func (r *renamed) DataOrder() []formats.TensorInfo { return r.order }

func (r *renamed) Lookup(name string) (formats.TensorInfo, bool) {
	old, ok := r.from[name]
	if !ok {
		return formats.TensorInfo{}, false
	}
	t, ok := r.Store.Lookup(old)
	t.Name = name
	return t, ok
}

func (r *renamed) ReadAt(name string, p []byte, off int64) error {
	old, ok := r.from[name]
	if !ok {
		return formats.Errorf(r.Name(), name, "no such tensor")
	}
	return r.Store.ReadAt(old, p, off)
}

func (r *renamed) Prefetch(names []string) {
	list := make([]string, 0, len(names))
	for _, n := range names {
		if old, ok := r.from[n]; ok {
			list = append(list, old)
		}
	}
	r.Store.Prefetch(list)
}

func (r *renamed) Shard(tensor string) string { return r.Store.Shard(r.from[tensor]) }
