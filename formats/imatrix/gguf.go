package imatrix

import (
	"math"
	"slices"
	"strings"

	"modelpress/formats"
	"modelpress/formats/ggml"
	"modelpress/formats/gguf"
)

// The keys of a file, all of which llama-quantize asks for, but for the type (common/imatrix-loader.h).
const (
	keyType      = "general.type"
	keyDatasets  = "imatrix.datasets"
	keyChunks    = "imatrix.chunk_count"
	keyChunkSize = "imatrix.chunk_size"

	typeImatrix = "imatrix"
)

// The endings of the two tensors that each entry has. Others are passed over.
const (
	suffixSums   = ".in_sum2"
	suffixCounts = ".counts"
)

// reader reads the GGUF form.
type reader struct {
	f    *gguf.File
	m    *Matrix
	left int64 // of MaxBytes
}

func readGGUF(path string) (*Matrix, error) {
	f, err := gguf.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	r := &reader{f: f, m: &Matrix{Name: f.Name()}, left: MaxBytes}
	if err := r.keys(); err != nil {
		return nil, err
	}
	if err := r.entries(); err != nil {
		return nil, err
	}
	return r.m, nil
}

func (r *reader) fault(tensor, format string, args ...any) error {
	return formats.Errorf(r.m.Name, tensor, format, args...)
}

// keys reads the metadata.
func (r *reader) keys() error {
	if v, ok := r.f.Lookup(keyType); ok {
		if s, _ := v.Str(); s != typeImatrix {
			return r.fault("", "is a GGUF file of the type %.40q, not an importance matrix", s)
		}
	}
	v, ok := r.f.Lookup(keyDatasets)
	if !ok {
		return r.fault("", "key %q is missing: not an importance matrix", keyDatasets)
	}
	if r.m.Datasets, ok = v.Strs(); !ok {
		return r.fault("", "key %q is no list of texts", keyDatasets)
	}
	var err error
	if r.m.Chunks, err = r.number(keyChunks); err != nil {
		return err
	}
	r.m.ChunkSize, err = r.number(keyChunkSize)
	return err
}

func (r *reader) number(key string) (int, error) {
	v, ok := r.f.Lookup(key)
	if !ok {
		return 0, r.fault("", "key %q is missing: not an importance matrix", key)
	}
	n, ok := v.Uint()
	if !ok || n > math.MaxInt32 {
		return 0, r.fault("", "key %q is no whole number below 2^31", key)
	}
	return int(n), nil
}

// entries reads the tensors.
func (r *reader) entries() error {
	for _, t := range r.f.Tensors() {
		if name, ok := strings.CutSuffix(t.Name, suffixCounts); ok {
			if _, ok := r.f.Find(name + suffixSums); !ok {
				return r.fault(name, "has counts and no sums")
			}
		}
		name, ok := strings.CutSuffix(t.Name, suffixSums)
		if !ok {
			continue
		}
		c, ok := r.f.Find(name + suffixCounts)
		if !ok {
			return r.fault(name, "has sums and no counts")
		}
		e := Entry{Tensor: name}
		var err error
		if e.Sums, err = r.floats(t); err != nil {
			return err
		}
		if e.Counts, err = r.floats(c); err != nil {
			return err
		}
		for i, v := range e.Counts { // as llama-quantize rounds them: halves away from zero
			e.Counts[i] = float32(math.Round(float64(v)))
		}
		r.m.Entries = append(r.m.Entries, e)
	}
	slices.SortFunc(r.m.Entries, func(a, b Entry) int { return strings.Compare(a.Tensor, b.Tensor) })
	return nil
}

// floats reads a tensor of F32.
func (r *reader) floats(t gguf.Tensor) ([]float32, error) {
	if t.Type != ggml.F32 {
		return nil, r.fault(t.Name, "is of type %s, not F32", t.Type)
	}
	n, err := t.Bytes()
	if err != nil {
		return nil, r.fault(t.Name, "%w", err)
	}
	if r.left -= n; r.left < 0 {
		return nil, r.fault(t.Name, "the sums are over the limit of %d bytes", int64(MaxBytes))
	}
	v := make([]float32, n/4)
	buf := make([]byte, min(n, chunk))
	for at := int64(0); at < n; at += chunk {
		p := buf[:min(chunk, n-at)]
		if err := r.f.ReadAt(t.Name, p, at); err != nil {
			return nil, err
		}
		if err := formats.Decode(v[at/4:][:len(p)/4], p, formats.F32); err != nil {
			return nil, r.fault(t.Name, "%w", err)
		}
	}
	return v, nil
}
