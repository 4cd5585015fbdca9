package gguf

import "math"

// Uint returns an integer of any kind that is not negative. Not an array, not a bool.
func (v Value) Uint() (uint64, bool) {
	if u, ok := v.Data.(uint64); ok {
		return u, true
	}
	i, ok := v.Int()
	return uint64(i), ok && i >= 0
}

// Int returns an integer of any kind that fits in int64.
func (v Value) Int() (int64, bool) {
	switch d := v.Data.(type) {
	case uint8:
		return int64(d), true
	case int8:
		return int64(d), true
	case uint16:
		return int64(d), true
	case int16:
		return int64(d), true
	case uint32:
		return int64(d), true
	case int32:
		return int64(d), true
	case uint64:
		return int64(d), d <= math.MaxInt64
	case int64:
		return d, true
	}
	return 0, false
}

// Float returns a float32 or a float64.
func (v Value) Float() (float64, bool) {
	switch d := v.Data.(type) {
	case float32:
		return float64(d), true
	case float64:
		return d, true
	}
	return 0, false
}

// Bool returns a bool.
func (v Value) Bool() (value, ok bool) {
	value, ok = v.Data.(bool)
	return value, ok
}

// Str returns a string.
func (v Value) Str() (string, bool) {
	s, ok := v.Data.(string)
	return s, ok
}

// Strs returns an array of strings. It is the value's own: not to be changed.
func (v Value) Strs() ([]string, bool) {
	s, ok := v.Data.([]string)
	return s, ok
}

// Bools returns an array of bools. It is the value's own: not to be changed.
func (v Value) Bools() ([]bool, bool) {
	s, ok := v.Data.([]bool)
	return s, ok
}

// Ints returns an array of integers of any kind, if all fit in int64, as a copy.
func (v Value) Ints() ([]int64, bool) {
	switch d := v.Data.(type) {
	case []uint8:
		return convert[int64](d), true
	case []int8:
		return convert[int64](d), true
	case []uint16:
		return convert[int64](d), true
	case []int16:
		return convert[int64](d), true
	case []uint32:
		return convert[int64](d), true
	case []int32:
		return convert[int64](d), true
	case []int64:
		return convert[int64](d), true
	case []uint64:
		for _, u := range d {
			if u > math.MaxInt64 {
				return nil, false
			}
		}
		return convert[int64](d), true
	}
	return nil, false
}

// Floats returns an array of float32 or float64, as a copy.
func (v Value) Floats() ([]float64, bool) {
	switch d := v.Data.(type) {
	case []float32:
		return convert[float64](d), true
	case []float64:
		return convert[float64](d), true
	}
	return nil, false
}

type number interface {
	~uint8 | ~int8 | ~uint16 | ~int16 | ~uint32 | ~int32 | ~uint64 | ~int64 | ~float32 | ~float64
}

func convert[T, S number](s []S) []T {
	out := make([]T, len(s))
	for i, x := range s {
		out[i] = T(x)
	}
	return out
}

// Len returns the number of elements of an array, and 0 for other values.
func (v Value) Len() int {
	if v.Kind != KindArray || !v.Elem.element() {
		return 0
	}
	return codecs[v.Elem].count(v.Data)
}
