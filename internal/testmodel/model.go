package testmodel

import (
	"fmt"
	"sort"
	"sync"

	"modelpress/formats"
)

// Model is a random checkpoint: configuration and weights. It implements formats.Source and is safe for concurrent
// reads.
type Model struct {
	// Options are the ones given to New with every default filled in.
	Options Options
	// Config and Generation are the bytes of config.json and generation_config.json.
	Config, Generation []byte

	infos []formats.TensorInfo
	byKey map[string]tensor

	mu     sync.Mutex
	tables map[spread][]byte // quantile tables by mean and deviation
	set    map[string][]byte // tensors with values of the caller's own
}

type spread struct{ mean, std float64 }

// New returns the checkpoint that the options describe. It panics on options that contradict each other.
func New(o Options) *Model {
	o.fill()
	if err := o.check(); err != nil {
		panic(err)
	}
	m := &Model{Options: o, Config: configJSON(&o), Generation: generationJSON(&o), byKey: map[string]tensor{},
		tables: map[spread][]byte{}, set: map[string][]byte{}}
	for _, t := range tensors(&o) {
		m.infos = append(m.infos, t.TensorInfo)
		m.byKey[t.Name] = t
	}
	return m
}

// Tensors returns every tensor, sorted by name.
func (m *Model) Tensors() []formats.TensorInfo { return m.infos }

// Lookup returns the description of one tensor.
func (m *Model) Lookup(name string) (formats.TensorInfo, bool) {
	t, ok := m.byKey[name]
	return t.TensorInfo, ok
}

// ReadAt makes the bytes of a tensor from byte offset off, which must lie on a whole element.
func (m *Model) ReadAt(name string, p []byte, off int64) error {
	t, ok := m.byKey[name]
	if !ok {
		return formats.Errorf("random model", name, "no such tensor")
	}
	size, err := t.Bytes()
	if err != nil {
		return formats.Errorf("random model", name, "%w", err)
	}
	if off < 0 || off > size || int64(len(p)) > size-off {
		return formats.Errorf("random model", name, "read of %d bytes at %d of %d", len(p), off, size)
	}
	if own := m.own(name); own != nil {
		copy(p, own[off:])
		return nil
	}
	unit := int64(t.DType.Size())
	if off%unit != 0 || int64(len(p))%unit != 0 {
		return m.readUnaligned(t, p, off, unit)
	}
	m.generator(t).fill(p, off/unit)
	return nil
}

// readUnaligned makes whole elements around the range and copies the part asked for.
func (m *Model) readUnaligned(t tensor, p []byte, off, unit int64) error {
	lo := off / unit * unit
	hi := (off + int64(len(p)) + unit - 1) / unit * unit
	whole := make([]byte, hi-lo)
	m.generator(t).fill(whole, lo/unit)
	copy(p, whole[off-lo:])
	return nil
}

func (m *Model) own(name string) []byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.set[name]
}

// generator returns the tensor's generator. A model has few different means and deviations, so their tables are kept.
func (m *Model) generator(t tensor) *generator {
	m.mu.Lock()
	defer m.mu.Unlock()
	key := spread{t.mean, t.std}
	table := m.tables[key]
	if table == nil {
		table = encodeQuantiles(t.DType, t.mean, t.std)
		m.tables[key] = table
	}
	return &generator{key: nameKey(m.Options.Seed, t.Name), size: t.DType.Size(), table: table}
}

// Values returns a tensor as float32.
func (m *Model) Values(name string) ([]float32, error) {
	t, ok := m.byKey[name]
	if !ok {
		return nil, formats.Errorf("random model", name, "no such tensor")
	}
	n, err := t.Elements()
	if err != nil {
		return nil, err
	}
	raw := make([]byte, n*int64(t.DType.Size()))
	if err := m.ReadAt(name, raw, 0); err != nil {
		return nil, err
	}
	out := make([]float32, n)
	return out, formats.Decode(out, raw, t.DType)
}

// Set replaces a tensor's values, rounding them to its dtype: for models with a planted truth. It panics on a wrong name
// or length.
func (m *Model) Set(name string, values []float32) {
	t, ok := m.byKey[name]
	if n, err := t.Elements(); !ok || err != nil || n != int64(len(values)) {
		panic(fmt.Sprintf("testmodel: Set %q with %d values", name, len(values)))
	}
	raw := make([]byte, len(values)*t.DType.Size())
	if err := formats.Encode(raw, values, t.DType); err != nil {
		panic(err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.set[name] = raw
}

// Without returns a copy of the model that lacks the named tensors: for tests of what is missing.
func (m *Model) Without(names ...string) *Model {
	drop := map[string]bool{}
	for _, n := range names {
		drop[n] = true
	}
	c := &Model{Options: m.Options, Config: m.Config, Generation: m.Generation, byKey: map[string]tensor{},
		tables: map[spread][]byte{}, set: map[string][]byte{}}
	for _, info := range m.infos {
		if !drop[info.Name] {
			c.infos = append(c.infos, info)
			c.byKey[info.Name] = m.byKey[info.Name]
			if raw := m.own(info.Name); raw != nil {
				c.set[info.Name] = raw
			}
		}
	}
	sort.Slice(c.infos, func(i, j int) bool { return c.infos[i].Name < c.infos[j].Name })
	return c
}

// Windows returns n rows of t token ids of the vocabulary, a pure function of the seed.
func Windows(n, t, vocab int, seed uint64) [][]int32 {
	rows := make([][]int32, n)
	for i := range rows {
		rows[i] = make([]int32, t)
		key := splitmix64(seed ^ splitmix64(uint64(i)+1))
		for j := range rows[i] {
			// The bias of the remainder is below vocab/2^32 and of no consequence for test data.
			rows[i][j] = int32(splitmix64(key+uint64(j)) >> 32 % uint64(vocab))
		}
	}
	return rows
}
