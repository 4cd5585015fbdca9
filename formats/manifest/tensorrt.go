package manifest

import (
	"encoding/json"
	"fmt"
)

const (
	tensorrtKey     = "kv_cache_config"
	tensorrtWindows = "max_attention_window"
	tensorrtSinks   = "sink_token_length"
	tensorrtFile    = "kv_cache_config.json"
)

var tensorrtFormat = &Format{
	Name: "tensorrt-llm", Readers: "TensorRT-LLM", Files: tensorrtFile,
	Condition: "every layer has one policy, full or streaming, with one sink in the model; prefill is full or the same, no min_seq",
	write:     writeTensorRT, read: readTensorRT,
}

// writeTensorRT writes a window for each layer. It holds the sinks, which are global; that of a full layer is the context.
func writeTensorRT(x *export) error {
	windows := x.project()
	sink, several, first := 0, false, true
	for _, w := range windows {
		if w.sliding {
			several = several || !first && w.sink != sink
			sink, first = max(sink, w.sink), false
		}
	}
	if several {
		x.lose("sinks of different numbers: all layers that slide have %d", sink)
	}
	x.layerPrefill(windows, true)
	sizes := make([]int, len(windows))
	for l, w := range windows {
		sizes[l] = x.p.Model.MaxPosition
		if w.sliding {
			sizes[l] = min(sink+w.recent, maxTokens)
		}
	}
	x.saving("one policy for each layer", func(l, _, length int) int {
		if windows[l].sliding {
			return sizes[l]
		}
		return length
	})
	x.file(tensorrtFile, fmt.Appendf(nil, `{"%s": {"%s": %s, "%s": %d}}`, tensorrtKey, tensorrtWindows, pyInts(sizes), tensorrtSinks, sink))
	x.note("the context phase is dense where sinks are kept; full layers have the context, %d tokens", x.p.Model.MaxPosition)
	return nil
}

// readTensorRT reads an object with kv_cache_config. A list of fewer windows than layers starts over; a window as long as the
// context is full.
func readTensorRT(r *reader) error {
	f, o, err := r.onlyObject()
	if err != nil {
		return err
	}
	var c map[string]json.RawMessage
	if err := r.member(f, o, tensorrtKey, &c); err != nil {
		return err
	}
	var sizes []int
	if err := r.member(f, c, tensorrtWindows, &sizes); err != nil {
		return err
	}
	sink := 0
	if _, ok := c[tensorrtSinks]; ok {
		if sink, err = r.tokens(f, c, tensorrtSinks, 0); err != nil {
			return err
		}
	}
	if len(sizes) == 0 || len(sizes) > len(r.kvHeads) {
		return r.layers(f.Name, len(sizes))
	}
	for l := range r.kvHeads {
		n := sizes[l%len(sizes)]
		if n <= sink || n > maxTokens {
			return r.bad(f.Name, "a window of %d with %d sinks", n, sink)
		}
		if n >= r.p.Model.MaxPosition {
			continue
		}
		if err := r.slide(l, sink, n-sink); err != nil {
			return err
		}
	}
	return nil
}
