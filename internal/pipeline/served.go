package pipeline

import (
	"modelpress/calib"
	"modelpress/internal/nn"
)

// Served is what was counted while the model ran under its attention plan as a runtime would run it: over all windows and prompts,
// the bytes of their caches in bf16 at their peak, and the pairs of queries and keys that attention was computed for.
type Served struct {
	KVBytes        int64   `json:"kv_bytes_peak"`
	KVBytesDense   int64   `json:"kv_bytes_dense"`
	PrefillPairs   int64   `json:"prefill_pairs"`
	PrefillDensity float64 `json:"prefill_density"` // of the dense model's pairs
	DecodePairs    int64   `json:"decode_pairs"`
	DecodeDensity  float64 `json:"decode_density"`

	total nn.ServeWindow
}

func (s *Served) add(stats *nn.ServeStats) {
	t, sum := stats.Total(), &s.total
	sum.PeakKVBytes += t.PeakKVBytes
	sum.DenseKVBytes += t.DenseKVBytes
	for _, p := range []struct{ to, from *nn.Pairs }{{&sum.Prefill, &t.Prefill}, {&sum.Decode, &t.Decode}} {
		p.to.Attended += p.from.Attended
		p.to.Dense += p.from.Dense
	}
	s.KVBytes, s.KVBytesDense = sum.PeakKVBytes, sum.DenseKVBytes
	s.PrefillPairs, s.PrefillDensity = sum.Prefill.Attended, sum.Prefill.Density()
	s.DecodePairs, s.DecodeDensity = sum.Decode.Attended, sum.Decode.Density()
}

// served says how the model is run: under the attention plan, where there is one, with its caches counted.
func (e *evaluator) served(tick func(done, total int)) calib.EvalOptions {
	opt := e.o.Env.eval(e.plan, tick)
	if e.plan != nil {
		if e.out.Served == nil {
			e.out.Served = &Served{}
		}
		opt.Chunk, opt.Served = e.o.PrefillChunk, e.out.Served.add
	}
	return opt
}
