package gptq

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"

	"modelpress/formats"
)

// Dynamic are the entries of the key dynamic, in the order of the file: the first whose pattern matches a module's name decides. Patterns
// match as Python's re.match does: at the start of a name, not up to its end.
type Dynamic []entry

// entry is one pattern with what it says of modules.
type entry struct {
	key      string // as the file has it
	re       *regexp.Regexp
	excluded bool // "-:": modules are not quantized
	bits     *int
	group    *int
	actOrder *bool
	sym      *bool
}

// parseDynamic reads the entries. A pattern that Go's regexp does not know, such as one with look-ahead, is an error.
func parseDynamic(raw json.RawMessage) (Dynamic, error) {
	if string(raw) == "null" {
		return nil, nil
	}
	var list Dynamic
	s := formats.NewJSONScanner(raw, maxDepth)
	err := s.Object(func(key string) error {
		value, err := s.Raw()
		if err != nil {
			return err
		}
		e, err := parseEntry(key, value)
		if err != nil {
			return fmt.Errorf("%.80q: %w", key, err)
		}
		list = append(list, e)
		return nil
	})
	return list, err
}

func parseEntry(key string, value []byte) (entry, error) {
	e := entry{key: key}
	pattern, excluded := strings.CutPrefix(key, "-:")
	e.excluded = excluded
	if !excluded {
		pattern = strings.TrimPrefix(key, "+:")
	}
	var err error
	if e.re, err = regexp.Compile("^(?:" + pattern + ")"); err != nil {
		return entry{}, err
	}
	if excluded {
		return e, nil
	}
	var packing string
	if err := formats.ReadJSONFields(value, maxDepth, map[string]any{
		"bits": &e.bits, "group_size": &e.group, "desc_act": &e.actOrder, "sym": &e.sym, "pack_dtype": &packing,
	}); err != nil {
		return entry{}, err
	}
	if packing != "" && packing != "int32" {
		return entry{}, fmt.Errorf("pack_dtype %.40q; supported: int32", packing)
	}
	f := Format{Bits: 4, Group: -1}
	if e.bits != nil {
		f.Bits = *e.bits
	}
	if e.group != nil {
		f.Group = *e.group
	}
	return e, f.checkSizes()
}

// find returns the entry that decides about a module, nil if none does.
func (d Dynamic) find(module string) *entry {
	for i := range d {
		if d[i].re.MatchString(module) {
			return &d[i]
		}
	}
	return nil
}
