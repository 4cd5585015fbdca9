package main

// walshLevel writes one level of the Walsh-Hadamard transform. Registers of AVX2 are enough: it waits for memory.
func walshLevel(w *writer, e elem) {
	name, size := map[string]string{"PS": "walshLevel32", "PD": "walshLevel64"}[e.suffix], 1<<e.shift
	w.fn(name+avx2.name, "(x []"+e.name+", h int)", "x[i+j], x[i+h+j] = x[i+j]+x[i+h+j], x[i+j]-x[i+h+j] for i < len(x) in steps of 2h, j < h, h >= 8", 32)
	w.op("MOVQ x_base+0(FP), DI")
	w.op("MOVQ x_len+8(FP), CX")
	w.op("MOVQ h+24(FP), DX")
	w.op("SHLQ $%d, CX", e.shift)
	w.op("SHLQ $%d, DX", e.shift)
	w.op("ADDQ DI, CX") // the end
	w.at("block")
	w.op("CMPQ DI, CX")
	w.op("JGE done")
	w.op("LEAQ (DI)(DX*1), SI") // the second half
	w.op("MOVQ SI, R8")         // where the first one ends
	w.at("pair")
	for u := 0; u < 8*size; u += avx2.bytes {
		a, b, sum := avx2.r(u/avx2.bytes), avx2.r(2+u/avx2.bytes), avx2.r(4+u/avx2.bytes)
		w.op("VMOVU%s %d(DI), %s", e.suffix, u, a)
		w.op("VMOVU%s %d(SI), %s", e.suffix, u, b)
		w.op("VADD%s %s, %s, %s", e.suffix, b, a, sum)
		w.op("VSUB%s %s, %s, %s", e.suffix, b, a, a)
		w.op("VMOVU%s %s, %d(DI)", e.suffix, sum, u)
		w.op("VMOVU%s %s, %d(SI)", e.suffix, a, u)
	}
	w.op("ADDQ $%d, DI", 8*size)
	w.op("ADDQ $%d, SI", 8*size)
	w.op("CMPQ DI, R8")
	w.op("JLT pair")
	w.op("MOVQ SI, DI")
	w.op("JMP block")
	w.at("done")
	w.op("VZEROUPPER")
	w.op("RET")
}
