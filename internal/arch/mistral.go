package arch

// mistral is Mistral 7B (arXiv:2310.06825): Llama with a sliding window in every layer unless it is null. A missing key
// means 4096, the default of the class.
var mistral = family{
	name: "mistral", class: "MistralForCausalLM", keys: decoderKeys, names: decoderNames, packed: true,
	kvRequired: true, perLayer: append([]string{"sliding_window"}, decoderPerLayer...), act: siluOnly,
	check: decoderCheck, window: mistralWindow,
}

func mistralWindow(f *fields, layers int) []int {
	w := 0
	if _, present := f.obj["sliding_window"]; !present {
		w = 4096
	}
	w = f.integerOr("sliding_window", w, 1, maxPosition)
	out := make([]int, layers)
	for l := range out {
		out[l] = w
	}
	return layerTypes(f, out, w)
}

// layerTypes gives the layers that layer_types names "sliding_attention" the window w and the others none; without the
// key it returns out.
func layerTypes(f *fields, out []int, w int) []int {
	types := f.strings("layer_types")
	if types == nil {
		return out
	}
	if len(types) != len(out) {
		f.fault("layer_types", "%d entries for %d layers", len(types), len(out))
		return out
	}
	for l, t := range types {
		switch t {
		case "full_attention":
			out[l] = 0
		case "sliding_attention":
			if w == 0 {
				f.fault("layer_types", "layer %d slides, but sliding_window is not set", l)
			}
			out[l] = w
		default:
			f.fault("layer_types", "%q of layer %d is not supported", t, l)
		}
	}
	return out
}
