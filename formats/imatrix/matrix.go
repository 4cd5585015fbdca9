// Package imatrix reads and writes importance matrices of llama.cpp: for each weight of a model, how large its inputs were while the model
// read a text. llama-quantize weights the errors of columns by them.
//
// The file is a GGUF file of the type "imatrix" (llama.cpp, tools/imatrix/imatrix.cpp of August 2026, save_imatrix), or has the binary form of the
// years before (save_imatrix_legacy), which has no magic number. Both are read as llama-quantize reads them, the first is written. Which weights
// the names are of is not known here.
package imatrix

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"modelpress/formats"
)

// MaxBytes bounds the sums of one file, all matrices together.
const MaxBytes = 4 << 30

// Matrix is an importance matrix.
type Matrix struct {
	Name     string   // base name of its file, which errors use; "" where it comes from none
	Entries  []Entry  // ascending by name
	Datasets []string // names of the texts that the model read
	Chunks   int      // windows of text
	// ChunkSize is the number of tokens of a window, 0 where the file does not say.
	ChunkSize int
}

// Entry is what is known of the inputs of one tensor.
type Entry struct {
	Tensor string // its name in a GGUF file
	// Sums are the sums of squares of each input, [matrices, columns]: one matrix, or one for each expert.
	Sums []float32
	// Counts are the whole numbers of rows that each sum is over, [matrices].
	Counts []float32
}

// Mean returns the mean square of each input, [matrices, columns], to the bit as llama-quantize has it (tools/quantize/quantize.cpp, load_imatrix): 1
// for every input of a matrix that no row went through.
func (e *Entry) Mean() []float32 {
	mean := make([]float32, len(e.Sums))
	n := len(e.Sums) / len(e.Counts)
	for i, v := range e.Sums {
		mean[i] = 1
		if c := e.Counts[i/n]; c > 0 {
			mean[i] = v / c
		}
	}
	return mean
}

// Find returns the entry of a tensor.
func (m *Matrix) Find(tensor string) (*Entry, bool) {
	i, ok := slices.BinarySearchFunc(m.Entries, tensor, func(e Entry, name string) int { return strings.Compare(e.Tensor, name) })
	if !ok {
		return nil, false
	}
	return &m.Entries[i], true
}

// Check reports what no importance matrix has: entries out of order or twice, sums that do not divide among matrices, sums and counts that are
// negative or not finite, counts that are not whole. The error names the tensor.
func (m *Matrix) Check() error {
	if len(m.Entries) == 0 {
		return formats.Errorf(m.Name, "", "holds no entry")
	}
	if m.Chunks < 0 || m.Chunks > math.MaxInt32 || m.ChunkSize < 0 || m.ChunkSize > math.MaxInt32 {
		return formats.Errorf(m.Name, "", "%d windows of %d tokens", m.Chunks, m.ChunkSize)
	}
	for i := range m.Entries {
		e := &m.Entries[i]
		if i > 0 && e.Tensor <= m.Entries[i-1].Tensor {
			return formats.Errorf(m.Name, e.Tensor, "is there twice, or out of order")
		}
		if err := e.check(); err != nil {
			return formats.Errorf(m.Name, e.Tensor, "%w", err)
		}
	}
	return nil
}

func (e *Entry) check() error {
	if len(e.Counts) == 0 || len(e.Sums) == 0 || len(e.Sums)%len(e.Counts) != 0 {
		return fmt.Errorf("%d sums for %d counts", len(e.Sums), len(e.Counts))
	}
	for i, v := range e.Sums {
		if !valid(v) {
			return fmt.Errorf("the sum of squares of input %d is %v", i, v)
		}
	}
	for i, v := range e.Counts {
		if !valid(v) || v != float32(math.Trunc(float64(v))) {
			return fmt.Errorf("count %d is %v", i, v)
		}
	}
	return nil
}

// valid reports whether v is finite and not negative.
func valid(v float32) bool { return v >= 0 && v <= math.MaxFloat32 }
