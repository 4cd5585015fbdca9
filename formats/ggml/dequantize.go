package ggml

import (
	"encoding/binary"
	"fmt"
	"math"

	"modelpress/formats"
)

// Dequantize fills dst with the values of src, which holds exactly len(dst) of them in blocks of t, as ggml computes them in float32. All
// types but those of integers have values; F64 is rounded to nearest. Nothing in src is an error: codes of any bits are numbers, and
// scales that are NaN or infinite make values that are.
//
// Memory: none beside dst.
func Dequantize(t Type, dst []float32, src []byte) error {
	if err := checkSizes(t, len(dst), len(src)); err != nil {
		return fmt.Errorf("ggml: dequantize: %w", err)
	}
	switch t {
	case F32:
		return formats.Decode(dst, src, formats.F32)
	case F16:
		return formats.Decode(dst, src, formats.F16)
	case BF16:
		return formats.Decode(dst, src, formats.BF16)
	case F64:
		return formats.Decode(dst, src, formats.F64)
	}
	f := dequantizers[t]
	if f == nil {
		return fmt.Errorf("ggml: dequantize: %s has no values of float32", t)
	}
	f(dst, src)
	return nil
}

// dequantizers has the types of blocks; sizes have been checked.
var dequantizers = map[Type]func(dst []float32, src []byte){
	Q4_0: dequantizeQ4_0, Q4_1: dequantizeQ4_1, Q5_0: dequantizeQ5_0, Q5_1: dequantizeQ5_1, Q8_0: dequantizeQ8_0,
	Q2_K: dequantizeQ2K, Q3_K: dequantizeQ3K, Q4_K: dequantizeQ4K, Q5_K: dequantizeQ5K, Q6_K: dequantizeQ6K,
	MXFP4: dequantizeMXFP4, NVFP4: dequantizeNVFP4,
}

// checkSizes reports a number of values that does not go with a number of bytes.
func checkSizes(t Type, values, bytes int) error {
	switch n, err := t.RowBytes(int64(values)); {
	case err != nil:
		return err
	case n != int64(bytes):
		return fmt.Errorf("%d bytes do not hold %d values of %s", bytes, values, t)
	}
	return nil
}

// f16 reads a number of IEEE 754 binary16.
func f16(b []byte) float32 { return formats.F16ToF32(binary.LittleEndian.Uint16(b)) }

// putF16 stores f rounded to binary16 and returns what is stored.
func putF16(b []byte, f float32) float32 {
	h := formats.F16FromF32(f)
	binary.LittleEndian.PutUint16(b, h)
	return formats.F16ToF32(h)
}

// storedF16 returns what is read of f when it has been stored as binary16.
func storedF16(f float32) float32 { return formats.F16ToF32(formats.F16FromF32(f)) }

// roundingMagic is 1.5·2^23: a number below 2^22 in magnitude loses its fraction when it is added, rounded to nearest, ties to even.
const roundingMagic = 12582912

// nearest rounds a number below 2^22 in magnitude to nearest, ties to even. Other numbers give some number.
func nearest(f float32) int32 {
	return int32(math.Float32bits(f+roundingMagic)&0x7fffff) - 0x400000
}
