package formats

import "unsafe"

// Int8Bytes returns the memory of v as bytes, each the two's complement of a value.
func Int8Bytes(v []int8) []byte {
	if len(v) == 0 {
		return nil
	}
	return unsafe.Slice((*byte)(unsafe.Pointer(&v[0])), len(v))
}
