package main

import "fmt"

// transposes writes the kernels that packing uses.
func transposes() []byte {
	w := newWriter()
	transpose8(w, "transpose8F32", 4, func(ptr, dst string) { w.op("VMOVUPS (%s)(SI*1), %s", ptr, dst) })
	transpose8(w, "transpose8BF16", 2, func(ptr, dst string) {
		w.op("VPMOVZXWD (%s)(SI*1), %s", ptr, dst)
		w.op("VPSLLD $16, %s, %s", dst, dst)
	})
	transpose8(w, "transpose8F16", 2, func(ptr, dst string) { w.op("VCVTPH2PS (%s)(SI*1), %s", ptr, dst) })
	transpose16(w, "transpose16F32", 4, func(ptr, dst string) { w.op("VMOVUPS (%s)(SI*1), %s", ptr, dst) })
	transpose16(w, "transpose16BF16", 2, func(ptr, dst string) {
		w.op("VPMOVZXWD (%s)(SI*1), %s", ptr, dst)
		w.op("VPSLLD $16, %s, %s", dst, dst)
	})
	transpose16(w, "transpose16F16", 2, func(ptr, dst string) { w.op("VCVTPH2PS (%s)(SI*1), %s", ptr, dst) })
	transpose4(w)
	copyColumns(w, false)
	copyColumns(w, true)
	return w.Bytes()
}

// start loads the arguments of a transpose: pointers of the rows to R8 and on, the distance between outputs to BX.
func start(w *writer, name, comment string, lanes, shift int) {
	w.fn(name, "(dst unsafe.Pointer, stride int, rows *[8]unsafe.Pointer, n int)", comment, 32)
	w.op("MOVQ dst+0(FP), DI")
	w.op("MOVQ stride+8(FP), BX")
	w.op("SHLQ $%d, BX", shift)
	w.op("MOVQ rows+16(FP), AX")
	w.op("MOVQ n+24(FP), CX")
	for r := range lanes {
		w.op("MOVQ %d(AX), R%d", 8*r, 8+r)
	}
	w.op("XORQ SI, SI")
}

// transpose8 writes a transpose of blocks of eight by eight; load widens eight elements of size bytes.
func transpose8(w *writer, name string, size int, load func(ptr, dst string)) {
	start(w, name, "dst[l*stride+r] = rows[r][l] for r < 8 and l < n, n a multiple of 8", 8, 2)
	w.at("loop")
	w.op("TESTQ CX, CX")
	w.op("JZ done")
	for r := range 8 {
		load(fmt.Sprint("R", 8+r), fmt.Sprint("Y", r))
	}
	for r := 0; r < 8; r += 2 {
		w.op("VUNPCKLPS Y%d, Y%d, Y%d", r+1, r, 8+r)
		w.op("VUNPCKHPS Y%d, Y%d, Y%d", r+1, r, 9+r)
	}
	for q := range 2 { // quadruples of rows
		t := 8 + 4*q
		w.op("VSHUFPS $0x44, Y%d, Y%d, Y%d", t+2, t, 4*q)
		w.op("VSHUFPS $0xEE, Y%d, Y%d, Y%d", t+2, t, 4*q+1)
		w.op("VSHUFPS $0x44, Y%d, Y%d, Y%d", t+3, t+1, 4*q+2)
		w.op("VSHUFPS $0xEE, Y%d, Y%d, Y%d", t+3, t+1, 4*q+3)
	}
	for half, imm := range []string{"$0x20", "$0x31"} {
		for i := range 4 {
			w.op("VPERM2F128 %s, Y%d, Y%d, Y%d", imm, 4+i, i, 8+4*half+i)
		}
	}
	for i := range 8 {
		w.op("VMOVUPS Y%d, (DI)", 8+i)
		w.op("ADDQ BX, DI")
	}
	w.op("ADDQ $%d, SI", 8*size)
	w.op("SUBQ $8, CX")
	w.op("JMP loop")
	w.at("done")
	w.op("VZEROUPPER")
	w.op("RET")
}

// transpose16 writes a transpose of blocks of sixteen by sixteen 32-bit values; load makes sixteen of them from elements of
// size bytes. Rows pair up, then pairs, then quadruples trade the quarters of their registers.
func transpose16(w *writer, name string, size int, load func(ptr, dst string)) {
	w.fn(name, "(dst unsafe.Pointer, stride int, rows *[16]unsafe.Pointer, n int)",
		"dst[l*stride+r] = rows[r][l] for r < 16 and l < n, n a multiple of 16, l ascending", 32)
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
		load("R8", fmt.Sprint("Z", r))
	}
	interleave16(w)
	for i := range 16 {
		w.op("VMOVUPS Z%d, (DI)", i)
		w.op("ADDQ BX, DI")
	}
	w.op("ADDQ $%d, SI", 16*size)
	w.op("SUBQ $16, CX")
	w.op("JMP loop")
	w.at("done")
	w.op("VZEROUPPER")
	w.op("RET")
}

// interleave16 transposes the sixteen words each of registers 0 to 15, using 16 to 31.
func interleave16(w *writer) {
	for r := 0; r < 16; r += 2 {
		w.op("VUNPCKLPS Z%d, Z%d, Z%d", r+1, r, 16+r)
		w.op("VUNPCKHPS Z%d, Z%d, Z%d", r+1, r, 17+r)
	}
	for r := 0; r < 16; r += 4 { // register r+c gets columns c, c+4, c+8, c+12 of rows r to r+3
		for c := range 2 {
			w.op("VUNPCKLPD Z%d, Z%d, Z%d", 18+r+c, 16+r+c, r+2*c)
			w.op("VUNPCKHPD Z%d, Z%d, Z%d", 18+r+c, 16+r+c, r+2*c+1)
		}
	}
	for c := range 4 {
		w.op("VSHUFF32X4 $0x44, Z%d, Z%d, Z%d", 4+c, c, 16+c)
		w.op("VSHUFF32X4 $0xEE, Z%d, Z%d, Z%d", 4+c, c, 20+c)
		w.op("VSHUFF32X4 $0x44, Z%d, Z%d, Z%d", 12+c, 8+c, 24+c)
		w.op("VSHUFF32X4 $0xEE, Z%d, Z%d, Z%d", 12+c, 8+c, 28+c)
	}
	for c := range 4 {
		for q, imm := range []string{"$0x88", "$0xDD"} {
			w.op("VSHUFF32X4 %s, Z%d, Z%d, Z%d", imm, 24+c, 16+c, c+4*q)
			w.op("VSHUFF32X4 %s, Z%d, Z%d, Z%d", imm, 28+c, 20+c, c+4*q+8)
		}
	}
}

// transpose4 writes the transpose of blocks of four by four doubles.
func transpose4(w *writer) {
	start(w, "transpose4F64", "dst[l*stride+r] = rows[r][l] for r < 4 and l < n, n a multiple of 4", 4, 3)
	w.at("loop")
	w.op("TESTQ CX, CX")
	w.op("JZ done")
	for r := range 4 {
		w.op("VMOVUPD (R%d)(SI*1), Y%d", 8+r, r)
	}
	for r := 0; r < 4; r += 2 {
		w.op("VUNPCKLPD Y%d, Y%d, Y%d", r+1, r, 4+r)
		w.op("VUNPCKHPD Y%d, Y%d, Y%d", r+1, r, 5+r)
	}
	for half, imm := range []string{"$0x20", "$0x31"} {
		for i := range 2 {
			w.op("VPERM2F128 %s, Y%d, Y%d, Y%d", imm, 6+i, 4+i, 8+2*half+i)
		}
	}
	for i := range 4 {
		w.op("VMOVUPD Y%d, (DI)", 8+i)
		w.op("ADDQ BX, DI")
	}
	w.op("ADDQ $32, SI")
	w.op("SUBQ $4, CX")
	w.op("JMP loop")
	w.at("done")
	w.op("VZEROUPPER")
	w.op("RET")
}

// copyColumns writes the copy of a panel whose vectors stand side by side: 32 bytes at a time, the last of them
// overlapping the ones before, or 8 bytes at a time where the pieces are smaller. The scaled form multiplies by a number
// per piece.
func copyColumns(w *writer, scaled bool) {
	if scaled {
		w.fn("scaleRows", "(dst unsafe.Pointer, stride int, src unsafe.Pointer, ld, size, n int, scale *float32)",
			"copyRows of float32 with piece l multiplied by scale[l]", 56)
		w.op("MOVQ scale+48(FP), R11")
	} else {
		w.fn("copyRows", "(dst unsafe.Pointer, stride int, src unsafe.Pointer, ld, size, n int)",
			"copies n pieces of size bytes, a multiple of 8, from src + l*ld to dst + l*stride (bytes)", 48)
	}
	move := func(index, load, reg string) {
		w.op("%s (SI)(%s*1), %s", load, index, reg)
		if scaled {
			w.op("VMULPS %s1, %s, %s", reg[:1], reg, reg)
		}
		w.op("%s %s, (DI)(%s*1)", load, reg, index)
	}
	w.op("MOVQ dst+0(FP), DI")
	w.op("MOVQ stride+8(FP), BX")
	w.op("MOVQ src+16(FP), SI")
	w.op("MOVQ ld+24(FP), AX")
	w.op("MOVQ size+32(FP), DX")
	w.op("MOVQ n+40(FP), CX")
	w.op("SUBQ $32, DX")
	w.at("row")
	w.op("TESTQ CX, CX")
	w.op("JZ done")
	if scaled {
		w.op("VBROADCASTSS (R11), Y1")
		w.op("ADDQ $4, R11")
	}
	w.op("XORQ R8, R8")
	w.op("TESTQ DX, DX")
	w.op("JLT narrow")
	w.op("JZ last")
	w.at("wide")
	move("R8", "VMOVUPS", "Y0")
	w.op("ADDQ $32, R8")
	w.op("CMPQ R8, DX")
	w.op("JLT wide")
	w.at("last")
	move("DX", "VMOVUPS", "Y0")
	w.op("JMP next")
	w.at("narrow")
	move("R8", "VMOVSD", "X0")
	w.op("ADDQ $8, R8")
	w.op("LEAQ -32(R8), R9")
	w.op("CMPQ R9, DX")
	w.op("JLT narrow")
	w.at("next")
	w.op("ADDQ AX, SI")
	w.op("ADDQ BX, DI")
	w.op("DECQ CX")
	w.op("JMP row")
	w.at("done")
	w.op("VZEROUPPER")
	w.op("RET")
}
