package main

import "fmt"

// micros writes the matrix product kernels.
func micros() []byte {
	w := newWriter()
	for _, rows := range []int{14, 8, 4} {
		micro(w, avx512, f32, rows, 14)
	}
	micro(w, avx512, f64, 14, 14)
	for _, rows := range []int{6, 4, 2} {
		micro(w, avx2, f32, rows, 6)
	}
	micro(w, avx2, f64, 6, 6)
	return w.Bytes()
}

// nextA is how far ahead a is fetched into the second-level cache, in values of l: the panel after this one, for full
// blocks of 256 values.
const nextA = 256

// micro writes a kernel for the first mr rows of panels of width rows, by two registers of columns, for several panels of
// b one after the other. All sums of a tile stay in registers; each value of l loads the columns once and broadcasts one row value after the other, alternating
// between two registers.
func micro(w *writer, v isa, e elem, mr, width int) {
	nr := 2 * v.bytes >> e.shift
	acc := func(i, j int) string { return v.r(2*i + j) }
	b0, b1 := v.r(2*mr), v.r(2*mr+1)
	name := fmt.Sprintf("micro%dx%d%s", mr, nr, v.name+e.mark)
	w.fn(name, fmt.Sprintf("(c []%s, ldc int, a, b []%s, k, tiles int, add bool)", e.name, e.operand),
		fmt.Sprintf("c[i*ldc+%d*t+j] (+)= Σ_l a[l*%d+i]*b[(t*k+l)*%d+j] for t < tiles, i < %d, j < %d", nr, width, nr, mr, nr), 97)
	w.op("MOVQ c_base+0(FP), R9")
	w.op("MOVQ ldc+24(FP), SI")
	w.op("SHLQ $%d, SI", e.shift)
	w.op("MOVQ a_base+32(FP), R10")
	w.op("MOVQ b_base+56(FP), BX")
	w.op("MOVQ k+80(FP), R11")
	w.op("MOVQ tiles+88(FP), R12")
	w.op("MOVBLZX add+96(FP), DX")
	w.at("tile")
	w.op("MOVQ R9, DI")
	w.op("MOVQ R10, AX")
	w.op("MOVQ R11, CX")
	w.op("MOVQ DI, R8")
	for i := range mr {
		w.op("PREFETCHT0 (R8)")
		if v.bytes == 64 {
			w.op("PREFETCHT0 64(R8)")
		}
		if i < mr-1 {
			w.op("ADDQ SI, R8")
		}
	}
	for i := range mr {
		for j := range 2 {
			w.op("VXORPS %s, %s, %s", acc(i, j), acc(i, j), acc(i, j))
		}
	}
	step := func(u int) {
		w.op("VMOVU%s %d(BX), %s", e.suffix, 2*u*v.bytes, b0)
		w.op("VMOVU%s %d(BX), %s", e.suffix, (2*u+1)*v.bytes, b1)
		for i := range mr {
			row := v.r(2*mr + 2 + i%2)
			w.op("%s %d(AX), %s", e.bcast, (u*width+i)<<e.shift, row)
			for j, b := range []string{b0, b1} {
				if e.pairs {
					dpBF16(w, 2*mr+j, 2*mr+2+i%2, 2*i+j)
				} else {
					w.op("VFMADD231%s %s, %s, %s", e.suffix, b, row, acc(i, j))
				}
			}
		}
	}
	loop := func(label, next string, unroll int) {
		w.at(label)
		w.op("CMPQ CX, $%d", unroll)
		w.op("JLT %s", next)
		for u := range unroll {
			step(u)
		}
		for at := 0; unroll > 1 && at < unroll*width<<e.shift; at += 64 {
			w.op("PREFETCHT1 %d(AX)", nextA*width<<e.shift+at)
		}
		w.op("ADDQ $%d, AX", unroll*width<<e.shift)
		w.op("ADDQ $%d, BX", unroll*2*v.bytes)
		w.op("SUBQ $%d, CX", unroll)
		w.op("JMP %s", label)
	}
	loop("four", "one", 4)
	loop("one", "done", 1)
	w.at("done")
	w.op("TESTQ DX, DX")
	w.op("JZ store")
	w.op("MOVQ DI, R8")
	for i := range mr {
		w.op("VADD%s (R8), %s, %s", e.suffix, acc(i, 0), acc(i, 0))
		w.op("VADD%s %d(R8), %s, %s", e.suffix, v.bytes, acc(i, 1), acc(i, 1))
		if i < mr-1 {
			w.op("ADDQ SI, R8")
		}
	}
	w.at("store")
	for i := range mr {
		w.op("VMOVU%s %s, (DI)", e.suffix, acc(i, 0))
		w.op("VMOVU%s %s, %d(DI)", e.suffix, acc(i, 1), v.bytes)
		if i < mr-1 {
			w.op("ADDQ SI, DI")
		}
	}
	w.op("ADDQ $%d, R9", 2*v.bytes)
	w.op("DECQ R12")
	w.op("JNZ tile")
	w.op("VZEROUPPER")
	w.op("RET")
}
