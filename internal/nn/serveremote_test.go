package nn

import (
	"fmt"
	"testing"

	"modelpress/formats/manifest"
	"modelpress/internal/device/cpu"
	"modelpress/internal/device/devicetest"
	"modelpress/internal/testmodel"
)

// TestServeRemote: where a device with a memory of its own computes the prompt of heads under masks, bits and counts are those of the host,
// whatever the heads beside them do, and chunks.
func TestServeRemote(t *testing.T) {
	const total = 50
	kinds := servedPolicies()
	for _, family := range servedFamilies {
		for _, prefill := range []string{"full", "streaming", "elastic", "compensated", "vertical"} {
			if family == "mistral-swa" && prefill == "compensated" {
				continue // refused
			}
			for _, phase := range []manifest.PrefillPhase{{FirstChunk: "policy", ChunkMask: "exact"}, {FirstChunk: "dense", ChunkMask: "exact"}, {FirstChunk: "dense", ChunkMask: "chunk"}} {
				for _, chunk := range []int{0, 9} {
					attended := 0
					serve := func(m *Model) (string, []float32) {
						plan := uniform(m, kinds[prefill], kinds["snapkv"])
						plan.Phases.Prefill = phase
						plan.Policies["other"] = kinds["local_stride"]
						plan.Policies["near"] = manifest.Streaming(1, 4)
						for l := range plan.Layers {
							for g := range plan.Layers[l].KVHeads {
								plan.Layers[l].KVHeads[g].Prefill = []string{"p", "near", "other"}[(l+g)%3]
							}
						}
						got, st := served(t, m, ServeOptions{Plan: plan, Chunk: chunk}, testmodel.Windows(1, total, m.Arch.V, 5)[0], 37)
						return fmt.Sprint(st), got
					}
					dev := devicetest.NewRemote(cpu.New(2), ample)
					dev.Fail = func(op string) error {
						if op == "Attention" {
							attended++
						}
						return nil
					}
					counts, want := serve(describe(t, testmodel.Named(family), cpu.New(2)))
					have, got := serve(describe(t, testmodel.Named(family), dev))
					if maxDiff(t, got, want) != 0 || have != counts {
						t.Errorf("%s, %s, %+v, chunks of %d: differs by %g\n%s\n%s", family, prefill, phase, chunk, maxDiff(t, got, want), have, counts)
					}
					if attended == 0 && chunk == 0 {
						t.Errorf("%s, %s, %+v: the host did it all", family, prefill, phase)
					}
				}
			}
		}
	}
}
