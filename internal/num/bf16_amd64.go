//go:build amd64 && !noasm

package num

import (
	"math"
	"sync"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/cpu"
)

// avx512BF16 multiplies by VDPBF16PS.
var avx512BF16 = &kernelBF16{class: "bf16", mr: 14, strip: micro14x32AVX512BF16,
	tails: []tailBF16{{4, micro4x32AVX512BF16}, {8, micro8x32AVX512BF16}}, pack: packPairs14}

// amxBF16 multiplies by TDPBF16PS.
var amxBF16 = &kernelBF16{class: "bf16amx", mr: 32, pack: packPairRows,
	strip: func(c []float32, ldc int, a, b []uint32, count, tiles int, add bool) {
		micro32x32AMX(c, ldc, a, count, b, count, tiles, add)
	}}

// bestBF16 returns the kernel for products of bfloat16 at the level in use.
func bestBF16() *kernelBF16 {
	switch {
	case level < levelAVX512:
		return genericBF16
	case amxAsked.Load() && amxWorks():
		return amxBF16
	case cpu.X86.HasAVX512BF16:
		return avx512BF16
	}
	return genericBF16
}

// amxAsked says that the AMX kernel is to be used. It is not by itself: the kernel has not run on a processor yet.
var amxAsked atomic.Bool

// AskAMX makes products of bfloat16 use the tiles of AMX from now on, in the whole process, and reports whether this machine
// can. Their bits are of another class.
func AskAMX() bool {
	if level < levelAVX512 || !amxWorks() {
		return false
	}
	amxAsked.Store(true)
	return true
}

// amxWorks reports whether this processor has tiles for bfloat16, the system lets this process use them, and they
// multiply as the body in plain Go does.
var amxWorks = sync.OnceValue(func() bool {
	return cpu.X86.HasAMXTile && cpu.X86.HasAMXBF16 && cpu.X86.HasAVX512BF16 && amxAllowed() && amxAgrees(amxBF16.strip)
})

// amxAgrees compares a strip kernel with stripTiles on whole numbers, where there is no rounding.
func amxAgrees(strip func(c []float32, ldc int, a, b []uint32, count, tiles int, add bool)) bool {
	const count, tiles, ldc = 48, 2, 70
	a, b := make([]uint32, 32*count), make([]uint32, tiles*panelBF16*count)
	small := func(i int) uint32 { return math.Float32bits(float32(i*7%17-8)) >> 16 }
	for i := range a {
		a[i] = small(i) | small(3*i+1)<<16
	}
	for i := range b {
		b[i] = small(5*i) | small(i+2)<<16
	}
	got, want := make([]float32, 32*ldc), make([]float32, 32*ldc)
	for _, add := range []bool{false, true} {
		strip(got, ldc, a, b, count, tiles, add)
		stripTiles(want, ldc, a, b, count, tiles, add)
	}
	for i := range want {
		if got[i] != want[i] {
			return false
		}
	}
	return true
}

// packPairs14 packs panels of 14 rows.
func packPairs14(panel []uint32, x []float32, ldx, rows, k, count int) {
	n := min(k/2, count) &^ 15
	if n > 0 {
		_ = panel[(n-1)*14+15]
		var ptr [16]unsafe.Pointer
		for r := range ptr {
			at := min(r, rows-1) * ldx
			ptr[r] = unsafe.Pointer(&x[at : at+2*n][0])
		}
		pairs16(unsafe.Pointer(&panel[0]), 14, &ptr, n)
	}
	packPairs(panel, x, ldx, rows, k, n, count, 14)
}

// weavePanel is weaveGeneric; pairs are words, so that it is a transpose of words.
func weavePanel(dst []uint32, rows *[panelBF16][2 * blockPairs]uint16, count int) {
	if level < levelAVX512 || count%16 != 0 || count == 0 {
		weaveGeneric(dst, rows, count)
		return
	}
	_ = dst[count*panelBF16-1]
	for lane := 0; lane < panelBF16; lane += 16 {
		var ptr [16]unsafe.Pointer
		for r := range ptr {
			ptr[r] = unsafe.Pointer(&rows[lane+r][0])
		}
		transpose16F32(unsafe.Pointer(&dst[lane]), panelBF16, &ptr, count)
	}
}

// roundPairs rounds most of the first n pairs of x and returns how many.
func roundPairs(dst []uint32, x []float32, n int) int {
	n &^= 15
	if level < levelAVX512 || !cpu.X86.HasAVX512BF16 || n == 0 {
		return 0
	}
	pairsRow(unsafe.Pointer(&dst[:n][0]), unsafe.Pointer(&x[:2*n][0]), n)
	return n
}

// roundRow rounds most of src to dst and returns how many values.
func roundRow(dst []uint16, src []float32) int {
	n := len(src) &^ 31
	if level < levelAVX512 || !cpu.X86.HasAVX512BF16 || n == 0 {
		return 0
	}
	pairsRow(unsafe.Pointer(&dst[:n][0]), unsafe.Pointer(&src[:n][0]), n/2) // two values are a word, the first below
	return n
}
