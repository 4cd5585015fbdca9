// Package formats holds what every format shares: element types, tensor descriptions, the read-only view of a set of
// tensors, conversions between stored and computed values, and the error that names file, tensor and cause.
package formats

import (
	"fmt"
	"math"
)

// TensorInfo describes one tensor: its name, element type and shape, outermost dimension first.
type TensorInfo struct {
	Name  string
	DType DType
	Shape []int64
}

// Elements returns the product of the dimensions (1 for a scalar), or an error where it is negative or overflows.
func (t TensorInfo) Elements() (int64, error) {
	n := int64(1)
	for _, d := range t.Shape {
		if d < 0 {
			return 0, fmt.Errorf("negative dimension %d", d)
		}
		if d != 0 && n > math.MaxInt64/d {
			return 0, fmt.Errorf("shape %v overflows", t.Shape)
		}
		n *= d
	}
	return n, nil
}

// Bytes returns the size of the tensor's data, or an error where it overflows.
func (t TensorInfo) Bytes() (int64, error) {
	n, err := t.Elements()
	if err != nil {
		return 0, err
	}
	s := int64(t.DType.Size())
	if s == 0 || n > math.MaxInt64/s {
		return 0, fmt.Errorf("size of shape %v, dtype %s is not representable", t.Shape, t.DType)
	}
	return n * s, nil
}

// Source is an immutable view of named tensors that are read when asked for. A checkpoint on disk is one; so is a view
// that dequantizes or rotates another Source. Implementations are safe for concurrent use.
type Source interface {
	// Tensors returns every tensor, sorted by name. The caller must not change the slice.
	Tensors() []TensorInfo
	// Lookup returns the description of one tensor.
	Lookup(name string) (TensorInfo, bool)
	// ReadAt fills p with the little-endian data of a tensor from byte offset off. It reads all of p or fails.
	ReadAt(name string, p []byte, off int64) error
}

// Prefetcher is a Source that can begin to read tensors before they are asked for, so that reading overlaps with whatever
// the caller does meanwhile. It is a hint: nothing is kept in the memory of the program, and nothing fails.
type Prefetcher interface {
	Prefetch(names []string)
}

// Prefetch passes the hint on to a source that can use it.
func Prefetch(src Source, names []string) {
	if p, ok := src.(Prefetcher); ok {
		p.Prefetch(names)
	}
}
