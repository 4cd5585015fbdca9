package devicetest

import (
	"math"
	"slices"
	"testing"

	"modelpress/internal/device"
)

// sparseGPT: as many weights go as must, and those that stay are the weights as they are corrected for the errors before them.
func (s *suite) sparseGPT(t *testing.T, q device.Quantizer) {
	const out, n = 6, 384
	for i, c := range []device.Sparsity{
		{Block: 128, Zeros: func(n int) int { return n / 2 }}, {Block: 1024, Zeros: func(n int) int { return n * 7 / 10 }},
		{Block: 50, Zeros: func(n int) int { return n / 3 }}, {Block: 64, Stay: 2, Group: 4}, {Block: 320, Stay: 3, Group: 32},
	} {
		g, h := s.gram(t, q, n, []int{200, 300}, 5)
		diagonal, dead := g.Diagonal(), make([]bool, n)
		for c := range diagonal {
			dead[c] = c == 5
			diagonal[c] += 0.05
		}
		if !g.Factor(nil, diagonal, dead) {
			t.Fatal("no factor")
		}
		kind := kinds[i%3]
		w, ws := s.buf(t, kinds[(i+1)%3], values(out*n, uint64(50+i)))
		dst, _ := s.buf(t, kind, make([]float32, out*n))
		loss, moved := g.SparseGPT(dst, w, out, c)
		got := s.read(dst)
		stay := make([]float32, len(got)) // the errors of dead inputs count for nothing
		for j, v := range got {
			if stay[j] = v; dead[j%n] {
				stay[j] = ws[j]
			}
		}
		tol := map[device.Kind]float64{device.F32: 1e-4, device.F16: 1e-3, device.BF16: 5e-3}[kind]
		wantLoss, wantMoved := follow(stay, ws, h, nil, diagonal, dead, func(row, col int, y float64) {
			if v := float64(got[row*n+col]); v != 0 && math.Abs(v-y) > tol*max(1, math.Abs(y)) {
				t.Fatalf("case %d: [%d, %d] = %v, want %v or 0", i, row, col, v, y)
			}
		})
		if math.Abs(loss-wantLoss) > 1e-4*wantLoss || math.Abs(moved-wantMoved) > 1e-4*wantMoved {
			t.Errorf("case %d: loss %v, moved %v, want %v, %v", i, loss, moved, wantLoss, wantMoved)
		}
		checkZeros(t, c, got, out, n)
	}
}

// checkZeros counts what went, in each group or in each block.
func checkZeros(t *testing.T, c device.Sparsity, w []float32, out, n int) {
	t.Helper()
	zeros := func(from, to, row int) (count int) {
		for _, v := range w[row*n+from : row*n+to] {
			if v == 0 {
				count++
			}
		}
		return count
	}
	width := c.Group
	if width == 0 {
		width = c.Block
	}
	for from := 0; from < n; from += width {
		to := min(n, from+width)
		var counts []int
		for row := range out {
			counts = append(counts, zeros(from, to, row))
		}
		if c.Group > 0 {
			if slices.Min(counts) != c.Group-c.Stay || slices.Max(counts) != c.Group-c.Stay {
				t.Fatalf("columns from %d on: %v zeros, want %d", from, counts, c.Group-c.Stay)
			}
			continue
		}
		sum := 0
		for _, v := range counts {
			sum += v
		}
		if want := c.Zeros(out*to) - c.Zeros(out*from); sum != want {
			t.Fatalf("columns from %d on: %d zeros, want %d", from, sum, want)
		}
	}
}
