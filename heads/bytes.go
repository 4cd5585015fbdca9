package heads

import (
	"modelpress/formats/manifest"
	"modelpress/internal/arch"
)

// Cache is the size of a KV cache at one length.
type Cache struct {
	Length  int
	Dense   int64 // bytes without a plan (sliding windows of the model itself counted as such)
	Planned int64 // bytes under the plan
}

// Density is Planned/Dense; 1 for an empty cache.
func (c Cache) Density() float64 {
	if c.Dense == 0 {
		return 1
	}
	return float64(c.Planned) / float64(c.Dense)
}

// KVBytes counts the bytes of keys and values of one sequence of the given length, head by head: a full head keeps every
// token (or the model's own window), a streaming head min(length, sink+recent). valueBytes is the size of one value, 2
// for bf16. full has a row per layer and a column per KV head; nil counts the dense model.
func KVBytes(m *arch.Model, full [][]bool, sink, recent, valueBytes, length int) Cache {
	c := Cache{Length: length}
	for l, layer := range m.Layers {
		perToken := int64(2*layer.K) * int64(valueBytes)
		own := tokensKept(length, layer.Window)
		stream := min(own, tokensKept(length, max(1, sink+recent)))
		for g := range kvHeads(layer) {
			c.Dense += perToken * own
			if full == nil || full[l][g] {
				c.Planned += perToken * own
			} else {
				c.Planned += perToken * stream
			}
		}
	}
	return c
}

// tokensKept is min(length, window), where window 0 keeps everything.
func tokensKept(length, window int) int64 {
	if window > 0 && window < length {
		return int64(window)
	}
	return int64(length)
}

// PlanBytes counts the bytes of keys and values of one sequence of the given length under an attention plan, in decoding, KV
// head by KV head: what the policy keeps, never more than the layer's own window, in whole pages where the plan rounds up, and
// without the key channels that a mask leaves out. Policies that drop nothing from the cache keep every token. A nil plan is
// the dense model.
func PlanBytes(p *manifest.Plan, m *arch.Model, valueBytes, length int) Cache {
	c := Cache{Length: length}
	for l, layer := range m.Layers {
		own := tokensKept(length, layer.Window)
		for g := range kvHeads(layer) {
			c.Dense += int64(2*layer.K*valueBytes) * own
			if p == nil {
				c.Planned = c.Dense
				continue
			}
			pol, _ := p.Resolve(l, g, manifest.Decoding, length)
			kept := own
			if span := pol.Span(length); span >= 0 {
				kept = min(own, int64(p.Pages(span)))
			}
			c.Planned += int64((layer.K+p.KeyChannels(l, g, layer.K))*valueBytes) * kept
		}
	}
	return c
}
