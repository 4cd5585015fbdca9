package num

import (
	"encoding/binary"
	"math"
)

// Values as files hold them: little-endian, at any address.

// DecodeBF16 widens bfloat16: dst[i] is value i of src for i < len(dst).
func DecodeBF16(dst []float32, src []byte) {
	checkLen("DecodeBF16", "src", len(src), 2*len(dst))
	done := decodeBF16(dst, src)
	decodeBF16Generic(dst[done:], src[2*done:])
}

// DecodeF16 widens IEEE half precision: dst[i] is value i of src for i < len(dst). NaN becomes a quiet NaN.
func DecodeF16(dst []float32, src []byte) {
	checkLen("DecodeF16", "src", len(src), 2*len(dst))
	done := decodeF16(dst, src)
	decodeF16Generic(dst[done:], src[2*done:])
}

// EncodeBF16 rounds to the nearest bfloat16, ties to even: value i of dst is src[i]. NaN stays a (quiet) NaN.
func EncodeBF16(dst []byte, src []float32) {
	checkLen("EncodeBF16", "dst", len(dst), 2*len(src))
	done := encodeBF16(dst, src)
	encodeBF16Generic(dst[2*done:], src[done:])
}

// EncodeF16 rounds to the nearest IEEE half, ties to even: value i of dst is src[i]. What is too large becomes an infinity, NaN
// stays a (quiet) NaN.
func EncodeF16(dst []byte, src []float32) {
	checkLen("EncodeF16", "dst", len(dst), 2*len(src))
	done := encodeF16(dst, src)
	encodeF16Generic(dst[2*done:], src[done:])
}

func decodeBF16Generic(dst []float32, src []byte) {
	for len(dst) >= 4 && len(src) >= 8 {
		w := binary.LittleEndian.Uint64(src)
		dst[0] = math.Float32frombits(uint32(w) << 16)
		dst[1] = math.Float32frombits(uint32(w) & 0xffff0000)
		dst[2] = math.Float32frombits(uint32(w>>32) << 16)
		dst[3] = math.Float32frombits(uint32(w>>32) & 0xffff0000)
		dst, src = dst[4:], src[8:]
	}
	for i := range dst {
		dst[i] = bf16ToF32(binary.LittleEndian.Uint16(src[2*i:]))
	}
}

func decodeF16Generic(dst []float32, src []byte) {
	for i := range dst {
		dst[i] = f16ToF32(binary.LittleEndian.Uint16(src[2*i:]))
	}
}

func encodeBF16Generic(dst []byte, src []float32) {
	for len(src) >= 4 && len(dst) >= 8 {
		w := uint64(f32ToBF16(src[0])) | uint64(f32ToBF16(src[1]))<<16 | uint64(f32ToBF16(src[2]))<<32 | uint64(f32ToBF16(src[3]))<<48
		binary.LittleEndian.PutUint64(dst, w)
		src, dst = src[4:], dst[8:]
	}
	for i, f := range src {
		binary.LittleEndian.PutUint16(dst[2*i:], f32ToBF16(f))
	}
}

func encodeF16Generic(dst []byte, src []float32) {
	for i, f := range src {
		binary.LittleEndian.PutUint16(dst[2*i:], f32ToF16(f))
	}
}
