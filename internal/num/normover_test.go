package num

import (
	"fmt"
	"math"
	"testing"
)

// The norms as they were before means could be over fewer channels, for rows one after the other.

func wholeRMSNorm(y, x, w []float32, d int, eps float32) {
	inv := float32(1 / math.Sqrt(float64(Dot(x, x))/float64(d)+float64(eps)))
	for j, v := range x {
		y[j] = float32(v*inv) * w[j]
	}
}

func wholeLayerNorm(y, x, w, b []float32, d int, eps float32) {
	mean := Sum(x) / float32(d)
	for j, v := range x {
		y[j] = v - mean
	}
	inv := float32(1 / math.Sqrt(float64(Dot(y, y))/float64(d)+float64(eps)))
	for j := range y {
		v := y[j] * inv
		v *= w[j]
		y[j] = float32(v) + b[j]
	}
}

func wholeRMSNormBack(dx, dy, x, w []float32, d int, eps float32) {
	var sq, dot float64
	for j, v := range x {
		sq += float64(float64(v) * float64(v))
		dot += float64(gain(w, dy, j) * float64(v))
	}
	r := 1 / math.Sqrt(sq/float64(d)+float64(eps))
	along := r * r * r / float64(d) * dot
	for j, v := range x {
		dx[j] = float32(float64(r*gain(w, dy, j)) - float64(float64(v)*along))
	}
}

func wholeLayerNormBack(dx, dy, x, w []float32, d int, eps float32) {
	n := float64(d)
	var mean, sq, sum, dot float64
	for _, v := range x {
		mean += float64(v)
	}
	mean /= n
	for j, v := range x {
		c, s := float64(v)-mean, gain(w, dy, j)
		sq += float64(c * c)
		sum += s
		dot += float64(s * c)
	}
	r := 1 / math.Sqrt(sq/n+float64(eps))
	for j, v := range x {
		dx[j] = float32(r * (gain(w, dy, j) - sum/n - float64((float64(v)-mean)*r*r*dot/n)))
	}
}

// TestNormOverAllChannels: with means over all channels the bits are those of norms that know of no masks, at ordinary
// values, far from zero, and at values without variance, of no size, and not finite.
func TestNormOverAllChannels(t *testing.T) {
	for _, d := range []int{1, 2, 7, 33, 64, 257, 1000} {
		rng := newRand(uint64(d))
		const rows, eps = 9, 1e-6
		x, dy, w, b := randoms(rng, rows*d), randoms(rng, rows*d), randoms(rng, d), randoms(rng, d)
		for j := range d {
			x[d+j] += 100
			x[2*d+j] *= 1e15
			x[3*d+j] *= 1e-15
			x[4*d+j] = 3
			x[5*d+j] = 0
		}
		x[6*d] = float32(math.Inf(1))
		x[7*d+d-1] = float32(math.NaN())
		want, got := make([]float32, rows*d), make([]float32, rows*d)
		for name, f := range map[string][2]func(i int){
			"RMSNorm": {
				func(i int) { wholeRMSNorm(want[i:i+d], x[i:i+d], w, d, eps) },
				func(int) { RMSNorm(got, x, w, rows, d, float32(d), eps, workers(2)) },
			},
			"LayerNorm": {
				func(i int) { wholeLayerNorm(want[i:i+d], x[i:i+d], w, b, d, eps) },
				func(int) { LayerNorm(got, x, w, b, rows, d, float32(d), eps, workers(2)) },
			},
			"RMSNormBack": {
				func(i int) { wholeRMSNormBack(want[i:i+d], dy[i:i+d], x[i:i+d], w, d, eps) },
				func(int) { RMSNormBack(got, dy, x, w, rows, d, float32(d), eps, workers(2)) },
			},
			"LayerNormBack": {
				func(i int) { wholeLayerNormBack(want[i:i+d], dy[i:i+d], x[i:i+d], w, d, eps) },
				func(int) { LayerNormBack(got, dy, x, w, rows, d, float32(d), eps, workers(2)) },
			},
		} {
			for i := range rows {
				f[0](i * d)
			}
			f[1](0)
			same(t, fmt.Sprint(name, " ", d), got, want)
		}
	}
}

// TestMaskedNorm: over the channels that stay, a norm of rows with zeros between them, and its gradients, are those of the
// norm of the rows without the zeros, also where the mean is far from zero. Masked channels come out as zeros.
func TestMaskedNorm(t *testing.T) {
	const rows, eps = 5, 1e-5
	for _, z := range [][2]int{{2, 1}, {7, 4}, {64, 63}, {300, 100}, {1000, 10}} {
		d, n := z[0], z[1]
		for _, shift := range []float32{0, 30} {
			rng := newRand(uint64(d))
			keep := rng.Perm(d)[:n]
			x, dy, w, b := make([]float32, rows*d), randoms(rng, rows*d), make([]float32, d), make([]float32, d)
			cx, cy, cw, cb := randoms(rng, rows*n), make([]float32, rows*n), randoms(rng, n), randoms(rng, n)
			for k, j := range keep {
				w[j], b[j] = cw[k], cb[k]
				for i := range rows {
					cx[i*n+k] += shift
					x[i*d+j], cy[i*n+k] = cx[i*n+k], dy[i*d+j]
				}
			}
			over := float32(n)
			check := func(what string, got []float32, want []float64, masked bool) {
				t.Helper()
				for k, j := range keep {
					for i := range len(got) / d {
						closeTo(t, fmt.Sprint(what, z, shift), got[i*d+j:][:1], want[i*n+k:][:1], 2e-5)
						got[i*d+j] = 0
					}
				}
				for i, v := range got {
					if masked && v != 0 {
						t.Fatalf("%s %v: %v in masked channel %d", what, z, v, i%d)
					}
				}
			}
			for _, centre := range []bool{false, true} {
				y, dx, dw, db := make([]float32, rows*d), make([]float32, rows*d), make([]float32, d), make([]float32, d)
				var wantY, wantX []float64
				for i := range rows {
					row := make([]float64, n)
					for k, v := range cx[i*n:][:n] {
						row[k] = float64(v)
					}
					f := func(x []float64) []float64 { return centredRow(x, cw, eps, centre) }
					wantY = append(wantY, f(row)...)
					wantX = append(wantX, slopes(f, cx[i*n:][:n], cy[i*n:][:n])...)
				}
				wantW, wantB := affineSlopes(cx, cy, cw, cb, n, float64(n), eps, centre)
				if centre {
					for i := range wantY {
						wantY[i] += float64(cb[i%n])
					}
					LayerNorm(y, x, w, b, rows, d, over, eps, nil)
					LayerNormBack(dx, dy, x, w, rows, d, over, eps, nil)
					LayerNormGrad(dw, db, dy, x, rows, d, over, eps, nil)
					check("db", db, wantB, false)
				} else {
					RMSNorm(y, x, w, rows, d, over, eps, nil)
					RMSNormBack(dx, dy, x, w, rows, d, over, eps, nil)
					RMSNormGrad(dw, dy, x, rows, d, over, eps, nil)
				}
				check("y", y, wantY, true)
				check("dx", dx, wantX, !centre)
				check("dw", dw, wantW, !centre)
			}
		}
	}
}

// centredRow is normRow over all channels by the squares of what is left of the mean, for rows far from zero.
func centredRow(x []float64, w []float32, eps float64, centre bool) []float64 {
	mean, sq := 0.0, 0.0
	for _, v := range x {
		if centre {
			mean += v / float64(len(x))
		}
	}
	for _, v := range x {
		sq += (v - mean) * (v - mean) / float64(len(x))
	}
	y := make([]float64, len(x))
	for j, v := range x {
		y[j] = (v - mean) / math.Sqrt(sq+eps) * float64(w[j])
	}
	return y
}

// TestNormWithoutVariance: means over fewer channels than are not zero can leave a negative variance, which counts as none.
func TestNormWithoutVariance(t *testing.T) {
	x, ones, y := []float32{1, 1, 1, 1}, []float32{1, 1, 1, 1}, make([]float32, 4)
	LayerNorm(y, x, ones, nil, 1, 4, 1, 0.25, nil) // mean 4, mean square 4
	closeTo(t, "output", y, []float64{-6, -6, -6, -6}, 1e-7)
	for _, over := range []float32{0, -1, float32(math.NaN())} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("over %v: no panic", over)
				}
			}()
			RMSNorm(y, x, nil, 1, 4, over, 0, nil)
		}()
	}
}
