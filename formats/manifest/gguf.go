package manifest

import (
	"encoding/json"
	"fmt"
	"strings"
)

// The keys of GGUF metadata that llama.cpp reads, after the name of the architecture.
const (
	ggufWindow  = ".attention.sliding_window"
	ggufPattern = ".attention.sliding_window_pattern"
	ggufFile    = "gguf_metadata.json"
)

// ggufArchitectures are llama.cpp's names of the architectures of config.json.
var ggufArchitectures = map[string]string{
	"LlamaForCausalLM": "llama", "MistralForCausalLM": "llama", "Qwen2ForCausalLM": "qwen2", "Qwen3ForCausalLM": "qwen3", "GPT2LMHeadModel": "gpt2",
}

var ggufFormat = &Format{
	Name: "gguf", Readers: "llama.cpp (metadata, as a list of keys)", Files: ggufFile,
	Condition: layerConditions,
	write:     writeGGUF, read: readGGUF,
}

func writeGGUF(x *export) error {
	arch, ok := ggufArchitectures[x.p.Model.Architecture]
	if !ok {
		return fmt.Errorf("manifest: %s: no name for the architecture %.80q: %w", x.format, x.p.Model.Architecture, ErrUnfit)
	}
	windows := x.project()
	size := x.oneWindow(windows)
	pattern := pyList(windows, func(w layerWindow) string {
		if w.sliding {
			return "true"
		}
		return "false"
	})
	x.file(ggufFile, fmt.Appendf(nil, `[{"key": "%s%s", "type": "uint32", "value": %d}, {"key": "%s%s", "type": "array:bool", "value": %s}]`,
		arch, ggufWindow, size, arch, ggufPattern, pattern))
	x.note("llama.cpp reads these keys for the architectures that it knows to slide, and for no others; leave layers as they are that slide in the model itself")
	return nil
}

// readGGUF reads the list that writeGGUF writes. A pattern may also be a number n: every n-th layer is full, and with 0 none is.
func readGGUF(r *reader) error {
	f, err := r.only()
	if err != nil {
		return err
	}
	var list []map[string]json.RawMessage
	if err := r.decode(f, &list); err != nil {
		return err
	}
	window, pattern := map[string]json.RawMessage(nil), map[string]json.RawMessage(nil)
	for _, entry := range list {
		var key string
		if err := r.member(f, entry, "key", &key); err != nil {
			return err
		}
		switch {
		case strings.HasSuffix(key, ggufWindow) && window == nil:
			window = entry
		case strings.HasSuffix(key, ggufPattern) && pattern == nil:
			pattern = entry
		case strings.HasSuffix(key, ggufWindow), strings.HasSuffix(key, ggufPattern):
			return r.bad(f.Name, "%.80q is there twice", key)
		}
	}
	if window == nil || pattern == nil {
		return r.bad(f.Name, "%s or %s is missing", ggufWindow, ggufPattern)
	}
	size, err := r.tokens(f, window, "value", 0)
	if err != nil {
		return err
	}
	slides, err := r.ggufLayers(f, pattern)
	if err != nil {
		return err
	}
	for l, yes := range slides {
		if !yes {
			continue
		}
		if size == 0 {
			return r.bad(f.Name, "layer %d slides, and the window is 0", l)
		}
		if err := r.slide(l, 0, size); err != nil {
			return err
		}
	}
	return nil
}

func (r *reader) ggufLayers(f File, pattern map[string]json.RawMessage) ([]bool, error) {
	if strings.HasPrefix(string(pattern["value"]), "[") {
		var slides []bool
		if err := r.member(f, pattern, "value", &slides); err != nil {
			return nil, err
		}
		return slides, r.layers(f.Name, len(slides))
	}
	n, err := r.tokens(f, pattern, "value", 0)
	if err != nil {
		return nil, err
	}
	slides := make([]bool, len(r.kvHeads))
	for l := range slides {
		slides[l] = n == 0 || l%n < n-1
	}
	return slides, nil
}
