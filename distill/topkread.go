package distill

import (
	"encoding/binary"
	"fmt"
	"math"

	"modelpress/formats"
)

// TopKFile is an open file of a teacher's predictions. It is safe for concurrent reads into different TopKs.
type TopKFile struct {
	Header TopKHeader

	file *sealedFile
}

// OpenTopK opens a file that [TopKWriter] wrote, and reads it once to see that it is whole. Errors about the content are
// *formats.Error. Memory: 1 MiB meanwhile.
func OpenTopK(path string) (*TopKFile, error) {
	s, err := openSealed(path)
	if err != nil {
		return nil, fmt.Errorf("distill: predictions: %w", err)
	}
	t := &TopKFile{file: s}
	if err := t.open(); err != nil {
		s.f.Close()
		return nil, fmt.Errorf("distill: predictions: %w", err)
	}
	return t, nil
}

func (t *TopKFile) open() error {
	s := t.file
	if s.size < topKHeaderBytes {
		return formats.Errorf(s.name, "", "ends within its header")
	}
	raw := make([]byte, topKHeaderBytes)
	if err := s.read(raw, 0); err != nil {
		return err
	}
	h, err := decodeTopKHeader(raw)
	if err != nil {
		return formats.Errorf(s.name, "", "%w", err)
	}
	if size := s.size + sealBytes; size != h.Bytes() {
		return formats.Errorf(s.name, "", "%d bytes where %d tokens take %d", size, h.Tokens, h.Bytes())
	}
	t.Header = h
	return s.verify()
}

// Close closes the file.
func (t *TopKFile) Close() error { return t.file.f.Close() }

// Read replaces dst by n rows from row from on. Logarithms are normalised: what rounding them added to or took from the sum of the
// probabilities is spread over all. Memory: the rows, and a record for each in its stored form.
func (t *TopKFile) Read(dst *TopK, from int64, n int) error {
	h := t.Header
	if n < 0 || from < 0 || int64(n) > h.Tokens-from {
		return fmt.Errorf("distill: predictions: rows [%d, %d+%d) of %d", from, from, n, h.Tokens)
	}
	size := h.record()
	if n > math.MaxInt/8/size {
		return fmt.Errorf("distill: predictions: %d rows at once", n)
	}
	raw := make([]byte, n*size)
	if err := t.file.read(raw, topKHeaderBytes+from*int64(size)); err != nil {
		return fmt.Errorf("distill: predictions: %w", err)
	}
	dst.resize(n, h.K)
	dst.Temperature = h.Temperature
	log := make([]float32, h.K+1)
	for i := range n {
		if err := t.row(dst, i, raw[i*size:][:size], log); err != nil {
			return fmt.Errorf("distill: predictions: %w", formats.Errorf(t.file.name, "", "token %d: %w", from+int64(i), err))
		}
	}
	return nil
}

// row decodes row i from raw; log is room for its logarithms.
func (t *TopKFile) row(dst *TopK, i int, raw []byte, log []float32) error {
	h, k := t.Header, t.Header.K
	ids := dst.IDs[i*k:][:k]
	for j := range ids {
		if h.idBytes() == 2 {
			ids[j] = int32(binary.LittleEndian.Uint16(raw[2*j:]))
		} else {
			ids[j] = int32(min(binary.LittleEndian.Uint32(raw[4*j:]), math.MaxInt32))
		}
	}
	if err := formats.Decode(log, raw[k*h.idBytes():], h.valueType()); err != nil {
		return err
	}
	sum, err := h.checkRow(ids, log[:k], log[k])
	if err != nil {
		return err
	}
	by := math.Log(sum)
	for j, l := range log[:k] {
		dst.Log[i*k+j] = float32(float64(l) - by)
	}
	dst.Rest[i] = float32(float64(log[k]) - by)
	return nil
}
