package num

// The micro-kernels in plain Go, and those in use: assembly replaces them when the program starts, where the processor
// has what it needs.
var (
	generic32 = &kernel[float32]{mr: 4, nr: 4, strip: micro4x4[float32]}
	generic64 = &kernel[float64]{mr: 4, nr: 4, strip: micro4x4[float64]}
	kernel32  = generic32
	kernel64  = generic64
)

// class is what Class returns.
var class = "generic"

// Class names what the bits of results depend on besides the inputs: "fma" for the assembly kernels (AVX2 and AVX-512
// agree), "generic" for plain Go (the same on every architecture).
func Class() string { return class }

// micro4x4 is the kernel in plain Go, two rows at a time so that the sums stay in registers. The conversions keep
// compilers from fusing, so that every architecture rounds alike.
func micro4x4[T float](c []T, ldc int, a, b []T, k, tiles int, add bool) {
	for t := range tiles {
		tile4x4(c[4*t:], ldc, a, b[4*t*k:], k, add)
	}
}

func tile4x4[T float](c []T, ldc int, a, b []T, k int, add bool) {
	for i := 0; i < 4; i += 2 {
		var s00, s01, s02, s03, s10, s11, s12, s13 T
		a, b := a[i:], b
		for range k {
			a0, a1 := a[0], a[1]
			b0, b1, b2, b3 := b[0], b[1], b[2], b[3]
			s00 += T(a0 * b0)
			s01 += T(a0 * b1)
			s02 += T(a0 * b2)
			s03 += T(a0 * b3)
			s10 += T(a1 * b0)
			s11 += T(a1 * b1)
			s12 += T(a1 * b2)
			s13 += T(a1 * b3)
			a, b = a[min(4, len(a)):], b[4:]
		}
		r0, r1 := c[i*ldc:][:4], c[(i+1)*ldc:][:4]
		if add {
			s00, s01, s02, s03 = r0[0]+s00, r0[1]+s01, r0[2]+s02, r0[3]+s03
			s10, s11, s12, s13 = r1[0]+s10, r1[1]+s11, r1[2]+s12, r1[3]+s13
		}
		r0[0], r0[1], r0[2], r0[3] = s00, s01, s02, s03
		r1[0], r1[1], r1[2], r1[3] = s10, s11, s12, s13
	}
}
