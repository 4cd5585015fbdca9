package safetensors

import (
	"fmt"
	"slices"

	nlp "github.com/nlpodyssey/safetensors"

	"modelpress/formats"
)

// crossCheckBytes bounds the headers that are parsed a second time. The other parser builds a tree of the whole header,
// and takes seconds and half a gigabyte for the largest legal one.
const crossCheckBytes = 1 << 20

// crossCheck parses a header that our own parser accepted with nlpodyssey/safetensors and compares what the two read:
// a header that two parsers understand differently is refused. Headers with element types that it does not know, and
// those over crossCheckBytes, are left to our own check, which is the stricter.
func crossCheck(raw []byte, file string, h *header) error {
	if len(raw) > crossCheckBytes {
		return nil
	}
	for i := range h.entries {
		if _, err := nlp.ParseDType(h.entries[i].DType.String()); err != nil {
			return nil
		}
	}
	var other nlp.Metadata
	if err := other.UnmarshalJSON(raw); err != nil {
		return formats.Errorf(file, "", "header: %w", err)
	}
	if err := compareHeaders(h, other); err != nil {
		return formats.Errorf(file, "", "header: two parsers read it differently: %w", err)
	}
	return nil
}

func compareHeaders(h *header, other nlp.Metadata) error {
	tensors := other.Tensors()
	if len(tensors) != len(h.entries) {
		return fmt.Errorf("%d tensors and %d", len(h.entries), len(tensors))
	}
	for i := range h.entries {
		e := &h.entries[i]
		o := tensors[e.Name]
		same := o != nil && o.DType.String() == e.DType.String() &&
			o.DataOffsets == [2]uint64{uint64(e.begin), uint64(e.end)} &&
			slices.EqualFunc(o.Shape, e.Shape, func(a uint64, b int64) bool { return a == uint64(b) })
		if !same {
			return fmt.Errorf("tensor %q", e.Name)
		}
	}
	for key, value := range h.metadata {
		if v, ok := other.Metadata()[key]; !ok || v != value {
			return fmt.Errorf("%s %q", metadataKey, key)
		}
	}
	return nil
}
