package main

import "fmt"

// bf16s writes the kernels on bfloat16.
func bf16s() []byte {
	w := newWriter()
	for _, rows := range []int{14, 8, 4} {
		micro(w, avx512, bf16, rows, 14)
	}
	pairs16(w)
	roundRow(w)
	amx(w)
	return w.Bytes()
}

// pairs16 writes the transpose that packs activations: rows of float32 become columns of pairs of bfloat16.
func pairs16(w *writer) {
	w.fn("pairs16", "(dst unsafe.Pointer, stride int, rows *[16]unsafe.Pointer, n int)",
		"dst[l*stride+r] = the pair (rows[r][2*l], rows[r][2*l+1]) for r < 16 and l < n, n a multiple of 16, l ascending", 32)
	w.op("MOVQ dst+0(FP), DI")
	w.op("MOVQ stride+8(FP), BX")
	w.op("SHLQ $2, BX")
	w.op("MOVQ rows+16(FP), AX")
	w.op("MOVQ n+24(FP), CX")
	w.op("XORQ SI, SI")
	w.at("loop")
	w.op("TESTQ CX, CX")
	w.op("JZ done")
	for r := range 16 {
		w.op("MOVQ %d(AX), R8", 8*r)
		w.op("VMOVUPS (R8)(SI*1), Z16")
		w.op("VMOVUPS 64(R8)(SI*1), Z17")
		cvtBF16(w, 16, 17, r)
	}
	interleave16(w)
	for i := range 16 {
		w.op("VMOVUPS Z%d, (DI)", i)
		w.op("ADDQ BX, DI")
	}
	w.op("ADDQ $128, SI")
	w.op("SUBQ $16, CX")
	w.op("JMP loop")
	w.at("done")
	w.op("VZEROUPPER")
	w.op("RET")
}

// roundRow writes the rounding of a row to pairs, in place of a transpose.
func roundRow(w *writer) {
	w.fn("pairsRow", "(dst, src unsafe.Pointer, n int)", "dst[l] = the pair (src[2*l], src[2*l+1]) for l < n, n a multiple of 16", 24)
	w.op("MOVQ dst+0(FP), DI")
	w.op("MOVQ src+8(FP), SI")
	w.op("MOVQ n+16(FP), CX")
	w.at("loop")
	w.op("TESTQ CX, CX")
	w.op("JZ done")
	w.op("VMOVUPS (SI), Z16")
	w.op("VMOVUPS 64(SI), Z17")
	cvtBF16(w, 16, 17, 0)
	w.op("VMOVUPS Z0, (DI)")
	w.op("ADDQ $128, SI")
	w.op("ADDQ $64, DI")
	w.op("SUBQ $16, CX")
	w.op("JMP loop")
	w.at("done")
	w.op("VZEROUPPER")
	w.op("RET")
}

// amx writes the kernel on tile registers: four tiles of 16 by 16 sums, two of a and two of b. The configuration of the
// tiles is loaded and released within the call, so that nothing else of the program runs with tiles in use.
func amx(w *writer) {
	w.WriteString("\n// Palette 1; all eight tiles have 16 rows of 64 bytes.\n")
	for i, v := range []string{"0x0000000000000001", "0", "0x0040004000400040", "0x0040004000400040", "0", "0", "0x1010101010101010", "0"} {
		fmt.Fprintf(w, "DATA tiles<>+%d(SB)/8, $%s\n", 8*i, v)
	}
	w.WriteString("GLOBL tiles<>(SB), RODATA|NOPTR, $64\n")
	w.fn("micro32x32AMX", "(c []float32, ldc int, a []uint32, lda int, b []uint32, pairs, tiles int, add bool)",
		"c[i*ldc+32*t+j] (+)= Σ_l a[i*lda+l]·b[(t*pairs+l)*32+j] over pairs, t < tiles, i < 32, j < 32; pairs a multiple of 16", 105)
	w.op("MOVQ c_base+0(FP), DI")
	w.op("MOVQ ldc+24(FP), SI")
	w.op("SHLQ $2, SI")
	w.op("MOVQ a_base+32(FP), R8")
	w.op("MOVQ lda+56(FP), DX")
	w.op("SHLQ $2, DX")
	w.op("MOVQ b_base+64(FP), BX")
	w.op("MOVQ pairs+88(FP), R9")
	w.op("MOVQ tiles+96(FP), R10")
	w.op("MOVBLZX add+104(FP), R11")
	w.op("MOVQ DX, R12")
	w.op("SHLQ $4, R12 // sixteen rows of a")
	w.op("MOVQ SI, R13")
	w.op("SHLQ $4, R13 // sixteen rows of c")
	w.op("LEAQ tiles<>(SB), AX")
	tileConfig(w, regAX)
	w.at("tile")
	w.op("TESTQ R11, R11")
	w.op("JZ zero")
	corners := func(f func(tile, base int)) { // the four tiles of c
		w.op("MOVQ DI, AX")
		f(0, regAX)
		w.op("ADDQ $64, AX")
		f(1, regAX)
		w.op("LEAQ (DI)(R13*1), AX")
		f(2, regAX)
		w.op("ADDQ $64, AX")
		f(3, regAX)
	}
	corners(func(tile, base int) { tileLoad(w, tile, base, regSI) })
	w.op("JMP start")
	w.at("zero")
	for tile := range 4 {
		tileZero(w, tile)
	}
	w.at("start")
	w.op("MOVQ R8, AX")
	w.op("MOVQ R9, R14")
	w.op("MOVQ $128, CX")
	w.at("loop")
	tileLoad(w, 6, regBX, regCX)
	tileLoad(w, 4, regAX, regDX)
	tileDP(w, 6, 4, 0)
	w.op("ADDQ $64, BX")
	tileLoad(w, 7, regBX, regCX)
	tileDP(w, 7, 4, 1)
	w.op("ADDQ R12, AX")
	tileLoad(w, 5, regAX, regDX)
	tileDP(w, 6, 5, 2)
	tileDP(w, 7, 5, 3)
	w.op("SUBQ R12, AX")
	w.op("ADDQ $64, AX // sixteen pairs")
	w.op("ADDQ $%d, BX", 16*128-64)
	w.op("SUBQ $16, R14")
	w.op("JNZ loop")
	corners(func(tile, base int) { tileStore(w, tile, base, regSI) })
	w.op("ADDQ $128, DI")
	w.op("DECQ R10")
	w.op("JNZ tile")
	tileRelease(w)
	w.op("RET")
}
