package main

import "fmt"

// Go's assembler lacks AVX-512 BF16 and AMX: their instructions are emitted as bytes, with the name that other assemblers
// give them in a comment. testdata/encodings.txt holds what GNU as makes of the same names; a test compares.

// raw writes one instruction as bytes.
func (w *writer) raw(text string, code ...byte) {
	for i, b := range code {
		if i > 0 {
			w.WriteString("; ")
		} else {
			w.WriteString("\t")
		}
		fmt.Fprintf(w, "BYTE $0x%02x", b)
	}
	fmt.Fprintf(w, " // %s\n", text)
}

// Prefixes of opcodes, as both EVEX and VEX write them.
const (
	prefixNone = 0
	prefixF3   = 2
	prefixF2   = 3
)

// evex encodes a 512-bit instruction of map 0F38 on three registers: dst and the sources in the order of the manuals.
func evex(prefix, opcode byte, dst, src1, src2 int) []byte {
	inverted := func(v, bit, to int) byte { return byte(^v>>bit&1) << to }
	return []byte{
		0x62,
		inverted(dst, 3, 7) | inverted(src2, 4, 6) | inverted(src2, 3, 5) | inverted(dst, 4, 4) | 2,
		byte(^src1&15)<<3 | 4 | prefix,
		2<<5 | inverted(src1, 4, 3),
		opcode,
		0xc0 | byte(dst&7)<<3 | byte(src2&7),
	}
}

// dpBF16 multiplies pairs: acc += a·b in every 32-bit lane.
func dpBF16(w *writer, b, a, acc int) {
	w.raw(fmt.Sprintf("vdpbf16ps %%zmm%d,%%zmm%d,%%zmm%d", b, a, acc), evex(prefixF3, 0x52, acc, a, b)...)
}

// cvtBF16 rounds the values of lo and hi to the lower and upper half of dst.
func cvtBF16(w *writer, lo, hi, dst int) {
	w.raw(fmt.Sprintf("vcvtne2ps2bf16 %%zmm%d,%%zmm%d,%%zmm%d", lo, hi, dst), evex(prefixF2, 0x72, dst, hi, lo)...)
}

// vex encodes an instruction of AMX on tile registers; vvvv is 0 where there is no third operand.
func vex(prefix, opcode, modrm byte, vvvv int) []byte {
	return []byte{0xc4, 0xe2, byte(^vvvv&15)<<3 | prefix, opcode, modrm}
}

// Registers of the memory operands below, by number.
const (
	regAX, regCX, regDX, regBX = 0, 1, 2, 3
	regSI, regDI               = 6, 7
)

var regNames = map[int]string{regAX: "rax", regCX: "rcx", regDX: "rdx", regBX: "rbx", regSI: "rsi", regDI: "rdi"}

// tileMem appends the memory operand base + index, a row of the tile every index bytes.
func tileMem(prefix byte, tile, base, index int) []byte {
	return append(vex(prefix, 0x4b, byte(tile)<<3|4, 0), byte(index)<<3|byte(base))
}

func tileLoad(w *writer, tile, base, index int) {
	w.raw(fmt.Sprintf("tileloadd (%%%s,%%%s,1),%%tmm%d", regNames[base], regNames[index], tile), tileMem(prefixF2, tile, base, index)...)
}

func tileStore(w *writer, tile, base, index int) {
	w.raw(fmt.Sprintf("tilestored %%tmm%d,(%%%s,%%%s,1)", tile, regNames[base], regNames[index]), tileMem(prefixF3, tile, base, index)...)
}

func tileZero(w *writer, tile int) {
	w.raw(fmt.Sprintf("tilezero %%tmm%d", tile), vex(prefixF2, 0x49, 0xc0|byte(tile)<<3, 0)...)
}

// tileDP adds to tile acc the product of tile a, rows of pairs, and tile b, pairs of rows.
func tileDP(w *writer, b, a, acc int) {
	w.raw(fmt.Sprintf("tdpbf16ps %%tmm%d,%%tmm%d,%%tmm%d", b, a, acc), vex(prefixF3, 0x5c, 0xc0|byte(acc)<<3|byte(a), b)...)
}

func tileConfig(w *writer, base int) {
	w.raw(fmt.Sprintf("ldtilecfg (%%%s)", regNames[base]), vex(prefixNone, 0x49, byte(base), 0)...)
}

func tileRelease(w *writer) { w.raw("tilerelease", vex(prefixNone, 0x49, 0xc0, 0)...) }
