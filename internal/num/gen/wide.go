package main

// addWide writes the kernel that adds float32 to float64, 16 values at a time; what is left is the caller's.
func addWide(w *writer, v isa) {
	w.fn("addWide"+v.name, "(dst []float64, src []float32)", "dst[i] += float64(src[i]) for i < len(src)/16*16", 48)
	w.op("MOVQ dst_base+0(FP), DI")
	w.op("MOVQ src_base+24(FP), SI")
	w.op("MOVQ src_len+32(FP), CX")
	w.at("loop")
	w.op("SUBQ $16, CX")
	w.op("JLT done")
	parts := 128 / v.bytes
	for u := range parts {
		w.op("VCVTPS2PD %d(SI), %s", u*v.bytes/2, v.r(u))
	}
	for u := range parts {
		w.op("VADDPD %d(DI), %s, %s", u*v.bytes, v.r(u), v.r(u))
		w.op("VMOVUPD %s, %d(DI)", v.r(u), u*v.bytes)
	}
	w.op("ADDQ $64, SI")
	w.op("ADDQ $128, DI")
	w.op("JMP loop")
	w.at("done")
	w.op("VZEROUPPER")
	w.op("RET")
}
