package arch

import (
	"bytes"
	"errors"
	"maps"
	"slices"
	"strings"

	"modelpress/formats"
)

// verify checks every named tensor against the source and reports all faults, sorted by tensor.
func (m *Model) verify(src formats.Source, fam *family) error {
	faults := map[string]error{}
	for _, p := range m.Parameters() {
		if err := checkTensor(src, p); err != nil {
			faults[p.Name] = err
		}
	}
	for l := range m.Layers {
		for _, lin := range m.Layers[l].Linears {
			name := lin.Module() + ".bias"
			if _, there := src.Lookup(name); lin.Present() && lin.Bias == "" && there {
				faults[name] = formats.Errorf("", name, "stands in the checkpoint, but by config.json the module has no bias")
			}
		}
	}
	if err := m.checkTied(src, fam.names.head); err != nil {
		faults[fam.names.head] = err
	}
	var sorted []error
	for _, name := range slices.Sorted(maps.Keys(faults)) {
		sorted = append(sorted, faults[name])
	}
	return errors.Join(sorted...)
}

func checkTensor(src formats.Source, p Parameter) error {
	t, ok := src.Lookup(p.Name)
	if !ok {
		module := strings.TrimSuffix(p.Name, ".weight")
		for _, suffix := range []string{".qweight", ".weight_packed", ".weight_scale"} {
			if _, packed := src.Lookup(module + suffix); packed {
				return formats.Errorf("", p.Name, "is stored quantized (%q); start from the unquantized checkpoint", module+suffix)
			}
		}
		return formats.Errorf("", p.Name, "is missing")
	}
	if !t.DType.IsFloat() {
		return formats.Errorf("", p.Name, "dtype %s where F16, BF16, F32 or F64 is needed", t.DType)
	}
	if !slices.Equal(t.Shape, p.Shape) {
		return formats.Errorf("", p.Name, "shape %v where config.json asks for %v", t.Shape, p.Shape)
	}
	return nil
}

// checkTied reports a stored output head that differs from the embedding it is said to be.
func (m *Model) checkTied(src formats.Source, head string) error {
	if !m.Tied {
		return nil
	}
	h, there := src.Lookup(head)
	e, ok := src.Lookup(m.Embed)
	if !there || !ok {
		return nil
	}
	differs := formats.Errorf("", head, "differs from %q although config.json ties them", m.Embed)
	if h.DType != e.DType || !slices.Equal(h.Shape, e.Shape) {
		return differs
	}
	size, err := h.Bytes()
	if err != nil {
		return formats.Errorf("", head, "%w", err)
	}
	const chunk = 1 << 20
	a, b := make([]byte, min(size, chunk)), make([]byte, min(size, chunk))
	for off := int64(0); off < size; off += chunk {
		n := min(chunk, size-off)
		if err := src.ReadAt(head, a[:n], off); err != nil {
			return err
		}
		if err := src.ReadAt(m.Embed, b[:n], off); err != nil {
			return err
		}
		if !bytes.Equal(a[:n], b[:n]) {
			return differs
		}
	}
	return nil
}

// Unused returns the tensors of src that the model does not name, sorted: masks and tables that old checkpoints store
// (attn.bias, rotary_emb.inv_freq), a second copy of a tied head, or something that deserves a warning.
func (m *Model) Unused(src formats.Source) []string {
	used := map[string]bool{}
	for _, p := range m.Parameters() {
		used[p.Name] = true
	}
	var out []string
	for _, t := range src.Tensors() {
		if !used[t.Name] {
			out = append(out, t.Name)
		}
	}
	slices.Sort(out)
	return out
}

// IsBuffer reports whether a tensor name is one of the constants that old checkpoints store beside the weights: causal
// masks and rotary tables. Such tensors carry nothing that the configuration does not say.
func IsBuffer(name string) bool {
	for _, suffix := range []string{".attn.bias", ".attn.masked_bias", ".rotary_emb.inv_freq"} {
		if strings.HasSuffix(name, suffix) {
			return true
		}
	}
	return false
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
