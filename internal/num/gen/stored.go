package main

// storeds writes the kernels on values as files hold them.
func storeds() []byte {
	w := newWriter()
	for _, v := range []isa{avx2, avx512} {
		convert(w, v, "decodeBF16", "widens bfloat16", 2, 4, func(u int) {
			w.op("VPMOVZXWD %d(SI), %s", u*v.bytes/2, v.r(u))
			w.op("VPSLLD $16, %s, %s", v.r(u), v.r(u))
			w.op("VMOVUPS %s, %d(DI)", v.r(u), u*v.bytes)
		})
		convert(w, v, "decodeF16", "widens half precision", 2, 4, func(u int) {
			w.op("VCVTPH2PS %d(SI), %s", u*v.bytes/2, v.r(u))
			w.op("VMOVUPS %s, %d(DI)", v.r(u), u*v.bytes)
		})
		encodeBF16(w, v)
		convert(w, v, "encodeF16", "rounds to half precision, ties to even", 4, 2, func(u int) {
			w.op("VMOVUPS %d(SI), %s", u*v.bytes, v.r(u))
			w.op("VCVTPS2PH $0, %s, %d(DI)", v.r(u), u*v.bytes/2)
		})
	}
	return w.Bytes()
}

// convert writes a loop over values, 32 at a time, from elements of so many bytes to elements of so many; body handles register u of
// those that hold 32 float32.
func convert(w *writer, v isa, name, comment string, from, to int, body func(u int)) {
	convertHead(w, v, name, comment)
	convertLoop(w, from, to, func() {
		for u := range 128 / v.bytes {
			body(u)
		}
	})
}

func convertHead(w *writer, v isa, name, comment string) {
	w.fn(name+v.name, "(dst, src unsafe.Pointer, n int)", comment+"; n is a multiple of 32", 24)
	w.op("MOVQ dst+0(FP), DI")
	w.op("MOVQ src+8(FP), SI")
	w.op("MOVQ n+16(FP), CX")
}

func convertLoop(w *writer, from, to int, body func()) {
	w.at("loop")
	body()
	w.op("ADDQ $%d, SI", 32*from)
	w.op("ADDQ $%d, DI", 32*to)
	w.op("SUBQ $32, CX")
	w.op("JNZ loop")
	w.op("VZEROUPPER")
	w.op("RET")
}

// broadcast fills a register with a word.
func (w *writer) broadcast(v isa, word uint32, i int) {
	w.op("MOVL $0x%08x, AX", word)
	w.op("VMOVD AX, X%d", i)
	w.op("VPBROADCASTD X%d, %s", i, v.r(i))
}

// encodeBF16 adds just under half of the last kept bit, plus that bit itself, and keeps the upper half. NaN is made quiet instead.
func encodeBF16(w *writer, v isa) {
	convertHead(w, v, "encodeBF16", "rounds to bfloat16, ties to even")
	half, one, quiet := v.r(8), v.r(9), v.r(10)
	w.broadcast(v, 0x7fff, 8)
	w.broadcast(v, 1, 9)
	w.broadcast(v, 0x400000, 10)
	and, or := "VPAND", "VPOR"
	if v.bytes == 64 {
		and, or = "VPANDD", "VPORD"
	}
	convertLoop(w, 4, 2, func() {
		for u := range 128 / v.bytes {
			x, sum := v.r(u), v.r(4+u)
			w.op("VMOVUPS %d(SI), %s", u*v.bytes, x)
			w.op("VPSRLD $16, %s, %s", x, sum)
			w.op("%s %s, %s, %s", and, one, sum, sum)
			w.op("VPADDD %s, %s, %s", half, sum, sum)
			w.op("VPADDD %s, %s, %s", x, sum, sum)
			if v.bytes == 64 {
				w.op("VCMPPS $3, %s, %s, K1", x, x)
				w.op("VPORD %s, %s, K1, %s", quiet, x, sum)
				w.op("VPSRLD $16, %s, %s", sum, sum)
				w.op("VPMOVDW %s, %d(DI)", sum, u*32)
				continue
			}
			w.op("VCMPPS $3, %s, %s, Y11", x, x)
			w.op("%s %s, %s, %s", or, quiet, x, x)
			w.op("VBLENDVPS Y11, %s, %s, %s", x, sum, sum)
			w.op("VPSRLD $16, %s, %s", sum, sum)
			if u%2 == 1 { // each quarter of the packed register has four values of either
				w.op("VPACKUSDW %s, %s, %s", sum, v.r(3+u), sum)
				w.op("VPERMQ $0xd8, %s, %s", sum, sum)
				w.op("VMOVDQU %s, %d(DI)", sum, u/2*32)
			}
		}
	})
}
