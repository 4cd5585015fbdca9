package ggml

// kScales are the scales and offsets of the eight parts of a block of Q4_K or Q5_K, six bits each in twelve bytes. Byte j < 4 holds scale j
// and the upper bits of scale j+4, byte j+4 the offsets likewise, byte j+8 the lower four bits of scale j+4 and of offset j+4.
type kScales struct {
	scale, min [8]byte
}

func getKScales(b *[12]byte) (s kScales) {
	for j := range 4 {
		lo, hi, both := b[j], b[j+4], b[j+8]
		s.scale[j], s.min[j] = lo&63, hi&63
		s.scale[j+4] = both&15 | lo>>6<<4
		s.min[j+4] = both>>4 | hi>>6<<4
	}
	return s
}

func (s *kScales) put(b *[12]byte) {
	for j := range 4 {
		b[j] = s.scale[j]&63 | s.scale[j+4]>>4<<6
		b[j+4] = s.min[j]&63 | s.min[j+4]>>4<<6
		b[j+8] = s.scale[j+4]&15 | s.min[j+4]&15<<4
	}
}
