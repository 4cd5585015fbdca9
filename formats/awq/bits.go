package awq

import "encoding/binary"

// eight is a byte of 1 in each of eight lanes.
const eight = 0x0101010101010101

// spread moves the eight nibbles of a word into bytes, less 8.
func spread(w uint32) uint64 {
	x := uint64(w)
	x = (x | x<<16) & 0x0000FFFF0000FFFF
	x = (x | x<<8) & 0x00FF00FF00FF00FF
	x = (x | x<<4) & 0x0F0F0F0F0F0F0F0F
	// The highest bit of a lane is set while 8 is taken from it, so that lanes do not borrow from each other.
	return (x | 0x80*eight) - middle*eight ^ 0x80*eight
}

// gather is the inverse of spread. Bytes must be in [-8, 7].
func gather(x uint64) uint32 {
	x = (x ^ 0x80*eight) - (0x80-middle)*eight
	x = (x | x>>4) & 0x00FF00FF00FF00FF
	x = (x | x>>8) & 0x0000FFFF0000FFFF
	return uint32(x | x>>16)
}

// square is a matrix of 8 by 8 bytes, a row in each word.
type square [fields]uint64

// transpose exchanges rows and columns.
func (s *square) transpose() {
	for _, step := range [3]struct {
		rows int
		bits uint
		mask uint64
	}{{1, 8, 0x00FF00FF00FF00FF}, {2, 16, 0x0000FFFF0000FFFF}, {4, 32, 0x00000000FFFFFFFF}} {
		for i := range fields {
			if i&step.rows != 0 {
				continue
			}
			t := (s[i]>>step.bits ^ s[i+step.rows]) & step.mask
			s[i+step.rows] ^= t
			s[i] ^= t << step.bits
		}
	}
}

// unpack writes the codes of eight rows and the columns that words are of, at most eight, to dst, whose rows are stride apart.
func unpack(dst []byte, stride int, words []uint32) {
	var s square
	for i, w := range words {
		s[i] = spread(w)
	}
	s.transpose()
	for k, r := range order {
		if len(words) == fields {
			binary.LittleEndian.PutUint64(dst[r*stride:], s[k])
			continue
		}
		for i := range words {
			dst[r*stride+i] = byte(s[k] >> (8 * i))
		}
	}
}

// pack is the inverse of unpack.
func pack(words []uint32, src []byte, stride int) {
	var s square
	for k, r := range order {
		if len(words) == fields {
			s[k] = binary.LittleEndian.Uint64(src[r*stride:])
			continue
		}
		for i := range words {
			s[k] |= uint64(src[r*stride+i]) << (8 * i)
		}
	}
	s.transpose()
	for i := range words {
		words[i] = gather(s[i])
	}
}
