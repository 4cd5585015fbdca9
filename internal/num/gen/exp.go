package main

import (
	"fmt"
	"math"
)

// constants are the numbers that the kernels read from memory, each repeated to fill a register of 64 bytes.
var constants = []struct {
	name string
	bits uint32
}{
	{"low", bits(-104)},         // e^-104 rounds to 0
	{"high", bits(89)},          // e^89 overflows
	{"log2e", bits(math.Log2E)}, //
	{"ln2", bits(math.Ln2)},     // ln2 + rest is the logarithm of 2 to twice the precision
	{"rest", bits(math.Ln2 - float64(float32(math.Ln2)))},
	{"p4", 0x3ab68885}, // (e^r-1-r)/r² at |r| <= ln2/2, interpolated at Chebyshev nodes: error of e^r below 2^-26
	{"p3", 0x3c0905b7},
	{"p2", 0x3d2aaa8d},
	{"p1", 0x3e2aaa6e},
	{"p0", 0x3f000000},
	{"one", bits(1)},
	{"bias", 127},
	{"sign", 1 << 31},
	{"none", bits(math.Inf(-1))},
	{"magic", bits(3 << 22)},
	{"magnitude", 1<<31 - 1},
}

func bits(f float64) uint32 { return math.Float32bits(float32(f)) }

// constant returns the operand that reads a constant.
func constant(name string) string {
	for i, c := range constants {
		if c.name == name {
			return fmt.Sprintf("constants<>+%d(SB)", 64*i)
		}
	}
	panic("no constant " + name)
}

// tables writes the constants and the masks for tails: eight words of ones, then eight of zeros.
func tables(w *writer) {
	w.WriteString("\n")
	for i, c := range constants {
		for j := range 8 {
			fmt.Fprintf(w, "DATA constants<>+%d(SB)/8, $0x%08x%08x\n", 64*i+8*j, c.bits, c.bits)
		}
	}
	fmt.Fprintf(w, "GLOBL constants<>(SB), RODATA|NOPTR, $%d\n\n", 64*len(constants))
	for j := range 8 {
		word := "0xffffffffffffffff"
		if j >= 4 {
			word = "0"
		}
		fmt.Fprintf(w, "DATA masks<>+%d(SB)/8, $%s\n", 8*j, word)
	}
	fmt.Fprintf(w, "GLOBL masks<>(SB), RODATA|NOPTR, $64\n")
}

// exp replaces register x by e^x, using n, p and t. With n = round(x/ln2) and r = x - n*ln2, e^x = 2^n * e^r; the power
// of two is applied by an instruction that scales, or in two steps, so that results below the normal range round once. Operands of max
// and min stand such that NaN passes.
func exp(w *writer, v isa, x, n, p, t string) {
	w.op("VMOVUPS %s, %s", constant("low"), t)
	w.op("VMAXPS %s, %s, %s", x, t, x)
	w.op("VMOVUPS %s, %s", constant("high"), t)
	w.op("VMINPS %s, %s, %s", x, t, x)
	w.op("VMULPS %s, %s, %s", constant("log2e"), x, n)
	if v.bytes == 64 {
		w.op("VRNDSCALEPS $8, %s, %s", n, n)
	} else {
		w.op("VROUNDPS $8, %s, %s", n, n)
	}
	w.op("VFNMADD231PS %s, %s, %s", constant("ln2"), n, x)
	w.op("VFNMADD231PS %s, %s, %s", constant("rest"), n, x)
	w.op("VMOVUPS %s, %s", constant("p4"), p)
	for i := 3; i >= 0; i-- {
		w.op("VFMADD213PS %s, %s, %s", constant(fmt.Sprint("p", i)), x, p)
	}
	w.op("VMULPS %s, %s, %s", x, x, t)
	w.op("VFMADD213PS %s, %s, %s", x, t, p)
	w.op("VADDPS %s, %s, %s", constant("one"), p, p)
	if v.bytes == 64 {
		w.op("VSCALEFPS %s, %s, %s", n, p, x)
		return
	}
	w.op("VCVTPS2DQ %s, %s", n, n)
	w.op("VPSRAD $1, %s, %s", n, t)
	w.op("VPSUBD %s, %s, %s", t, n, n)
	w.op("VPADDD %s, %s, %s", constant("bias"), t, t)
	w.op("VPSLLD $23, %s, %s", t, t)
	w.op("VPADDD %s, %s, %s", constant("bias"), n, n)
	w.op("VPSLLD $23, %s, %s", n, n)
	w.op("VMULPS %s, %s, %s", t, p, p)
	w.op("VMULPS %s, %s, %s", n, p, x)
}
