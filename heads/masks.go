package heads

import (
	"modelpress/internal/arch"
	"modelpress/internal/device"
)

// Masks returns the masks of a plan for a forward pass: for each layer nil where every KV head is full (the layer's own
// attention, dense or sliding), else one mask per KV head.
func Masks(full [][]bool, sink, recent int, m *arch.Model) func(layer int) []device.Mask {
	masks := make([][]device.Mask, len(full))
	for l, row := range full {
		masks[l] = layerMasks(row, sink, recent, m.Layers[l].Window)
	}
	return func(layer int) []device.Mask { return masks[layer] }
}

func layerMasks(full []bool, sink, recent, window int) []device.Mask {
	own := device.Mask{Recent: window}
	stream := StreamMask(sink, recent, window)
	var masks []device.Mask
	for g, f := range full {
		if f || stream == own {
			continue
		}
		if masks == nil {
			masks = make([]device.Mask, len(full))
			for i := range masks {
				masks[i] = own
			}
		}
		masks[g] = stream
	}
	return masks
}

// StreamMask is what a streaming head sees in a layer with the given sliding window (0: none). Where the window is no
// longer than sinks and recent tokens together, the head keeps the window: there is nothing to save.
func StreamMask(sink, recent, window int) device.Mask {
	if window > 0 && window <= sink+recent {
		return device.Mask{Recent: window}
	}
	return device.Mask{Sink: sink, Recent: recent}
}
