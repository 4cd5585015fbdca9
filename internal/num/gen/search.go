package main

import "fmt"

// Offsets of the fields of AffineSearch and ScaleSearch; a test of package num compares.
const (
	searchX, searchW, searchCodes  = 0, 2048, 4096
	searchScale, searchMin         = 6144, 6208
	searchBase, searchInv          = 6272, 6336
	searchWeight                   = 6400
	scaleSearchScale, scaleInverse = 6144, 6208
)

// lanes writes a search: 16 lanes at once, or eight and then the other eight. DI points at the lanes, CX is the number of values of each in bytes.
type lanes struct {
	*writer
	isa
}

// field is the operand of a field.
func (l *lanes) field(offset int) string { return fmt.Sprintf("%d(DI)", offset) }

// value is the operand of value u after R8 of a field.
func (l *lanes) value(offset, u int) string { return fmt.Sprintf("%d(DI)(R8*1)", offset+64*u) }

// values writes a loop over the values of a lane, four at a time.
func (l *lanes) values(label string, body func(u int)) {
	l.op("XORQ R8, R8")
	l.at(label)
	for u := range 4 {
		body(u)
	}
	l.op("ADDQ $256, R8")
	l.op("CMPQ R8, CX")
	l.op("JLT %s", label)
}

// Predicates of comparisons.
const (
	less, lessEqual, notEqual, greater = 17, 18, 4, 30
)

// compare makes mask m, a number: m = a pred b. Masks are registers K1 and K2, or vectors 15 and 2.
func (l *lanes) compare(m, pred int, b, a string) {
	l.op("VCMPPS $%d, %s, %s, %s", pred, b, a, l.mask(m))
}

func (l *lanes) mask(m int) string {
	if l.bytes == 64 {
		return fmt.Sprint("K", m)
	}
	return map[int]string{1: "Y15", 2: "Y2"}[m]
}

// both makes mask 1 of masks 1 and 2.
func (l *lanes) both() {
	if l.bytes == 64 {
		l.op("KANDW K1, K2, K1")
		return
	}
	l.op("VANDPS Y2, Y15, Y15")
}

// blend sets those lanes of dst that mask 1 has.
func (l *lanes) blend(from, dst string) {
	if l.bytes == 64 {
		l.op("VMOVUPS %s, K1, %s", from, dst)
		return
	}
	l.op("VBLENDVPS Y15, %s, %s, %s", from, dst, dst)
}

// update sets those lanes of a field that mask 1 has; register t is lost.
func (l *lanes) update(from string, offset int, t string) {
	l.op("VMOVUPS %s, %s", l.field(offset), t)
	l.blend(from, t)
	l.op("VMOVUPS %s, %s", t, l.field(offset))
}

// halves writes body once for all lanes, or in a loop for the halves.
func (l *lanes) halves(body func()) {
	if l.bytes == 32 {
		l.op("MOVQ $2, R11")
		l.at("half")
	}
	body()
	if l.bytes == 32 {
		l.op("ADDQ $32, DI")
		l.op("DECQ R11")
		l.op("JNZ half")
	}
	l.op("VZEROUPPER")
	l.op("RET")
}

// affineSearch computes what affineLane.run does, for all lanes.
func affineSearch(w *writer, v isa) {
	w.fn("affineSearch"+v.name, "(s *AffineSearch, n int, top float32, tries []float32)", "affineLane.run for each lane; n is a multiple of 4", 48)
	l := &lanes{w, v}
	x, t, det := v.r(0), v.r(1), v.r(2)
	sumL, sumL2, sumXL := v.r(3), v.r(4), v.r(5)
	scale, least, loss := sumL, sumL2, sumXL // after the sums
	base, inv, magic, zero, top := v.r(6), v.r(7), v.r(8), v.r(9), v.r(10)
	hi, sumW, sumX, best, tmp := v.r(11), v.r(12), v.r(13), v.r(14), v.r(15)
	l.op("MOVQ s+0(FP), DI")
	l.op("MOVQ n+8(FP), CX")
	l.op("SHLQ $6, CX")
	l.op("VBROADCASTSS top+16(FP), %s", top)
	l.broadcast(v, bits(3<<22), 8)
	l.clear(v, 9)

	round := func(label string, sums bool) {
		if sums {
			for i := 3; i <= 5; i++ {
				l.clear(v, i)
			}
		}
		l.values(label, func(u int) {
			l.op("VMOVUPS %s, %s", l.value(searchX, u), x)
			l.op("VSUBPS %s, %s, %s", base, x, t)
			l.op("VMULPS %s, %s, %s", inv, t, t)
			l.op("VADDPS %s, %s, %s", magic, t, t)
			l.op("VSUBPS %s, %s, %s", magic, t, t)
			l.op("VMAXPS %s, %s, %s", zero, t, t)
			l.op("VMINPS %s, %s, %s", top, t, t)
			l.op("VMOVUPS %s, %s", t, l.value(searchCodes, u))
			if !sums {
				return
			}
			wl := det
			l.op("VMULPS %s, %s, %s", l.value(searchW, u), t, wl)
			l.op("VADDPS %s, %s, %s", wl, sumL, sumL)
			l.op("VMULPS %s, %s, %s", wl, t, t)
			l.op("VADDPS %s, %s, %s", t, sumL2, sumL2)
			l.op("VMULPS %s, %s, %s", x, wl, wl)
			l.op("VADDPS %s, %s, %s", wl, sumXL, sumXL)
		})
	}
	judge := func(label string) {
		l.clear(v, 5)
		l.values(label, func(u int) {
			l.op("VMULPS %s, %s, %s", l.value(searchCodes, u), scale, t)
			l.op("VADDPS %s, %s, %s", least, t, t)
			l.op("VSUBPS %s, %s, %s", l.value(searchX, u), t, t)
			l.op("VMULPS %s, %s, %s", t, t, t)
			l.op("VMULPS %s, %s, %s", l.value(searchW, u), t, t)
			l.op("VADDPS %s, %s, %s", t, loss, loss)
		})
	}
	l.halves(func() {
		// The sums start with value 0, not with 0 itself.
		l.op("VMOVUPS %s, %s", l.field(searchX), base)
		l.op("VMOVUPS %s, %s", base, hi)
		l.op("VMOVUPS %s, %s", l.field(searchW), sumW)
		l.op("VMULPS %s, %s, %s", base, sumW, sumX)
		l.op("MOVQ $64, R8")
		l.at("bounds")
		l.op("VMOVUPS %s, %s", l.value(searchX, 0), x)
		l.op("VMINPS %s, %s, %s", base, x, base) // of equals, the first
		l.op("VMAXPS %s, %s, %s", hi, x, hi)
		l.op("VMOVUPS %s, %s", l.value(searchW, 0), t)
		l.op("VADDPS %s, %s, %s", t, sumW, sumW)
		l.op("VMULPS %s, %s, %s", x, t, t)
		l.op("VADDPS %s, %s, %s", t, sumX, sumX)
		l.op("ADDQ $64, R8")
		l.op("CMPQ R8, CX")
		l.op("JLT bounds")
		l.op("VMINPS %s, %s, %s", base, zero, base)
		l.op("VSUBPS %s, %s, %s", base, hi, inv)
		l.op("VDIVPS %s, %s, %s", inv, top, inv)

		round("first", false)
		l.broadcast(v, bits(1), 3)
		l.op("VDIVPS %s, %s, %s", inv, scale, scale)
		l.op("VMOVUPS %s, %s", base, least)
		judge("firstLoss")
		l.broadcast(v, 0x7f7fffff, 0)
		l.compare(1, lessEqual, x, inv)
		l.broadcast(v, 0xff800000, 14) // no loss is less where there is no inverse
		l.blend(loss, best)
		for _, f := range []struct {
			from   string
			offset int
		}{{scale, searchScale}, {inv, searchInv}} {
			l.clear(v, 0)
			l.blend(f.from, x)
			l.op("VMOVUPS %s, %s", x, l.field(f.offset))
		}
		l.op("VMOVUPS %s, %s", base, l.field(searchBase))

		l.op("MOVQ tries_base+24(FP), R9")
		l.op("MOVQ tries_len+32(FP), R10")
		l.at("try")
		l.op("TESTQ R10, R10")
		l.op("JZ tried")
		l.op("VBROADCASTSS (R9), %s", inv)
		l.op("VSUBPS %s, %s, %s", base, hi, t)
		l.op("VDIVPS %s, %s, %s", t, inv, inv)
		round("round", true)
		l.op("VMULPS %s, %s, %s", sumW, sumL2, det)
		l.op("VMULPS %s, %s, %s", sumL, sumL, t)
		l.op("VSUBPS %s, %s, %s", t, det, det)
		l.op("VMULPS %s, %s, %s", sumW, sumXL, t)
		l.op("VMULPS %s, %s, %s", sumX, sumL, x)
		l.op("VSUBPS %s, %s, %s", x, t, t)
		l.op("VDIVPS %s, %s, %s", det, t, t) // scale
		l.op("VMULPS %s, %s, %s", sumL2, sumX, x)
		l.op("VMULPS %s, %s, %s", sumL, sumXL, tmp)
		l.op("VSUBPS %s, %s, %s", tmp, x, x)
		l.op("VDIVPS %s, %s, %s", det, x, x) // min
		l.compare(1, greater, zero, x)
		l.op("VDIVPS %s, %s, %s", sumL2, sumXL, sumXL)
		l.blend(sumXL, t)
		l.blend(zero, x)
		l.op("VMOVUPS %s, %s", t, scale)
		l.op("VMOVUPS %s, %s", x, least)
		judge("loss")
		l.compare(1, less, best, loss)
		l.compare(2, greater, zero, det)
		l.both()
		l.blend(loss, best)
		l.update(scale, searchScale, t)
		l.update(base, searchBase, t)
		l.update(inv, searchInv, t)
		l.blend(least, base)
		l.op("ADDQ $4, R9")
		l.op("DECQ R10")
		l.op("JMP try")
		l.at("tried")
		l.op("VMOVUPS %s, %s", base, l.field(searchMin))
		l.op("VMOVUPS %s, %s", sumW, l.field(searchWeight))
	})
}

// scaleSearch computes what scaleLane.run does, for all lanes.
func scaleSearch(w *writer, v isa) {
	w.fn("scaleSearch"+v.name, "(s *ScaleSearch, n int, top float32, tries []float32, tiny float32)", "scaleLane.run for each lane; n is a multiple of 4", 52)
	l := &lanes{w, v}
	x, t, wl := v.r(0), v.r(1), v.r(2)
	sumXL, sumL2, inv, magic := v.r(3), v.r(4), v.r(5), v.r(6)
	lo, hi, extreme, most := v.r(7), v.r(8), v.r(9), v.r(10)
	scale, bestInv, best, zero := v.r(11), v.r(12), v.r(13), v.r(14)
	l.op("MOVQ s+0(FP), DI")
	l.op("MOVQ n+8(FP), CX")
	l.op("SHLQ $6, CX")
	l.broadcast(v, bits(3<<22), 6)
	l.clear(v, 14)
	l.op("VBROADCASTSS top+16(FP), %s", hi)
	l.op("VSUBPS %s, %s, %s", hi, zero, lo)
	l.broadcast(v, bits(-1), 0)
	l.op("VADDPS %s, %s, %s", x, hi, hi)

	round := func(label string) {
		l.clear(v, 3)
		l.clear(v, 4)
		l.values(label, func(u int) {
			l.op("VMULPS %s, %s, %s", l.value(searchX, u), inv, t)
			l.op("VADDPS %s, %s, %s", magic, t, t)
			l.op("VSUBPS %s, %s, %s", magic, t, t)
			l.op("VMAXPS %s, %s, %s", lo, t, t)
			l.op("VMINPS %s, %s, %s", hi, t, t)
			l.op("VMULPS %s, %s, %s", l.value(searchCodes, u), t, wl)
			l.op("VADDPS %s, %s, %s", wl, sumXL, sumXL)
			l.op("VMULPS %s, %s, %s", l.value(searchW, u), t, wl)
			l.op("VMULPS %s, %s, %s", wl, t, t)
			l.op("VADDPS %s, %s, %s", t, sumL2, sumL2)
		})
	}
	l.halves(func() {
		l.broadcast(v, magnitudeMask, 5)
		l.clear(v, 9)
		l.clear(v, 10)
		l.values("extremes", func(u int) {
			l.op("VMOVUPS %s, %s", l.value(searchX, u), x)
			l.op("VANDPS %s, %s, %s", inv, x, t)
			l.compare(1, greater, most, t)
			l.blend(x, extreme)
			l.op("VMAXPS %s, %s, %s", most, t, most)
			l.op("VMULPS %s, %s, %s", l.value(searchW, u), x, x)
			l.op("VMOVUPS %s, %s", x, l.value(searchCodes, u))
		})
		l.op("VDIVPS %s, %s, %s", extreme, lo, inv)
		round("first")
		l.compare(1, notEqual, zero, sumL2)
		l.op("VDIVPS %s, %s, %s", sumL2, sumXL, t)
		l.clear(v, 11)
		l.blend(t, scale)
		l.op("VMOVUPS %s, %s", inv, bestInv)
		l.op("VMULPS %s, %s, %s", sumXL, scale, best)

		l.op("MOVQ tries_base+24(FP), R9")
		l.op("MOVQ tries_len+32(FP), R10")
		l.at("try")
		l.op("TESTQ R10, R10")
		l.op("JZ tried")
		l.op("VBROADCASTSS (R9), %s", inv)
		l.op("VDIVPS %s, %s, %s", extreme, inv, inv)
		round("round")
		l.op("VMULPS %s, %s, %s", sumXL, sumXL, t)
		l.op("VMULPS %s, %s, %s", sumL2, best, x)
		l.compare(1, greater, x, t)
		l.compare(2, greater, zero, sumL2)
		l.both()
		l.op("VDIVPS %s, %s, %s", sumL2, sumXL, t)
		l.blend(t, scale)
		l.blend(inv, bestInv)
		l.op("VMULPS %s, %s, %s", sumXL, t, t)
		l.blend(t, best)
		l.op("ADDQ $4, R9")
		l.op("DECQ R10")
		l.op("JMP try")
		l.at("tried")
		l.op("VBROADCASTSS tiny+48(FP), %s", x)
		l.compare(1, less, x, most)
		l.blend(zero, scale)
		l.blend(zero, bestInv)
		l.op("VMOVUPS %s, %s", scale, l.field(scaleSearchScale))
		l.op("VMOVUPS %s, %s", bestInv, l.field(scaleInverse))
	})
}
