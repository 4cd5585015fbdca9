package arch

import (
	"bytes"
	"encoding/json"
	"math"
	"strconv"

	"modelpress/formats"
)

const configFile = "config.json"

// Bounds on what a configuration may ask for. They lie far above every published model and keep a hostile number from
// becoming an allocation.
const (
	maxLayers   = 1000
	maxHeads    = 4096
	maxHeadDim  = 8192
	maxWidth    = 1 << 20 // D
	maxFFN      = 1 << 22 // F
	maxVocab    = 1 << 22 // V
	maxPosition = 1 << 28
)

// fields reads the keys of one JSON object and collects every fault it meets. Getters return a harmless value after a
// fault, so that reading goes on.
type fields struct {
	obj    map[string]json.RawMessage
	prefix string // path of the object inside config.json, with its dot
	faults *[]error
}

// maxDepth is how deep objects of a configuration may nest.
const maxDepth = 32

// parseFields reads an object by the strict rules of [formats.JSONScanner].
func parseFields(raw []byte, prefix string, faults *[]error) *fields {
	f := &fields{obj: map[string]json.RawMessage{}, prefix: prefix, faults: faults}
	s := formats.NewJSONScanner(raw, maxDepth)
	err := s.Object(func(key string) (err error) {
		f.obj[key], err = s.Raw()
		return err
	})
	if err == nil {
		err = s.End()
	}
	if err != nil {
		f.fault("", "not a valid JSON object: %w", err)
	}
	return f
}

// fault records what is wrong with a key of the object, or with the object itself where key is empty.
func (f *fields) fault(key, format string, args ...any) {
	path := f.prefix + key
	if key == "" && path != "" {
		path = path[:len(path)-1]
	}
	e := formats.Errorf(configFile, "", format, args...)
	if path != "" {
		e = formats.Errorf(configFile, "", "key %q: %w", path, e.Cause)
	}
	*f.faults = append(*f.faults, e)
}

// has reports whether the key is there with a value other than null.
func (f *fields) has(key string) bool {
	v, ok := f.obj[key]
	return ok && string(v) != "null"
}

// require records a missing or null key.
func (f *fields) require(key string) bool {
	_, present := f.obj[key]
	switch {
	case f.has(key):
		return true
	case present:
		f.fault(key, "is null where a value is needed")
	default:
		f.fault(key, "is missing")
	}
	return false
}

// integer returns a whole number within [lo, hi]; the key must be there.
func (f *fields) integer(key string, lo, hi int) int {
	if !f.require(key) {
		return lo
	}
	return f.integerOr(key, lo, lo, hi)
}

// integerOr returns a whole number within [lo, hi], or def where the key is missing or null.
func (f *fields) integerOr(key string, def, lo, hi int) int {
	if !f.has(key) {
		return def
	}
	n, err := strconv.ParseInt(string(f.obj[key]), 10, 64)
	if err != nil {
		f.fault(key, "%s is not a whole number", clip(f.obj[key]))
		return lo
	}
	if n < int64(lo) || n > int64(hi) {
		f.fault(key, "%d lies outside %d to %d", n, lo, hi)
		return lo
	}
	return int(n)
}

// number returns a finite number within [lo, hi]; the key must be there.
func (f *fields) number(key string, lo, hi float64) float64 {
	if !f.require(key) {
		return lo
	}
	return f.numberOr(key, lo, lo, hi)
}

// numberOr returns a finite number within [lo, hi], or def where the key is missing or null.
func (f *fields) numberOr(key string, def, lo, hi float64) float64 {
	if !f.has(key) {
		return def
	}
	var v float64
	if err := json.Unmarshal(f.obj[key], &v); err != nil || math.IsInf(v, 0) {
		f.fault(key, "%s is not a number", clip(f.obj[key]))
		return lo
	}
	if v < lo || v > hi {
		f.fault(key, "%g lies outside %g to %g", v, lo, hi)
		return lo
	}
	return v
}

// boolOr returns a truth value, or def where the key is missing or null.
func (f *fields) boolOr(key string, def bool) bool {
	v := def
	f.decode(key, &v, "true or false")
	return v
}

// stringOr returns a string, or def where the key is missing or null.
func (f *fields) stringOr(key, def string) string {
	v := def
	f.decode(key, &v, "a string")
	return v
}

// strings returns a list of strings, nil where the key is missing or null.
func (f *fields) strings(key string) []string {
	var v []string
	f.decode(key, &v, "a list of strings")
	return v
}

func (f *fields) decode(key string, v any, what string) {
	if !f.has(key) {
		return
	}
	if err := json.Unmarshal(f.obj[key], v); err != nil {
		f.fault(key, "%s is not %s", clip(f.obj[key]), what)
	}
}

// object returns the object under a key, nil where the key is missing or null.
func (f *fields) object(key string) *fields {
	if !f.has(key) {
		return nil
	}
	return parseFields(f.obj[key], f.prefix+key+".", f.faults)
}

// clip shortens a value for an error text.
func clip(raw []byte) string {
	const most = 40
	if len(raw) > most {
		return string(bytes.ToValidUTF8(raw[:most], nil)) + "…"
	}
	return string(raw)
}
