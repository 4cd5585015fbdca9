package manifest

import "strconv"

// The keys of a config.json that transformers and vLLM read.
const (
	layerTypesKey   = "layer_types"
	slidingKey      = "sliding_window"
	layerFull       = "full_attention"
	layerSliding    = "sliding_attention"
	layerTypesFile  = "layer_types.json"
	layerConditions = "every layer has one policy, full or streaming with sink 0; one window in the model; prefill the same, no min_seq"
)

var layerTypesFormat = &Format{
	Name: "layer-types", Readers: "transformers, vLLM (config.json)", Files: layerTypesFile,
	Condition: layerConditions,
	write:     writeLayerTypes, read: readLayerTypes,
}

func writeLayerTypes(x *export) error {
	windows := x.project()
	size := "null"
	if n := x.oneWindow(windows); n > 0 {
		size = strconv.Itoa(n)
	}
	types := pyList(windows, func(w layerWindow) string {
		if w.sliding {
			return `"` + layerSliding + `"`
		}
		return `"` + layerFull + `"`
	})
	x.file(layerTypesFile, []byte(`{"`+layerTypesKey+`": `+types+`, "`+slidingKey+`": `+size+"}"))
	x.note("put the keys into the model's config.json, but leave layers as they are that slide in the model itself; Qwen models need use_sliding_window true besides")
	return nil
}

// readLayerTypes reads a config.json, or an object of the two keys.
func readLayerTypes(r *reader) error {
	f, o, err := r.onlyObject()
	if err != nil {
		return err
	}
	var types []string
	if err := r.member(f, o, layerTypesKey, &types); err != nil {
		return err
	}
	if err := r.layers(f.Name, len(types)); err != nil {
		return err
	}
	window := 0
	if raw, ok := o[slidingKey]; ok && string(raw) != "null" {
		if window, err = r.tokens(f, o, slidingKey, 1); err != nil {
			return err
		}
	}
	for l, kind := range types {
		switch {
		case kind == layerFull:
		case kind == layerSliding && window > 0:
			if err := r.slide(l, 0, window); err != nil {
				return err
			}
		case kind == layerSliding:
			return r.bad(f.Name, "layer %d slides, and %s is not given", l, slidingKey)
		default:
			return r.bad(f.Name, "layer %d: type %.40q is neither %s nor %s", l, kind, layerFull, layerSliding)
		}
	}
	return nil
}
