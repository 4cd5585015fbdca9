package num

import (
	"fmt"
	"math"
	"testing"
)

// normRow is one row of a norm in float64, by the moments Σx/over and Σx²/over.
func normRow(x []float64, w []float32, over, eps float64, centre bool) []float64 {
	mean, sq := 0.0, 0.0
	for _, v := range x {
		sq += v * v / over
		if centre {
			mean += v / over
		}
	}
	y := make([]float64, len(x))
	for j, v := range x {
		y[j] = (v - mean) / math.Sqrt(sq-mean*mean+eps)
		if w != nil {
			y[j] *= float64(w[j])
		}
	}
	return y
}

// overs are numbers of channels to take the means of a row of d over. Rows of normal values have a variance that is above
// zero over any of them.
func overs(d int) []float32 {
	if d < 5 {
		return []float32{float32(d)}
	}
	return []float32{float32(d), float32(d - 1), float32(d) * 0.75}
}

func TestNormBackIsTheSlope(t *testing.T) {
	const rows, eps = 3, 1e-5
	for _, d := range []int{1, 5, 64} {
		rng := newRand(uint64(d))
		x, dy, w := randoms(rng, rows*d), randoms(rng, rows*d), randoms(rng, d)
		for _, over := range overs(d) {
			for _, w := range [][]float32{w, nil} {
				for _, centre := range []bool{false, true} {
					op, name := RMSNormBack, "RMSNorm"
					if centre {
						op, name = LayerNormBack, "LayerNorm"
					}
					var want []float64
					for i := range rows {
						want = append(want, slopes(func(x []float64) []float64 {
							return normRow(x, w, float64(over), eps, centre)
						}, x[i*d:(i+1)*d], dy[i*d:(i+1)*d])...)
					}
					got, ok := guarded(t, make([]float32, rows*d))
					op(got, dy, x, w, rows, d, over, eps, nil)
					ok2 := append([]float32(nil), dy...)
					op(ok2, ok2, x, w, rows, d, over, eps, workers(3))
					closeTo(t, fmt.Sprint(name, d, " over ", over), got, want, 2e-6)
					same(t, name+" in place", ok2, got)
					ok()
				}
			}
		}
	}
}

// TestNormGradIsTheSlope: the gradients by gain and bias are what central differences give of Σ dy*(n*w+b), which is
// linear in both, added to what was there; threads change no bits.
func TestNormGradIsTheSlope(t *testing.T) {
	const eps = 1e-5
	for _, z := range [][2]int{{0, 3}, {1, 1}, {3, 5}, {40, 64}, {7, 700}, {300, 130}} {
		rows, d := z[0], z[1]
		rng := newRand(uint64(17 + d))
		x, dy, w, b, start := randoms(rng, rows*d), randoms(rng, rows*d), randoms(rng, d), randoms(rng, d), randoms(rng, d)
		for _, over := range overs(d) {
			for _, centre := range []bool{false, true} {
				what := fmt.Sprint(z, " over ", over, centre)
				grad := func(par Par) (dw, db []float32) {
					dw, ok := guarded(t, start)
					db, ok2 := guarded(t, start)
					if centre {
						LayerNormGrad(dw, db, dy, x, rows, d, over, eps, par)
					} else {
						RMSNormGrad(dw, dy, x, rows, d, over, eps, par)
					}
					ok()
					ok2()
					return dw, db
				}
				dw, db := grad(nil)
				wantW, wantB := affineSlopes(x, dy, w, b, d, float64(over), eps, centre)
				if !centre {
					clear(wantB)
				}
				for j, v := range start {
					wantW[j] += float64(v)
					wantB[j] += float64(v)
				}
				closeTo(t, what+" gain", dw, wantW, 1e-6)
				closeTo(t, what+" bias", db, wantB, 1e-6)
				for threads := 2; threads <= 3; threads++ {
					gotW, gotB := grad(workers(threads))
					same(t, what+" gain, threads", gotW, dw)
					same(t, what+" bias, threads", gotB, db)
				}
			}
		}
	}
}

// affineSlopes are the central differences of Σ_ij dy[i,j]*(n[i,j]*w[j] + b[j]) by every gain and bias. An output depends
// on its own gain and bias alone.
func affineSlopes(x, dy, w, b []float32, d int, over, eps float64, centre bool) (dw, db []float64) {
	const h = 1e-3
	dw, db = make([]float64, d), make([]float64, d)
	row := make([]float64, d)
	for i := range len(x) / d {
		for j, v := range x[i*d:][:d] {
			row[j] = float64(v)
		}
		for j, n := range normRow(row, nil, over, eps, centre) {
			f := func(w, b float64) float64 { return float64(dy[i*d+j]) * (n*w + b) }
			w, b := float64(w[j]), float64(b[j])
			dw[j] += (f(w+h, b) - f(w-h, b)) / (2 * h)
			db[j] += (f(w, b+h) - f(w, b-h)) / (2 * h)
		}
	}
	return dw, db
}
