package main

import "fmt"

// symvs writes the kernels of the product of a symmetric matrix and a vector.
func symvs() []byte {
	w := newWriter()
	for _, v := range []isa{avx2, avx512} {
		symv(w, v)
	}
	return w.Bytes()
}

// symv reads four rows once for both halves of the product: their dot products with x, in 8 partial sums each, and what
// they add to y. A pass of the loop takes 8 columns, in 64/bytes parts.
func symv(w *writer, v isa) {
	w.fn("symv4"+v.name, "(y, x, a []float64, lda int, u *[4]float64, sums *[4][8]float64)",
		"for j < len(x)&^7: y[j] += Σ_r a[r*lda+j]*u[r]; sums[r][l] = Σ_{j%8 = l} a[r*lda+j]*x[j]", 96)
	rows := []string{"R10", "R11", "R12", "R13"}
	parts := 64 / v.bytes
	sum := func(r, p int) string { return v.r(p*4 + r) }
	factor := func(r int) string { return v.r(parts*4 + r) }
	x, y, a := v.r(parts*4+4), v.r(parts*4+5), v.r(parts*4+6)
	w.op("MOVQ y_base+0(FP), DI")
	w.op("MOVQ x_base+24(FP), SI")
	w.op("MOVQ x_len+32(FP), CX")
	w.op("MOVQ a_base+48(FP), R10")
	w.op("MOVQ lda+72(FP), AX")
	w.op("MOVQ u+80(FP), BX")
	w.op("MOVQ sums+88(FP), DX")
	w.op("SHLQ $3, AX")
	for r, reg := range rows {
		if r > 0 {
			w.op("LEAQ (%s)(AX*1), %s", rows[r-1], reg)
		}
		w.op("VBROADCASTSD %d(BX), %s", 8*r, factor(r))
		for p := range parts {
			w.op("VXORPD %s, %[1]s, %[1]s", sum(r, p))
		}
	}
	w.op("XORQ R8, R8")
	w.op("SHRQ $3, CX")
	w.op("JZ done")
	w.at("loop")
	for p := range parts {
		at := func(reg string) string { return fmt.Sprintf("%d(%s)(R8*1)", p*v.bytes, reg) }
		w.op("VMOVUPD %s, %s", at("SI"), x)
		w.op("VMOVUPD %s, %s", at("DI"), y)
		for r, reg := range rows {
			w.op("VMOVUPD %s, %s", at(reg), a)
			w.op("VFMADD231PD %s, %s, %s", x, a, sum(r, p))
			w.op("VFMADD231PD %s, %s, %s", factor(r), a, y)
		}
		w.op("VMOVUPD %s, %s", y, at("DI"))
	}
	w.op("ADDQ $64, R8")
	w.op("DECQ CX")
	w.op("JNZ loop")
	w.at("done")
	for r := range rows {
		for p := range parts {
			w.op("VMOVUPD %s, %d(DX)", sum(r, p), 64*r+p*v.bytes)
		}
	}
	w.op("VZEROUPPER")
	w.op("RET")
}
