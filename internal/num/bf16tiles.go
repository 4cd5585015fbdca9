package num

// stripTiles is in plain Go what the AMX kernel computes: c[i*ldc+32*t+j] (+)= Σ_l a[i*count+l]·b[(t*count+l)*32+j] for
// 32 rows, as TDPBF16PS sums: for every 16 pairs the even and the odd products in a chain each from 0, then the sum of the
// two is added to c. Denormals are zeros, each step rounds to nearest even (Intel, Software Developer's Manual, volume 2).
// It is the oracle of that kernel.
func stripTiles(c []float32, ldc int, a, b []uint32, count, tiles int, add bool) {
	for t := range tiles {
		for i := range 32 {
			row := c[i*ldc+panelBF16*t:][:panelBF16]
			for j := range row {
				s := float32(0)
				if add {
					s = row[j]
				}
				for l0 := 0; l0 < count; l0 += pairUnit {
					even, odd := float32(0), float32(0)
					for l := l0; l < l0+pairUnit; l++ {
						p, q := a[i*count+l], b[(t*count+l)*panelBF16+j]
						even = tiny0(float32(float64(even) + float64(wide(p&0xffff)*wide(q&0xffff))))
						odd = tiny0(float32(float64(odd) + float64(wide(p>>16)*wide(q>>16))))
					}
					s = tiny0(tiny0(s) + tiny0(even+odd))
				}
				row[j] = s
			}
		}
	}
}

// packRow rounds k values to pairs and fills up with zeros.
func packRow(dst []uint32, x []float32, k int) {
	done := roundPairs(dst, x, min(k/2, len(dst)))
	packPairs(dst, x, 0, 1, k, done, len(dst), 1)
}

// packPairRows packs rows of x one after the other, count pairs each: what the AMX kernel reads as tiles.
func packPairRows(panel []uint32, x []float32, ldx, rows, k, count int) {
	for r := range rows {
		packRow(panel[r*count:][:count], x[min(r*ldx, len(x)):], k)
	}
}
