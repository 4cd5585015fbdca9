package distill

import (
	"encoding/binary"
	"errors"
	"fmt"

	"modelpress/formats"
)

// TopKWriter writes a teacher's predictions to a file, row after row, which is there once it is whole.
type TopKWriter struct {
	h    TopKHeader
	w    *sealWriter
	done int64
	raw  []byte
	log  []float32
	err  error
}

// CreateTopK begins the file path for the rows that h describes. Memory: 1 MiB and two records.
func CreateTopK(path string, h TopKHeader) (*TopKWriter, error) {
	if err := h.Check(); err != nil {
		return nil, fmt.Errorf("distill: predictions: %w", err)
	}
	w, err := createSealed(path)
	if err != nil {
		return nil, fmt.Errorf("distill: predictions: %w", err)
	}
	t := &TopKWriter{h: h, w: w, raw: make([]byte, h.record()), log: make([]float32, h.K+1)}
	_, t.err = w.Write(h.encode())
	return t, nil
}

// Write appends the rows of t.
func (w *TopKWriter) Write(t *TopK) error {
	if w.err == nil && (t.K != w.h.K || t.Temperature != w.h.Temperature || int64(t.Rows()) > w.h.Tokens-w.done) {
		w.err = fmt.Errorf("%d rows of the top %d at temperature %g, after %d of %d of the top %d at %g",
			t.Rows(), t.K, t.Temperature, w.done, w.h.Tokens, w.h.K, w.h.Temperature)
	}
	for i := 0; i < t.Rows() && w.err == nil; i++ {
		w.row(t.IDs[i*t.K:][:t.K], t.Log[i*t.K:][:t.K], t.Rest[i])
	}
	if w.err != nil {
		return fmt.Errorf("distill: predictions: %w", w.err)
	}
	return nil
}

func (w *TopKWriter) row(ids []int32, log []float32, rest float32) {
	if _, err := w.h.checkRow(ids, log, rest); err != nil {
		w.err = fmt.Errorf("token %d: %w", w.done, err)
		return
	}
	b := w.raw[:0]
	for _, id := range ids {
		if w.h.idBytes() == 2 {
			b = binary.LittleEndian.AppendUint16(b, uint16(id))
		} else {
			b = binary.LittleEndian.AppendUint32(b, uint32(id))
		}
	}
	copy(w.log, log)
	w.log[len(log)] = rest
	if w.err = formats.Encode(w.raw[len(b):], w.log, w.h.valueType()); w.err == nil {
		_, w.err = w.w.Write(w.raw)
	}
	w.done++
}

// Close puts the file in its place. It fails, and leaves no file, where rows are missing or something failed before.
func (w *TopKWriter) Close() error {
	if w.err == nil && w.done != w.h.Tokens {
		w.err = fmt.Errorf("%d of %d tokens were written", w.done, w.h.Tokens)
	}
	if err := w.w.finish(w.err); err != nil {
		return fmt.Errorf("distill: predictions: %w", err)
	}
	return nil
}

// Abort gives the file up and leaves none.
func (w *TopKWriter) Abort() {
	w.err = errors.New("given up")
	_ = w.w.finish(w.err)
}
