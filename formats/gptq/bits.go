package gptq

// unit is the smallest run of words that holds a whole number of codes: one word of 2, 4 and 8 bits, three of 3 bits.
type unit struct {
	bits, words, codes int
}

func unitOf(bits int) unit {
	if bits == 3 {
		return unit{3, 3, 32}
	}
	return unit{bits, 1, 32 / bits}
}

// unpack returns the codes of a unit in dst: fields of the little-endian bit stream that the words are.
func (u unit) unpack(dst *[block]uint8, w []uint32) {
	mask := uint32(1)<<u.bits - 1
	if u.words == 1 {
		for j := range u.codes {
			dst[j] = uint8(w[0] >> (u.bits * j) & mask)
		}
		return
	}
	for j := range u.codes {
		bit := u.bits * j
		v := w[bit/32] >> (bit % 32)
		if over := bit%32 + u.bits - 32; over > 0 {
			v |= w[bit/32+1] << (u.bits - over)
		}
		dst[j] = uint8(v & mask)
	}
}

// pack is the inverse of unpack.
func (u unit) pack(w []uint32, src *[block]uint8) {
	clear(w[:u.words])
	for j := range u.codes {
		bit, v := u.bits*j, uint32(src[j])
		w[bit/32] |= v << (bit % 32)
		if over := bit%32 + u.bits - 32; over > 0 {
			w[bit/32+1] |= v >> (u.bits - over)
		}
	}
}

// repeat returns the words of a unit whose codes are all v.
func (u unit) repeat(v uint8) []uint32 {
	var codes [block]uint8
	for j := range codes {
		codes[j] = v
	}
	w := make([]uint32, u.words)
	u.pack(w, &codes)
	return w
}
