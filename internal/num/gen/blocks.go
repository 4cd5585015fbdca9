package main

import "fmt"

// blocks writes the kernels on blocks of values that share a scale.
func blocks() []byte {
	w := newWriter()
	w.WriteString("\n")
	for i, pair := range []string{"0x0000000400000000", "0x0000000500000001", "0x0000000600000002", "0x0000000700000003"} {
		fmt.Fprintf(w, "DATA order<>+%d(SB)/8, $%s\n", 8*i, pair)
	}
	fmt.Fprintf(w, "GLOBL order<>(SB), RODATA|NOPTR, $32\n")
	for _, v := range []isa{avx2, avx512} {
		magnitudeBits(w, v)
		quantizeQ8(w, v)
		blockExtremes(w, v)
		blockBounds(w, v)
		blockCodes(w, v)
		partCodes(w, v)
		rootWeights(w, v)
		affineSearch(w, v)
		scaleSearch(w, v)
	}
	return w.Bytes()
}

// bitAnd sets dst to a & b, all of them registers or b memory.
func (w *writer) bitAnd(v isa, b, a, dst string) {
	w.op("%s %s, %s, %s", map[int]string{32: "VPAND", 64: "VPANDD"}[v.bytes], b, a, dst)
}

func (w *writer) bitOr(v isa, b, a, dst string) {
	w.op("%s %s, %s, %s", map[int]string{32: "VPOR", 64: "VPORD"}[v.bytes], b, a, dst)
}

// clear sets a register to 0.
func (w *writer) clear(v isa, i int) { w.op("VXORPS %s, %s, %s", v.r(i), v.r(i), v.r(i)) }

// fold reduces register i of 32-bit lanes by an operation, which leaves the result in lane 0 of its first 128 bits; register t is lost.
func (w *writer) fold(v isa, op string, i, t int) {
	if v.bytes == 64 {
		w.op("VEXTRACTI64X4 $1, Z%d, Y%d", i, t)
		w.op("%s Y%d, Y%d, Y%d", op, t, i, i)
	}
	w.op("VEXTRACTI128 $1, Y%d, X%d", i, t)
	w.op("%s X%d, X%d, X%d", op, t, i, i)
	w.op("VPSHUFD $0x4e, X%d, X%d", i, t)
	w.op("%s X%d, X%d, X%d", op, t, i, i)
	w.op("VPSHUFD $0xb1, X%d, X%d", i, t)
	w.op("%s X%d, X%d, X%d", op, t, i, i)
}

const magnitudeMask = 1<<31 - 1

func magnitudeBits(w *writer, v isa) {
	w.fn("magnitudeBits"+v.name, "(src unsafe.Pointer, n int) uint32", "the largest of the bits of |src[i]|; n is a multiple of 32", 20)
	w.op("MOVQ src+0(FP), SI")
	w.op("MOVQ n+8(FP), CX")
	parts := 128 / v.bytes
	for u := range parts {
		w.clear(v, u)
	}
	w.broadcast(v, magnitudeMask, 8)
	w.at("loop")
	for u := range parts {
		w.bitAnd(v, fmt.Sprintf("%d(SI)", u*v.bytes), v.r(8), v.r(4+u))
		w.op("VPMAXUD %s, %s, %s", v.r(4+u), v.r(u), v.r(u))
	}
	w.op("ADDQ $128, SI")
	w.op("SUBQ $32, CX")
	w.op("JNZ loop")
	for n := parts / 2; n > 0; n /= 2 {
		for u := range n {
			w.op("VPMAXUD %s, %s, %s", v.r(u+n), v.r(u), v.r(u))
		}
	}
	w.fold(v, "VPMAXUD", 0, 1)
	w.op("VMOVD X0, AX")
	w.op("VZEROUPPER")
	w.op("MOVL AX, ret+16(FP)")
	w.op("RET")
}

// magnitudes loads a block into registers 0 and on and leaves the largest bits of its magnitudes, lane by lane, in register 4. Register 8 is the mask.
func (w *writer) magnitudes(v isa) {
	for u := range 128 / v.bytes {
		w.op("VMOVUPS %d(SI), %s", u*v.bytes, v.r(u))
		w.bitAnd(v, v.r(8), v.r(u), v.r(4+min(u, 1)))
		if u > 0 {
			w.op("VPMAXUD %s, %s, %s", v.r(5), v.r(4), v.r(4))
		}
	}
}

// quantizeQ8 computes what QuantizeQ8 documents. The codes of four registers come out of packing in groups of four, which order<> puts back.
func quantizeQ8(w *writer, v isa) {
	w.fn("quantizeQ8"+v.name, "(dst, src unsafe.Pointer, blocks int) uint32", "QuantizeQ8 of blocks", 28)
	w.op("MOVQ dst+0(FP), DI")
	w.op("MOVQ src+8(FP), SI")
	w.op("MOVQ blocks+16(FP), CX")
	w.broadcast(v, magnitudeMask, 8)
	w.broadcast(v, 0x3effffff, 9) // the largest number below 1/2
	w.broadcast(v, 1<<31, 14)
	for i, f := range []uint32{bits(127), bits(1), 0x7f800000} {
		w.op("MOVL $0x%08x, AX", f)
		w.op("VMOVD AX, X%d", 10+i)
	}
	w.clear(v, 13)
	if v.bytes == 32 {
		w.op("VMOVDQU order<>(SB), Y15")
	}
	w.at("loop")
	w.magnitudes(v)
	w.op("VPMAXUD %s, %s, %s", v.r(4), v.r(13), v.r(13))
	w.fold(v, "VPMAXUD", 4, 5)
	w.op("VDIVSS X10, X4, X5")     // d
	w.op("VDIVSS X5, X11, X6")     // 1/d
	w.op("VCMPSS $1, X12, X6, X7") // below infinity
	w.op("VANDPS X7, X6, X6")
	w.op("VCVTPS2PH $0, X5, X7")
	w.op("VPEXTRW $0, X7, (DI)")
	w.op("VBROADCASTSS X6, %s", v.r(6))
	for u := range 128 / v.bytes {
		x := v.r(u)
		w.op("VMULPS %s, %s, %s", v.r(6), x, x)
		w.bitAnd(v, v.r(14), x, v.r(4))
		w.bitOr(v, v.r(9), v.r(4), v.r(4))
		w.op("VADDPS %s, %s, %s", v.r(4), x, x)
		w.op("VCVTTPS2DQ %s, %s", x, x)
		if v.bytes == 64 {
			w.op("VPMOVSDB %s, %d(DI)", x, 2+16*u)
		}
	}
	if v.bytes == 32 {
		w.op("VPACKSSDW Y1, Y0, Y0")
		w.op("VPACKSSDW Y3, Y2, Y2")
		w.op("VPACKSSWB Y2, Y0, Y0")
		w.op("VPERMD Y0, Y15, Y0")
		w.op("VMOVDQU Y0, 2(DI)")
	}
	w.op("ADDQ $128, SI")
	w.op("ADDQ $34, DI")
	w.op("DECQ CX")
	w.op("JNZ loop")
	w.fold(v, "VPMAXUD", 13, 5)
	w.op("VMOVD X13, AX")
	w.op("VZEROUPPER")
	w.op("MOVL AX, ret+24(FP)")
	w.op("RET")
}

// blockExtremes finds the largest magnitude of a block and takes the first value that has it.
func blockExtremes(w *writer, v isa) {
	w.fn("blockExtremes"+v.name, "(dst, src unsafe.Pointer, blocks int)", "dst[b] is the value of largest magnitude of block b, the first of several", 24)
	w.op("MOVQ dst+0(FP), DI")
	w.op("MOVQ src+8(FP), SI")
	w.op("MOVQ blocks+16(FP), CX")
	w.broadcast(v, magnitudeMask, 8)
	w.op("XORQ R11, R11")
	w.at("loop")
	w.magnitudes(v)
	w.fold(v, "VPMAXUD", 4, 5)
	w.op("VMOVD X4, R10")
	w.op("VPBROADCASTD X4, %s", v.r(4))
	w.op("XORQ AX, AX")
	for u := range 128 / v.bytes {
		w.bitAnd(v, v.r(8), v.r(u), v.r(5))
		if v.bytes == 64 {
			w.op("VPCMPEQD Z5, Z4, K1")
			w.op("KMOVW K1, DX")
		} else {
			w.op("VPCMPEQD Y5, Y4, Y5")
			w.op("VMOVMSKPS Y5, DX")
		}
		if u > 0 {
			w.op("SHLQ $%d, DX", u*v.bytes/4)
		}
		w.op("ORQ DX, AX")
	}
	w.op("TZCNTQ AX, AX")
	w.op("MOVL (SI)(AX*4), DX")
	w.op("TESTL R10, R10")
	w.op("CMOVLEQ R11, DX")
	w.op("MOVL DX, (DI)")
	w.op("ADDQ $128, SI")
	w.op("ADDQ $4, DI")
	w.op("DECQ CX")
	w.op("JNZ loop")
	w.op("VZEROUPPER")
	w.op("RET")
}

func blockBounds(w *writer, v isa) {
	w.fn("blockBounds"+v.name, "(least, largest, src unsafe.Pointer, blocks int)", "least[b] and largest[b] are the extremes of block b", 32)
	w.op("MOVQ least+0(FP), DI")
	w.op("MOVQ largest+8(FP), DX")
	w.op("MOVQ src+16(FP), SI")
	w.op("MOVQ blocks+24(FP), CX")
	w.at("loop")
	for u := range 128 / v.bytes {
		at := fmt.Sprintf("%d(SI)", u*v.bytes)
		if u == 0 {
			w.op("VMOVUPS %s, %s", at, v.r(0))
			w.op("VMOVUPS %s, %s", v.r(0), v.r(1))
			continue
		}
		w.op("VMINPS %s, %s, %s", at, v.r(0), v.r(0))
		w.op("VMAXPS %s, %s, %s", at, v.r(1), v.r(1))
	}
	w.fold(v, "VMINPS", 0, 2)
	w.fold(v, "VMAXPS", 1, 2)
	w.op("VMOVSS X0, (DI)")
	w.op("VMOVSS X1, (DX)")
	w.op("ADDQ $128, SI")
	w.op("ADDQ $4, DI")
	w.op("ADDQ $4, DX")
	w.op("DECQ CX")
	w.op("JNZ loop")
	w.op("VZEROUPPER")
	w.op("RET")
}

// bytes16 stores 16 words, in register 0 or in registers 0 and 1, as bytes.
func (w *writer) bytes16(v isa, at int) {
	if v.bytes == 64 {
		w.op("VPMOVDB Z0, %d(DI)", at)
		return
	}
	w.op("VPACKSSDW Y1, Y0, Y0")
	w.op("VPERMQ $0xd8, Y0, Y0")
	w.op("VEXTRACTI128 $1, Y0, X1")
	w.op("VPACKUSWB X1, X0, X0")
	w.op("VMOVDQU X0, %d(DI)", at)
}

func blockCodes(w *writer, v isa) {
	w.fn("blockCodes"+v.name, "(dst, src, base, inv unsafe.Pointer, blocks int, add float32, top int32)",
		"dst[i] is the whole part of (src[i]-base[b])*inv[b]+add, at most top, for i in block b", 48)
	w.op("MOVQ dst+0(FP), DI")
	w.op("MOVQ src+8(FP), SI")
	w.op("MOVQ base+16(FP), DX")
	w.op("MOVQ inv+24(FP), BX")
	w.op("MOVQ blocks+32(FP), CX")
	w.op("VBROADCASTSS add+40(FP), %s", v.r(8))
	w.op("VBROADCASTSS top+44(FP), %s", v.r(9))
	w.at("loop")
	w.op("VBROADCASTSS (DX), %s", v.r(6))
	w.op("VBROADCASTSS (BX), %s", v.r(7))
	for half := range 2 {
		for u := range 64 / v.bytes {
			x := v.r(u)
			w.op("VMOVUPS %d(SI), %s", 64*half+u*v.bytes, x)
			w.op("VSUBPS %s, %s, %s", v.r(6), x, x)
			w.op("VMULPS %s, %s, %s", v.r(7), x, x)
			w.op("VADDPS %s, %s, %s", v.r(8), x, x)
			w.op("VCVTTPS2DQ %s, %s", x, x)
			w.op("VPMINSD %s, %s, %s", v.r(9), x, x)
		}
		w.bytes16(v, 16*half)
	}
	w.op("ADDQ $128, SI")
	w.op("ADDQ $32, DI")
	w.op("ADDQ $4, DX")
	w.op("ADDQ $4, BX")
	w.op("DECQ CX")
	w.op("JNZ loop")
	w.op("VZEROUPPER")
	w.op("RET")
}

// partCodes computes what PartCodes documents, nearestInt in the words of a float32.
func partCodes(w *writer, v isa) {
	w.fn("partCodes"+v.name, "(dst, src, add, step unsafe.Pointer, parts int, lo, hi, bias int32)",
		"dst[i] is (src[i]+add[p])/step[p], rounded to nearest, in [lo, hi], plus bias, for i in part p", 52)
	w.op("MOVQ dst+0(FP), DI")
	w.op("MOVQ src+8(FP), SI")
	w.op("MOVQ add+16(FP), DX")
	w.op("MOVQ step+24(FP), BX")
	w.op("MOVQ parts+32(FP), CX")
	for i, arg := range []string{"lo+40", "hi+44", "bias+48"} {
		w.op("VBROADCASTSS %s(FP), %s", arg, v.r(8+i))
	}
	w.broadcast(v, bits(3<<22), 11)
	w.broadcast(v, 0x7fffff, 12)
	w.broadcast(v, 0x400000, 13)
	w.at("loop")
	w.op("VBROADCASTSS (DX), %s", v.r(6))
	w.op("VBROADCASTSS (BX), %s", v.r(7))
	for u := range 64 / v.bytes {
		x := v.r(u)
		w.op("VMOVUPS %d(SI), %s", u*v.bytes, x)
		w.op("VADDPS %s, %s, %s", v.r(6), x, x)
		w.op("VDIVPS %s, %s, %s", v.r(7), x, x)
		w.op("VADDPS %s, %s, %s", v.r(11), x, x)
		w.bitAnd(v, v.r(12), x, x)
		w.op("VPSUBD %s, %s, %s", v.r(13), x, x)
		w.op("VPMAXSD %s, %s, %s", v.r(8), x, x)
		w.op("VPMINSD %s, %s, %s", v.r(9), x, x)
		w.op("VPADDD %s, %s, %s", v.r(10), x, x)
	}
	w.bytes16(v, 0)
	w.op("ADDQ $64, SI")
	w.op("ADDQ $16, DI")
	w.op("ADDQ $4, DX")
	w.op("ADDQ $4, BX")
	w.op("DECQ CX")
	w.op("JNZ loop")
	w.op("VZEROUPPER")
	w.op("RET")
}

func rootWeights(w *writer, v isa) {
	w.fn("rootWeights"+v.name, "(w, x, importance unsafe.Pointer, n int, sigma2 float32)",
		"w[i] = importance[i]*sqrt(sigma2+x[i]*x[i]); n is a multiple of 32", 36)
	w.op("MOVQ w+0(FP), DI")
	w.op("MOVQ x+8(FP), SI")
	w.op("MOVQ importance+16(FP), DX")
	w.op("MOVQ n+24(FP), CX")
	w.op("VBROADCASTSS sigma2+32(FP), %s", v.r(8))
	w.at("loop")
	for u := range 128 / v.bytes {
		x, at := v.r(u), u*v.bytes
		w.op("VMOVUPS %d(SI), %s", at, x)
		w.op("VMULPS %s, %s, %s", x, x, x)
		w.op("VADDPS %s, %s, %s", v.r(8), x, x)
		w.op("VSQRTPS %s, %s", x, x)
		w.op("VMULPS %d(DX), %s, %s", at, x, x)
		w.op("VMOVUPS %s, %d(DI)", x, at)
	}
	for _, p := range []string{"DI", "SI", "DX"} {
		w.op("ADDQ $128, %s", p)
	}
	w.op("SUBQ $32, CX")
	w.op("JNZ loop")
	w.op("VZEROUPPER")
	w.op("RET")
}
