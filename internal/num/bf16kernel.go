package num

import "math"

// kernelBF16 is a micro-kernel on pairs, with panels of mr rows by 32 columns.
type kernelBF16 struct {
	class string
	mr    int
	// strip computes c[i*ldc+32*t+j] (+)= the products of row i of a panel of a with column j of panel t of b, for
	// t < tiles, i < mr, j < 32; count is the number of pairs in a panel.
	strip func(c []float32, ldc int, a, b []uint32, count, tiles int, add bool)
	tails []tailBF16
	// pack writes a panel of a: count pairs of rows rows of x (at most mr), of which k values are left, zeros after them.
	pack func(panel []uint32, x []float32, ldx, rows, k, count int)
}

// tailBF16 is strip for the first rows of a panel alone.
type tailBF16 struct {
	rows  int
	strip func(c []float32, ldc int, a, b []uint32, count, tiles int, add bool)
}

func (k *kernelBF16) forRows(rows int) func(c []float32, ldc int, a, b []uint32, count, tiles int, add bool) {
	for _, t := range k.tails {
		if rows <= t.rows {
			return t.strip
		}
	}
	return k.strip
}

// ClassBF16 names what the bits of GemmPacked depend on besides the inputs: "bf16" for the arithmetic of VDPBF16PS, which
// plain Go reproduces bit for bit, "bf16amx" for that of TDPBF16PS.
func ClassBF16() string { return bestBF16().class }

// genericBF16 computes in plain Go what the AVX-512 kernels compute.
var genericBF16 = &kernelBF16{class: "bf16", mr: 4, strip: stripPairs, pack: func(panel []uint32, x []float32, ldx, rows, k, count int) {
	packPairs(panel, x, ldx, rows, k, 0, count, 4)
}}

// stripPairs is the micro-kernel of four rows in plain Go. Every sum is one chain from 0 of the steps of VDPBF16PS.
func stripPairs(c []float32, ldc int, a, b []uint32, count, tiles int, add bool) {
	for t := range tiles {
		for i := range 4 {
			row := c[i*ldc+panelBF16*t:][:panelBF16]
			for j := range row {
				s := float32(0)
				for l := range count {
					s = dotPair(s, a[4*l+i], b[(t*count+l)*panelBF16+j])
				}
				if add {
					s += row[j]
				}
				row[j] = s
			}
		}
	}
}

// dotPair is a lane of VDPBF16PS: s plus the product of the odd values, and then plus that of the even ones, each step
// rounded once, to nearest even. Denormal operands count as zeros, denormal results become zeros of their sign. (Intel,
// Software Developer's Manual, volume 2; AMD's Zen 5 does the same.) A product is exact in float64, and a sum of two
// numbers of at most 24 bits rounds to float32 through float64 as if directly.
func dotPair(s float32, a, b uint32) float32 {
	s = tiny0(float32(float64(s) + float64(wide(a>>16)*wide(b>>16))))
	return tiny0(float32(float64(s) + float64(wide(a&0xffff)*wide(b&0xffff))))
}

// wide widens a bfloat16, a denormal to zero.
func wide(h uint32) float64 {
	if h&0x7f80 == 0 {
		h &= 0x8000
	}
	return float64(math.Float32frombits(h << 16))
}

// tiny0 makes a zero of a denormal.
func tiny0(f float32) float32 {
	if b := math.Float32bits(f); b&0x7f800000 == 0 {
		return math.Float32frombits(b & (1 << 31))
	}
	return f
}

// packPairs writes the pairs [from, count) of rows of x as panel[l*w+r], rounded to bfloat16 as VCVTNE2PS2BF16 does: to
// nearest even, denormals to zero.
func packPairs(panel []uint32, x []float32, ldx, rows, k, from, count, w int) {
	for r := range rows {
		row := x[r*ldx:]
		for l := from; l < count; l++ {
			word := uint32(0)
			if 2*l < k {
				word = roundBF16(row[2*l])
			}
			if 2*l+1 < k {
				word |= roundBF16(row[2*l+1]) << 16
			}
			panel[l*w+r] = word
		}
	}
}

func roundBF16(f float32) uint32 {
	b := math.Float32bits(tiny0(f))
	if b&0x7fffffff > 0x7f800000 {
		return b>>16 | 0x40
	}
	return (b + 0x7fff + b>>16&1) >> 16
}
