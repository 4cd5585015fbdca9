package main

// roundingCost writes the kernels that judge a grid, with a weight for each value or without.
func roundingCost(w *writer, v isa, weighted bool) {
	name, loss := "roundingCost", "|d|^2.5"
	if weighted {
		name, loss = "roundingCostWeighted", "h[i]*|d|^2.5"
	}
	w.fn(name+v.name, "(w, h []float32, grid *RoundingGrid) float32", "Σ "+loss+", d = w[i] - value of w[i]", 60)
	w.op("MOVQ w_base+0(FP), SI")
	w.op("MOVQ w_len+8(FP), CX")
	w.op("MOVQ h_base+24(FP), DX")
	w.op("MOVQ grid+48(FP), BX")
	grid := map[string]string{"scale": v.r(6), "inv": v.r(7), "lo": v.r(8), "hi": v.r(9)}
	for i, field := range []string{"scale", "inv", "lo", "hi"} {
		w.op("VBROADCASTSS %d(BX), %s", 4*i, grid[field])
	}
	w.op("VMOVUPS %s, %s", constant("magic"), v.r(10))
	w.op("VMOVUPS %s, %s", constant("magnitude"), v.r(11))
	l := &loop{w: w, isa: v}
	l.clearAcc()
	l.run(func(u int) {
		x, r := v.r(4), v.r(5)
		l.load("SI", u, x)
		w.op("VMULPS %s, %s, %s", grid["inv"], x, r)
		w.op("VMAXPS %s, %s, %s", grid["lo"], r, r)
		w.op("VMINPS %s, %s, %s", grid["hi"], r, r)
		w.op("VADDPS %s, %s, %s", v.r(10), r, r)
		w.op("VSUBPS %s, %s, %s", v.r(10), r, r)
		w.op("VMULPS %s, %s, %s", grid["scale"], r, r)
		w.op("VSUBPS %s, %s, %s", r, x, x) // d
		w.op("VANDPS %s, %s, %s", v.r(11), x, r)
		w.op("VSQRTPS %s, %s", r, r)
		w.op("VMULPS %s, %s, %s", x, x, x)
		w.op("VMULPS %s, %s, %s", r, x, x)
		if weighted {
			l.load("DX", u, r)
			w.op("VMULPS %s, %s, %s", r, x, x)
		}
		w.op("VADDPS %s, %s, %s", x, v.r(u), v.r(u))
	})
	l.reduce("VADD", "ret+56(FP)")
}

// roundLanes writes the kernel that rounds 16 values to a grid each.
func roundLanes(w *writer, v isa) {
	w.fn("roundLanes"+v.name, "(steps, q, y *[16]float32, grids *RoundingLanes)", "steps[r] is the step of grid r nearest to y[r], q[r] its value", 32)
	w.op("MOVQ steps+0(FP), DI")
	w.op("MOVQ q+8(FP), SI")
	w.op("MOVQ y+16(FP), DX")
	w.op("MOVQ grids+24(FP), BX")
	w.op("VMOVUPS %s, %s", constant("magic"), v.r(2))
	for at := 0; at < 64; at += v.bytes {
		r := v.r(0)
		w.op("VMOVUPS %d(DX), %s", at, r)
		w.op("VMULPS %d(BX), %s, %s", 64+at, r, r)
		w.op("VMAXPS %d(BX), %s, %s", 128+at, r, r)
		w.op("VMINPS %d(BX), %s, %s", 192+at, r, r)
		w.op("VADDPS %s, %s, %s", v.r(2), r, r)
		w.op("VSUBPS %s, %s, %s", v.r(2), r, r)
		w.op("VMOVUPS %s, %d(DI)", r, at)
		w.op("VMULPS %d(BX), %s, %s", at, r, r)
		w.op("VMOVUPS %s, %d(SI)", r, at)
	}
	w.op("VZEROUPPER")
	w.op("RET")
}
