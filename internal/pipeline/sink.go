package pipeline

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"

	"modelpress/formats"
	"modelpress/formats/safetensors"
)

// copyChunk is how much of a tensor is held while it is copied or converted, in bytes of f32.
const copyChunk = 8 << 20

// sink writes the tensors of one part and keeps the sha256 of each for the journal.
//
// Peak memory: copyChunk for copied tensors, 4·elements of the largest rotated tensor that is read whole.
type sink struct {
	w    *safetensors.Writer
	sums map[string]string
}

func newSink(w *safetensors.Writer) *sink { return &sink{w: w, sums: map[string]string{}} }

// bytes writes a whole tensor.
func (s *sink) bytes(name string, p []byte) error {
	if err := s.w.WriteAt(name, p, 0); err != nil {
		return err
	}
	sum := sha256.Sum256(p)
	s.sums[name] = hex.EncodeToString(sum[:])
	return nil
}

// copy writes a tensor with the source's own bytes.
func (s *sink) copy(src formats.Source, t outTensor) error {
	size, err := t.Bytes()
	if err != nil {
		return formats.Errorf("model", t.Name, "%w", err)
	}
	h := sha256.New()
	buf := make([]byte, min(size, copyChunk))
	for off := int64(0); off < size; off += int64(len(buf)) {
		p := buf[:min(int64(len(buf)), size-off)]
		if err := src.ReadAt(t.from, p, off); err != nil {
			return err
		}
		h.Write(p)
		if err := s.w.WriteAt(t.Name, p, off); err != nil {
			return err
		}
	}
	if size == 0 {
		if err := s.w.WriteAt(t.Name, nil, 0); err != nil {
			return err
		}
	}
	s.sums[t.Name] = hex.EncodeToString(h.Sum(nil))
	return nil
}

// round writes a tensor of the view, rounded to the stored dtype. Tables (the largest tensors) go in row blocks; matrices
// of a layer are read whole, since a rotated one is computed whole.
func (s *sink) round(view formats.Source, t outTensor) error {
	n, err := t.Elements()
	if err != nil {
		return formats.Errorf("model", t.Name, "%w", err)
	}
	step := n
	if t.part == partPrologue || t.part == partEpilogue {
		step = wholeRows(t.Shape, copyChunk/4)
	}
	h := sha256.New()
	vals := make([]float32, min(n, step))
	out := make([]byte, int64(len(vals))*int64(t.DType.Size()))
	for off := int64(0); off < n; off += step {
		m := min(step, n-off)
		if err := formats.ReadF32(view, t.from, vals[:m], off); err != nil {
			return err
		}
		p := out[:m*int64(t.DType.Size())]
		if err := encode(p, vals[:m], t.TensorInfo); err != nil {
			return err
		}
		h.Write(p)
		if err := s.w.WriteAt(t.Name, p, off*int64(t.DType.Size())); err != nil {
			return err
		}
	}
	s.sums[t.Name] = hex.EncodeToString(h.Sum(nil))
	return nil
}

// wholeRows returns the largest multiple of the row length that is at most limit elements, at least one row.
func wholeRows(shape []int64, limit int64) int64 {
	row := int64(1)
	for _, d := range shape[1:] {
		row *= d
	}
	if row == 0 {
		return 1
	}
	return max(row, limit/row*row)
}

// values writes f32 values in the tensor's dtype.
func (s *sink) values(t formats.TensorInfo, v []float32) error {
	n, err := t.Elements()
	if err != nil || n != int64(len(v)) {
		return fmt.Errorf("pipeline: tensor %q has %d values, planned %d", t.Name, len(v), n)
	}
	p := make([]byte, n*int64(t.DType.Size()))
	if err := encode(p, v, t); err != nil {
		return err
	}
	return s.bytes(t.Name, p)
}

// encode rounds values to a tensor's type, and refuses those that the type does not hold: they would be stored as infinities.
// v holds the rounded values afterwards.
func encode(p []byte, v []float32, t formats.TensorInfo) error {
	if err := formats.Encode(p, v, t.DType); err != nil {
		return formats.Errorf("model", t.Name, "%w", err)
	}
	if err := formats.Decode(v, p, t.DType); err != nil {
		return formats.Errorf("model", t.Name, "%w", err)
	}
	if err := formats.CheckFinite("model", t.Name, v, 0); err != nil {
		return formats.Errorf("model", t.Name, "a value of the result is too large for %s", t.DType)
	}
	return nil
}
