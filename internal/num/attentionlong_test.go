package num

import (
	"runtime"
	"sync"
	"testing"
)

// microTiles counts what f runs of the micro-kernel.
func microTiles(f func()) (n int) {
	old := kernel32
	counting := *old
	counting.strip = func(c []float32, ldc int, a, b []float32, k, tiles int, add bool) {
		n += tiles
		old.strip(c, ldc, a, b, k, tiles, add)
	}
	kernel32 = &counting
	defer func() { kernel32 = old }()
	f()
	return n
}

// Work under a mask must grow with what the mask shows: a query of a streaming head sees Sink+Recent keys, rounded up to
// tiles, however many there are.
func TestAttentionSkipsHiddenTiles(t *testing.T) {
	const dim, sink, recent = 32, 64, 256
	run := func(n, recent int, f func(h AttnHead, g AttnGrad)) int {
		h := randomHead(1, n, dim, 0)
		h.Sink, h.Recent = sink, recent
		g := randomGrad(2, h, 0)
		return microTiles(func() { f(h, g) })
	}
	out := make([]float32, 3*4096*dim)
	for name, f := range map[string]func(h AttnHead, g AttnGrad){
		"forward": func(h AttnHead, g AttnGrad) { AttentionHead(out, dim, nil, h, 0, h.T) },
		"sums":    func(h AttnHead, g AttnGrad) { AttentionColumnSums(out, g.LSE, h, 0, h.T) },
		"back": func(h AttnHead, g AttnGrad) {
			AttentionBack(out, dim, out[4096*dim:], out[2*4096*dim:], dim, h, g, false)
		},
		"stats": func(h AttnHead, g AttnGrad) {
			AttentionStats(AttnStats{Bands: make([]float64, 64), Drop: make([]float64, 64)}, h, g)
		},
	} {
		dense, half, whole := run(4096, 0, f), run(2048, recent, f), run(4096, recent, f)
		shown := float64(sink+recent+queryTile+2*keyTile) / (4096 / 2) // of the causal half, at tile granularity
		if float64(whole) > shown*float64(dense) {
			t.Errorf("%s: %d micro-tiles under the mask, %d without it", name, whole, dense)
		}
		if float64(whole) > 2.2*float64(half) {
			t.Errorf("%s: %d micro-tiles at 4096 positions, %d at 2048", name, whole, half)
		}
		t.Logf("%s: %.1f %% of the micro-tiles of dense attention", name, 100*float64(whole)/float64(dense))
	}
}

// Scratch must not grow with T forward, and no faster than T backward.
func TestAttentionScratch(t *testing.T) {
	const dim = 16
	run := func(n int) (fwd, back uint64) {
		h := randomHead(1, n, dim, 0)
		h.Sink, h.Recent = 4, 64
		g := randomGrad(2, h, 0)
		out := make([]float32, 3*n*dim)
		attnPool = sync.Pool{New: func() any { return new(attnScratch) }}
		backPool = sync.Pool{New: func() any { return new(backScratch) }}
		var m [3]runtime.MemStats
		runtime.ReadMemStats(&m[0])
		AttentionHead(out, dim, nil, h, 0, n)
		runtime.ReadMemStats(&m[1])
		AttentionBack(out, dim, out[n*dim:], out[2*n*dim:], dim, h, g, false)
		runtime.ReadMemStats(&m[2])
		return m[1].TotalAlloc - m[0].TotalAlloc, m[2].TotalAlloc - m[1].TotalAlloc
	}
	f1, b1 := run(4096)
	f2, b2 := run(16384)
	if f2 > f1+1<<20 {
		t.Errorf("forward: %d bytes at 4096 positions, %d at 16384", f1, f2)
	}
	if b2 > 4*b1+1<<20 || b2 > 4*4*16384*(dim+maxMR)+1<<20 {
		t.Errorf("backward: %d bytes at 4096 positions, %d at 16384", b1, b2)
	}
}
