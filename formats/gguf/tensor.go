package gguf

import (
	"errors"
	"fmt"
	"math"
	"unicode"
	"unicode/utf8"

	"modelpress/formats/ggml"
)

// Tensor describes one tensor of a file.
type Tensor struct {
	Name  string
	Type  ggml.Type
	Shape []int64 // outermost dimension first, as in safetensors; the file has them the other way round
}

// Elements returns the number of values. Dimensions are at least 1, and at most MaxDimensions of them; a tensor without dimensions holds
// one value.
func (t Tensor) Elements() (int64, error) {
	if len(t.Shape) > MaxDimensions {
		return 0, fmt.Errorf("%d dimensions are over the limit of %d", len(t.Shape), MaxDimensions)
	}
	n := int64(1)
	for _, d := range t.Shape {
		switch {
		case d < 1:
			return 0, fmt.Errorf("a dimension of shape %v is not positive", t.Shape)
		case n > math.MaxInt64/d:
			return 0, fmt.Errorf("the number of values of shape %v is not representable", t.Shape)
		}
		n *= d
	}
	return n, nil
}

// Bytes returns the size of the data without padding, or an error where the shape is not possible, the type is unknown, or a row is no
// whole number of blocks.
func (t Tensor) Bytes() (int64, error) {
	if !t.Type.Known() {
		return 0, fmt.Errorf("tensors of %s are not supported", t.Type)
	}
	n, err := t.Elements()
	if err != nil {
		return 0, err
	}
	if row := t.row(); row%int64(t.Type.Block()) != 0 {
		return 0, fmt.Errorf("rows of %d values are no whole number of blocks of %s, which hold %d", row, t.Type, t.Type.Block())
	}
	return t.Type.RowBytes(n)
}

// row returns the innermost dimension.
func (t Tensor) row() int64 {
	if len(t.Shape) == 0 {
		return 1
	}
	return t.Shape[len(t.Shape)-1]
}

// checkName says what is wrong with the name of a tensor.
func checkName(name string) error {
	if len(name) > MaxNameBytes {
		return fmt.Errorf("the name has %d bytes, and ggml takes %d", len(name), MaxNameBytes)
	}
	return checkText(name)
}

// checkKey says what is wrong with a key.
func checkKey(key string) error {
	if len(key) > maxKeyBytes {
		return fmt.Errorf("the key has %d bytes, and the limit is %d", len(key), maxKeyBytes)
	}
	return checkText(key)
}

func checkText(s string) error {
	switch {
	case s == "":
		return errors.New("the name is empty")
	case !utf8.ValidString(s):
		return errors.New("the name is not valid UTF-8")
	}
	for _, r := range s {
		if unicode.IsControl(r) {
			return errors.New("the name holds a control character")
		}
	}
	return nil
}

// pad returns n, which is not negative, rounded up to a multiple of a power of two, and whether that is representable.
func pad(n, alignment int64) (int64, bool) {
	if n > math.MaxInt64-(alignment-1) {
		return 0, false
	}
	return (n + alignment - 1) &^ (alignment - 1), true
}
