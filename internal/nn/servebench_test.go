package nn

import (
	"testing"

	"modelpress/formats/manifest"
	"modelpress/internal/device/cpu"
	"modelpress/internal/testmodel"
)

// BenchmarkServe: one block with the attention of SmolLM-135M over 2048 tokens of which 64 are decoded, by kind, beside
// what the block takes without a plan.
func BenchmarkServe(b *testing.B) {
	opt := testmodel.Llama135M()
	opt.Layers, opt.V = 1, 256
	m := describe(b, testmodel.New(opt), cpu.New(0))
	ids := testmodel.Windows(1, 2048, opt.V, 1)
	for _, c := range []struct {
		name            string
		prefill, decode manifest.Policy
	}{
		{"masks", manifest.Streaming(64, 256), manifest.Streaming(64, 256)},
		{"streaming", manifest.Full(), manifest.Streaming(64, 256)},
		{"compensation", manifest.Policy{Kind: manifest.KindStreaming, Sink: 64, Recent: 256, Compensation: true}, manifest.Full()},
		{"vertical_slash", manifest.Policy{Kind: manifest.KindVerticalSlash, Vertical: 100, Slash: 300, LastQ: 64}, manifest.Full()},
		{"xattention", manifest.Policy{Kind: manifest.KindBlockTopK, Selector: "xattention", Block: 64, Stride: 16, Threshold: 0.9}, manifest.Full()},
		{"mean_pool", manifest.Policy{Kind: manifest.KindBlockTopK, Selector: "mean_pool", Block: 64, Blocks: 8}, manifest.Full()},
		{"snapkv", manifest.Full(), manifest.Policy{Kind: manifest.KindTokenTopK, Selector: "snapkv", Budget: 512, Window: 32, Pool: 7}},
		{"attention", manifest.Full(), manifest.Policy{Kind: manifest.KindTokenTopK, Selector: "attention", Budget: 256, Window: 1}},
		{"local_stride", manifest.Policy{Kind: manifest.KindLocalStride, Block: 64, LocalBlocks: 4, VertStride: 8}, manifest.Full()},
		{"sink_scaled", manifest.Policy{Kind: manifest.KindSinkScaled, Skip: 4, Threshold: 0.01, Scale: 0.4}, manifest.Full()},
	} {
		b.Run(c.name, func(b *testing.B) {
			plan := uniform(m, c.prefill, c.decode)
			var st *ServeStats
			for b.Loop() {
				var err error
				st, err = m.Serve(b.Context(), ids, ServeOptions{Plan: plan, Prompt: func(int) int { return 2048 - 64 }}, nil)
				if err != nil {
					b.Fatal(err)
				}
			}
			total := st.Total()
			b.ReportMetric(total.Prefill.Density(), "prefill-density")
			b.ReportMetric(total.KVDensity(), "kv-density")
		})
	}
	b.Run("plain", func(b *testing.B) {
		for b.Loop() {
			if err := m.Run(b.Context(), ids, RunOptions{}, nil); err != nil {
				b.Fatal(err)
			}
		}
	})
}
