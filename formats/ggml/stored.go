package ggml

import (
	"fmt"
	"sync"

	"modelpress/formats"
)

// chunkValues is how many values [QuantizeFrom] widens at once: with what is made of them they stay in the second-level cache.
const chunkValues = 16 << 10

// QuantizeFrom is [Quantize] of stored values: src holds rows of row values of dt, F16, BF16, F32 or F64. The bytes are the same; an error names the
// index of a value in src.
//
// Memory: 64 KiB or, with importance, 4 bytes for each value of a row where that is more; and what Quantize needs.
func QuantizeFrom(t Type, dst []byte, src []byte, dt formats.DType, row int, importance []float32) error {
	if !dt.IsFloat() {
		return fmt.Errorf("ggml: quantize: dtype %s where a float type is needed", dt)
	}
	size, values := dt.Size(), len(src)/dt.Size()
	if len(src)%size != 0 {
		return fmt.Errorf("ggml: quantize: %d bytes are no whole number of %s", len(src), dt)
	}
	if err := checkQuantize(t, len(dst), values, row, importance); err != nil {
		return fmt.Errorf("ggml: quantize: %w", err)
	}
	q, weights := newQuantizing(t, row, importance)
	chunk := min(values, chunkValues)
	if weights != nil {
		chunk = min(values, max(1, chunkValues/row)*row)
	}
	var buf []float32
	if chunk <= chunkValues {
		kept := chunks.Get().(*[chunkValues]float32)
		defer chunks.Put(kept)
		buf = kept[:]
	} else {
		buf = make([]float32, chunk)
	}
	for at := 0; at < values; at += chunk {
		x := buf[:min(chunk, values-at)]
		if err := formats.Decode(x, src[at*size:(at+len(x))*size], dt); err != nil {
			return fmt.Errorf("ggml: quantize: %w", err)
		}
		n := len(x) / t.Block() * t.Size()
		if err := q.quantize(t, dst[:n], x, weights, at); err != nil {
			return err
		}
		dst = dst[n:]
	}
	return nil
}

// chunks are what one call decodes into.
var chunks = sync.Pool{New: func() any { return new([chunkValues]float32) }}
