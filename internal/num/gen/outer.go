package main

// addOuter writes the rank-1 update of vectors of 16 values that stand one after the other.
func addOuter(w *writer, v isa) {
	w.fn("addOuter16"+v.name, "(y, x []float32, e *[16]float32)", "y[16*k+r] += x[k]*e[r] for k < len(x)", 56)
	w.op("MOVQ y_base+0(FP), DI")
	w.op("MOVQ x_base+24(FP), SI")
	w.op("MOVQ x_len+32(FP), CX")
	w.op("MOVQ e+48(FP), DX")
	parts := 64 / v.bytes
	for u := range parts {
		w.op("VMOVUPS %d(DX), %s", u*v.bytes, v.r(u))
	}
	step := func(k int) {
		w.op("VBROADCASTSS %d(SI), %s", 4*k, v.r(4+k%2))
		for u := range parts {
			at, sum := 64*k+u*v.bytes, v.r(6+parts*(k%4)+u)
			w.op("VMOVUPS %d(DI), %s", at, sum)
			w.op("VFMADD231PS %s, %s, %s", v.r(u), v.r(4+k%2), sum)
			w.op("VMOVUPS %s, %d(DI)", sum, at)
		}
	}
	for _, loop := range []struct {
		label, next string
		unroll      int
	}{{"four", "one", 4}, {"one", "done", 1}} {
		w.at(loop.label)
		w.op("CMPQ CX, $%d", loop.unroll)
		w.op("JLT %s", loop.next)
		for k := range loop.unroll {
			step(k)
		}
		w.op("ADDQ $%d, SI", 4*loop.unroll)
		w.op("ADDQ $%d, DI", 64*loop.unroll)
		w.op("SUBQ $%d, CX", loop.unroll)
		w.op("JMP %s", loop.label)
	}
	w.at("done")
	w.op("VZEROUPPER")
	w.op("RET")
}
