package packed

import (
	"encoding/binary"

	"modelpress/formats"
)

// Pack returns the words of codes [out, in]: each row is a little-endian stream of b-bit fields q + 2^(b-1), cut into
// ceil(in*b/32) words of which the last is filled up with zero bits. bits is 4 or 8.
func Pack(codes []int8, out, in, bits int) []int32 {
	w := int(words(int64(in), bits))
	dst := make([]int32, out*w)
	for r := range out {
		packRow(dst[r*w:(r+1)*w], codes[r*in:(r+1)*in], bits)
	}
	return dst
}

func packRow(dst []int32, codes []int8, bits int) {
	per, bias := 32/bits, 1<<(bits-1)
	done := 0
	if bits == 4 {
		done = packNibbles(dst, codes)
	}
	for i := done; i < len(dst); i++ {
		var word uint32
		for j, q := range codes[i*per : min((i+1)*per, len(codes))] {
			word |= uint32(int(q)+bias) & (1<<bits - 1) << (bits * j)
		}
		dst[i] = int32(word)
	}
}

// packNibbles packs codes of 4 bits as far as they fill words, and returns the number of these.
func packNibbles(dst []int32, codes []int8) int {
	src := formats.Int8Bytes(codes)
	n := len(src) / 8
	for i := range n {
		// Adding 8 to a code of 4 bits is to change its highest bit. Neighbours are then drawn together: 8 of 4 bits, 4 of 8, 2 of 16.
		x := binary.LittleEndian.Uint64(src[8*i:])&0x0f0f0f0f0f0f0f0f ^ 0x0808080808080808
		x = (x | x>>4) & 0x00ff00ff00ff00ff
		x = (x | x>>8) & 0x0000ffff0000ffff
		dst[i] = int32(uint32(x | x>>16))
	}
	return n
}

// Unpack is the inverse of [Pack].
func Unpack(packed []int32, out, in, bits int) []int8 {
	w := int(words(int64(in), bits))
	dst := make([]int8, out*in)
	for r := range out {
		unpackRow(dst[r*in:(r+1)*in], packed[r*w:(r+1)*w], bits)
	}
	return dst
}

func unpackRow(dst []int8, packed []int32, bits int) {
	per, bias := 32/bits, 1<<(bits-1)
	for i, word := range packed {
		u := uint32(word)
		part := dst[i*per : min((i+1)*per, len(dst))]
		for j := range part {
			part[j] = int8(int(u&(1<<bits-1)) - bias)
			u >>= bits
		}
	}
}

// PackZeros returns the words of zero points [out, groups], packed along the rows: word [r, g] holds the zero points of
// group g for 32/b consecutive output rows. The result is [ceil(out*b/32), groups].
func PackZeros(zeros []int8, out, groups, bits int) []int32 {
	rows, per, bias := int(words(int64(out), bits)), 32/bits, 1<<(bits-1)
	dst := make([]int32, rows*groups)
	for o := range out {
		for g, z := range zeros[o*groups : (o+1)*groups] {
			field := uint32(int(z)+bias) & (1<<bits - 1) << (bits * (o % per))
			dst[o/per*groups+g] |= int32(field)
		}
	}
	return dst
}

// UnpackZeros is the inverse of [PackZeros].
func UnpackZeros(packed []int32, out, groups, bits int) []int8 {
	per, bias := 32/bits, 1<<(bits-1)
	dst := make([]int8, out*groups)
	for o := range out {
		for g := range groups {
			u := uint32(packed[o/per*groups+g]) >> (bits * (o % per))
			dst[o*groups+g] = int8(int(u&(1<<bits-1)) - bias)
		}
	}
	return dst
}
