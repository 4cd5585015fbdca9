package heads

import "modelpress/internal/arch"

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
