package gptq

import "encoding/binary"

// unit is the smallest run of words that holds a whole number of codes: one word of 2, 4 and 8 bits, three of 3 bits.
type unit struct {
	bits, words, codes int
}

func unitOf(bits int) unit {
	if bits == 3 {
		return unit{3, 3, block}
	}
	return unit{bits, 1, block / bits}
}

// eight is a byte of 1 in each of eight lanes.
const eight = 0x0101010101010101

// unpack fills dst with the codes of a unit: fields of the little-endian bit stream that the words are, less bias, a byte each.
func (u unit) unpack(dst []byte, w []uint32, bias uint8) {
	if u.bits == 8 {
		binary.LittleEndian.PutUint32(dst, w[0])
		for j := range 4 {
			dst[j] -= bias
		}
		return
	}
	dst = dst[:u.codes]
	for j := 0; j < len(dst); j += 8 {
		x := spread(u.field(w, j), u.bits)
		// The highest bit of a lane is set while bias is taken from it, so that lanes do not borrow from each other.
		x = (x | 0x80*eight) - uint64(bias)*eight ^ 0x80*eight
		binary.LittleEndian.PutUint64(dst[j:], x)
	}
}

// field returns the bits of eight codes from code j on.
func (u unit) field(w []uint32, j int) uint64 {
	bit := u.bits * j
	v := uint64(w[bit/32]) >> (bit % 32)
	if bit%32+8*u.bits > 32 {
		v |= uint64(w[bit/32+1]) << (32 - bit%32)
	}
	return v & (1<<(8*u.bits) - 1)
}

// pack is the inverse of unpack. Codes plus bias must be in [0, 2^bits-1].
func (u unit) pack(w []uint32, src []byte, bias uint8) {
	if u.bits == 8 {
		w[0] = binary.LittleEndian.Uint32([]byte{src[0] + bias, src[1] + bias, src[2] + bias, src[3] + bias})
		return
	}
	src = src[:u.codes]
	clear(w[:u.words])
	for j := 0; j < len(src); j += 8 {
		x := (binary.LittleEndian.Uint64(src[j:]) ^ 0x80*eight) - uint64(0x80-bias)*eight
		v, bit := gather(x, u.bits), u.bits*j
		w[bit/32] |= uint32(v << (bit % 32))
		if bit%32+8*u.bits > 32 {
			w[bit/32+1] |= uint32(v >> (32 - bit%32))
		}
	}
}

// spread moves eight fields of some bits, up to 8, into the low bits of eight bytes: halves, then quarters, then eighths of them apart.
func spread(x uint64, bits int) uint64 {
	b := uint(bits)
	x = x&(1<<(4*b)-1) | x>>(4*b)<<32
	m := uint64(1<<(2*b)-1) * (1<<32 + 1)
	x = x&m | x>>(2*b)&m<<16
	m = uint64(1<<b-1) * (1<<48 + 1<<32 + 1<<16 + 1)
	return x&m | x>>b&m<<8
}

// gather is the inverse of spread.
func gather(x uint64, bits int) uint64 {
	b := uint(bits)
	m := uint64(1<<b-1) * (1<<48 + 1<<32 + 1<<16 + 1)
	x = x&m | x>>8&m<<b
	m = uint64(1<<(2*b)-1) * (1<<32 + 1)
	x = x&m | x>>16&m<<(2*b)
	return x&(1<<(4*b)-1) | x>>32<<(4*b)
}

// repeat returns the words of a unit whose codes are all v.
func (u unit) repeat(v uint8) []uint32 {
	var codes [block]byte
	for j := range codes {
		codes[j] = v
	}
	w := make([]uint32, u.words)
	u.pack(w, codes[:], 0)
	return w
}
