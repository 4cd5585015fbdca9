package main

// peaks writes the loops of multiply-adds that benchmarks measure the processor's peak with.
func peaks() []byte {
	w := newWriter()
	for _, v := range []isa{avx2, avx512} {
		peak(w, v)
	}
	return w.Bytes()
}

// peakChains is the number of independent sums of a peak loop: more than the latency of a multiply-add times the number
// of units, and within the registers of both instruction sets.
const peakChains = 12

// peak writes a loop of multiply-adds between registers alone, each chain one instruction per pass.
func peak(w *writer, v isa) {
	w.fn("peak"+v.name, "(n int)", "n passes of 12 independent multiply-adds of whole registers", 8)
	w.op("MOVQ n+0(FP), CX")
	for i := range peakChains + 2 {
		w.op("VXORPS %s, %s, %s", v.r(i), v.r(i), v.r(i))
	}
	w.at("loop")
	for i := range peakChains {
		w.op("VFMADD231PS %s, %s, %s", v.r(peakChains), v.r(peakChains+1), v.r(i))
	}
	w.op("DECQ CX")
	w.op("JNZ loop")
	w.op("VZEROUPPER")
	w.op("RET")
}
