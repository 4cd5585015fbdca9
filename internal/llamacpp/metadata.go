package llamacpp

import (
	"fmt"
	"math"
	"strings"

	"modelpress/formats"
	"modelpress/formats/gguf"
)

// File is what [Open] reads: a [gguf.File].
type File interface {
	// Name is the base name that errors use.
	Name() string
	// Metadata returns all entries in order.
	Metadata() []gguf.KV
	// Lookup returns the value of a key.
	Lookup(key string) (gguf.Value, bool)
	// Tensors returns all tensors in order.
	Tensors() []gguf.Tensor
	// ReadAt fills p with stored bytes of a tensor from an offset on.
	ReadAt(name string, p []byte, off int64) error
}

// Bounds on the sizes of a file's model. They lie far above every published model and keep a hostile number from becoming an allocation.
const (
	maxContext = 1 << 28
	maxWidth   = 1 << 20
	maxFFN     = 1 << 22
	maxHeads   = 4096
	maxHeadDim = 8192
)

// metadata reads the keys of one architecture and collects every fault it meets. Getters return a harmless value after a fault, so
// that reading goes on.
type metadata struct {
	file   File
	prefix string // the architecture and a dot
	used   map[string]bool
	faults []error
}

func (m *metadata) fault(key, format string, args ...any) {
	e := formats.Errorf(m.file.Name(), "", format, args...)
	m.faults = append(m.faults, formats.Errorf(m.file.Name(), "", "key %q: %w", m.prefix+key, e.Cause))
}

func (m *metadata) lookup(key string) (gguf.Value, bool) {
	m.used[m.prefix+key] = true
	return m.file.Lookup(m.prefix + key)
}

// number returns a whole number within [lo, hi]; the key must be there.
func (m *metadata) number(key string, lo, hi int) int {
	v, ok := m.lookup(key)
	if !ok {
		m.fault(key, "is missing")
		return lo
	}
	return m.whole(key, v, lo, hi)
}

// numberOr returns a whole number within [lo, hi], or def where the key is missing.
func (m *metadata) numberOr(key string, def, lo, hi int) int {
	v, ok := m.lookup(key)
	if !ok {
		return def
	}
	return m.whole(key, v, lo, hi)
}

func (m *metadata) whole(key string, v gguf.Value, lo, hi int) int {
	n, ok := v.Int()
	switch {
	case !ok:
		m.fault(key, "is not a whole number")
	case n < int64(lo) || n > int64(hi):
		m.fault(key, "%d lies outside %d to %d", n, lo, hi)
	default:
		return int(n)
	}
	return lo
}

// floatOr returns a finite number above 0, or def where the key is missing.
func (m *metadata) floatOr(key string, def float64) float64 {
	v, ok := m.lookup(key)
	if !ok {
		return def
	}
	f, ok := v.Float()
	if !ok || math.IsNaN(f) || math.IsInf(f, 0) || f <= 0 {
		m.fault(key, "is not a number above 0")
		return 1
	}
	return f
}

func (m *metadata) textOr(key, def string) string {
	v, ok := m.lookup(key)
	if !ok {
		return def
	}
	s, ok := v.Str()
	if !ok {
		m.fault(key, "is not a text")
	}
	return s
}

// perLayer returns a number for each layer within [lo, hi]: one for all or a list. A missing key gives def, nil is a fault.
func (m *metadata) perLayer(key string, layers, lo, hi int, def []int) []int {
	out := make([]int, layers)
	v, ok := m.lookup(key)
	if !ok {
		if def == nil {
			m.fault(key, "is missing")
			return out
		}
		copy(out, def)
		return out
	}
	if v.Kind != gguf.KindArray {
		n := m.whole(key, v, lo, hi)
		for l := range out {
			out[l] = n
		}
		return out
	}
	list, ok := v.Ints()
	if !ok || len(list) != layers {
		m.fault(key, "is no list of %d whole numbers", layers)
		return out
	}
	for l, n := range list {
		if n < int64(lo) || n > int64(hi) {
			m.fault(key, "%d of layer %d lies outside %d to %d", n, l, lo, hi)
			return out
		}
		out[l] = int(n)
	}
	return out
}

// unknown returns the keys of the architecture that nothing has asked for.
func (m *metadata) unknown() []string {
	var out []string
	for _, kv := range m.file.Metadata() {
		if strings.HasPrefix(kv.Key, m.prefix) && !m.used[kv.Key] {
			out = append(out, clip(kv.Key))
		}
	}
	return out
}

// listed shortens a list for a message.
func listed(names []string) string {
	const most = 8
	if len(names) <= most {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
}
