package llamacpp

import (
	"errors"
	"fmt"

	"modelpress/formats"
	"modelpress/formats/gguf"
	"modelpress/formats/imatrix"
	"modelpress/internal/arch"
)

// Keys that llama-quantize leaves in a file that it made with an importance matrix (tools/quantize/quantize.cpp).
const (
	keyImatrixFile    = "quantize.imatrix.file"
	keyImatrixDataset = "quantize.imatrix.dataset"
	keyImatrixEntries = "quantize.imatrix.entries_count"
	keyImatrixChunks  = "quantize.imatrix.chunks_count"
)

// Site returns the input that a weight of the use multiplies, false where that is none inside a block.
func (u Use) Site() (arch.Site, bool) {
	switch u {
	case AttnQ, AttnK, AttnV, AttnQKV:
		return arch.SiteQKV, true
	case AttnOutput:
		return arch.SiteO, true
	case FFNGate, FFNUp:
		return arch.SiteGateUp, true
	case FFNDown:
		return arch.SiteDown, true
	}
	return arch.NumSites, false
}

// Importance returns what an importance matrix says of each of the model's tensors, as llama-quantize takes it: the mean square of each
// input, nil where it has no entry. Entries that belong to no weight, and weights of blocks without an entry, are warnings; that neither the
// embedding nor the output has one is usual. An entry of another width than the weight's is an error, unless it is the embedding's,
// which is left out. So is a matrix without an entry for any weight.
func (m *Model) Importance(x *imatrix.Matrix) ([][]float32, []string, error) {
	list := make([][]float32, len(m.Tensors))
	var faults []error
	var warnings, missing, unknown []string
	named, used := map[string]bool{}, 0
	for i := range m.Tensors {
		t := &m.Tensors[i]
		_, inBlock := t.Use.Site()
		if !inBlock && t.Use != Embed && t.Use != Output {
			continue
		}
		named[t.Name] = true
		e, ok := x.Find(t.Name)
		if !ok {
			if inBlock {
				missing = append(missing, t.Name)
			}
			continue
		}
		_, columns := t.Size()
		switch {
		case int64(len(e.Sums)) == columns:
			list[i] = e.Mean()
			used++
		case t.Use == Embed:
			warnings = append(warnings, fmt.Sprintf("%s: the entry of %s has %d values for %d columns and is left out", x.Name, t.Name, len(e.Sums), columns))
		default:
			faults = append(faults, formats.Errorf(x.Name, t.Name, "has %d values, and the weight has %d columns: the importance matrix is another model's", len(e.Sums), columns))
		}
	}
	if len(faults) > 0 {
		const most = 20
		return nil, nil, errors.Join(faults[:min(most, len(faults))]...)
	}
	if used == 0 {
		return nil, nil, formats.Errorf(x.Name, "", "has no entry for any weight of the model: it is another model's")
	}
	for i := range x.Entries {
		if name := x.Entries[i].Tensor; !named[name] {
			unknown = append(unknown, name)
		}
	}
	if len(unknown) > 0 {
		warnings = append(warnings, fmt.Sprintf("%s: %d entries belong to no weight of the model: %s", x.Name, len(unknown), listed(unknown)))
	}
	if len(missing) > 0 {
		warnings = append(warnings, fmt.Sprintf("%s: %d weights have no entry, and all their columns count the same: %s", x.Name, len(missing), listed(missing)))
	}
	return list, warnings, nil
}

// ImportanceKeys returns the entries by which llama-quantize says which importance matrix a file was made with. Keys of what is not known are
// left out.
func ImportanceKeys(x *imatrix.Matrix) []gguf.KV {
	var kv []gguf.KV
	add := func(known bool, key string, v gguf.Value) {
		if known {
			kv = append(kv, gguf.KV{Key: key, Value: v})
		}
	}
	add(x.Name != "", keyImatrixFile, gguf.String(x.Name))
	if len(x.Datasets) > 0 {
		add(true, keyImatrixDataset, gguf.String(x.Datasets[0]))
	}
	add(true, keyImatrixEntries, gguf.Uint32(uint32(len(x.Entries))))
	add(x.Chunks > 0, keyImatrixChunks, gguf.Uint32(uint32(x.Chunks)))
	return kv
}
