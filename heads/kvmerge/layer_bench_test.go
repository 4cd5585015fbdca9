package kvmerge

import (
	"math"
	"math/rand/v2"
	"runtime"
	"testing"
	"time"

	"modelpress/internal/device/cpu"
)

// BenchmarkLayer7B is one layer of Llama-2-7B on two threads: the moments of 4096 tokens, then pairs chosen and merged by
// PCA. Time for moments grows with the number of tokens, that for the rest does not.
func BenchmarkLayer7B(b *testing.B) {
	s := Shape{H: 32, G: 32, K: 128, Rotary: 128}
	const t, d = 4096, 4096
	rnd := rand.New(rand.NewPCG(7, 20))
	q, k, v, wo := gaussian32(rnd, t*d), gaussian32(rnd, t*d), gaussian32(rnd, t*d), gaussian32(rnd, d*d)
	freq := make([]float32, s.Frequencies())
	for j := range freq {
		freq[j] = float32(math.Pow(10000, -2*float64(j)/float64(s.Rotary)))
	}
	par := cpu.New(2).For
	took := func(name string, f func()) {
		start := time.Now()
		f()
		b.ReportMetric(time.Since(start).Seconds(), name+"-s")
	}
	for b.Loop() {
		runtime.GC()
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		var st *Stats
		var groups Groups
		var lost Lost
		took("new", func() { st = NewStats(s, func(int) []float32 { return freq }, nil, wo) })
		took("add", func() { st.Add(q, k, v, t, par) })
		took("group", func() {
			groups, _ = Grouping{N: s.G, T: 2, Par: par, Cost: func(members []int) float64 {
				c, err := st.Cost(members, Ways{PCA, PCA})
				if err != nil {
					panic(err)
				}
				return c
			}}.Solve()
		})
		took("solve", func() {
			var err error
			if _, lost, err = st.Solve(groups, Ways{PCA, PCA}, par); err != nil {
				b.Fatal(err)
			}
		})
		runtime.GC()
		runtime.ReadMemStats(&after)
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/1e6, "held-MB")
		b.ReportMetric(float64(after.TotalAlloc-before.TotalAlloc)/1e6, "allocated-MB")
		b.ReportMetric(float64(after.HeapSys)/1e6, "heap-MB")
		if !(lost.Key > 0.3 && lost.Key < 0.6) {
			b.Errorf("random heads lose %+v", lost)
		}
		runtime.KeepAlive(st)
	}
}
