package pipeline

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"

	"modelpress/formats/hf"
	"modelpress/formats/packed"
	"modelpress/internal/arch"
)

// configEdits returns the keys of config.json that differ in a result: m describes the source, view what is written. Keys
// whose absence loaders read in different ways are written out: one of them takes a missing tie_word_embeddings for true
// where the others take it for false, and some fail on a head_dim that is null.
func configEdits(config []byte, m, view *arch.Model, q *quantDecision) ([]hf.KV, error) {
	var have map[string]json.RawMessage
	if err := json.Unmarshal(config, &have); err != nil {
		return nil, err
	}
	missing := func(key string) bool {
		v := bytes.TrimSpace(have[key])
		return len(v) == 0 || string(v) == "null"
	}
	var set []hf.KV
	if q != nil && q.Output == outputPacked {
		ignore := append([]string{headModule}, q.Ignored...)
		set = append(set, hf.KV{Key: "quantization_config", Value: packed.Config(q.packedScheme(), ignore)})
	}
	if m.Tied != view.Tied || m.Rope != nil && missing("tie_word_embeddings") {
		set = append(set, hf.KV{Key: "tie_word_embeddings", Value: view.Tied})
	}
	if k := uniformHeadDim(m); m.Rope != nil && k > 0 && missing("head_dim") {
		set = append(set, hf.KV{Key: "head_dim", Value: k})
	}
	heads, err := kvHeadEdits(have, m, view)
	return append(set, heads...), err
}

// uniformKVHeads reports whether all layers have the same number of KV heads.
func uniformKVHeads(m *arch.Model) bool {
	for l := range m.Layers {
		if m.Layers[l].G != m.Layers[0].G {
			return false
		}
	}
	return true
}

// kvHeadEdits returns the keys that state the KV heads of view, where they are not those of m: the number that most layers have, and
// per_layer_config for the others (transformers from 5.14 on).
func kvHeadEdits(have map[string]json.RawMessage, m, view *arch.Model) ([]hf.KV, error) {
	const key, layersKey = "num_key_value_heads", "per_layer_config"
	changed, count := false, map[int]int{}
	for l := range view.Layers {
		changed = changed || view.Layers[l].G != m.Layers[l].G
		if view.Layers[l].HasAttention() {
			count[view.Layers[l].G]++
		}
	}
	if !changed {
		return nil, nil
	}
	most := 0
	for g, n := range count {
		if n > count[most] || n == count[most] && g > most {
			most = g
		}
	}
	set := []hf.KV{{Key: key, Value: most}}
	layers := map[string]map[string]json.RawMessage{}
	if raw := bytes.TrimSpace(have[layersKey]); len(raw) > 0 && string(raw) != "null" {
		if err := json.Unmarshal(raw, &layers); err != nil {
			return nil, err
		}
	}
	byLayer := map[int]string{}
	for name := range layers {
		if l, err := strconv.Atoi(name); err == nil {
			byLayer[l] = name
		}
	}
	had := len(layers) > 0
	for l := range view.Layers {
		g := view.Layers[l].G
		name, there := byLayer[l]
		if there {
			delete(layers[name], key)
		}
		if !view.Layers[l].HasAttention() || g == most {
			continue
		}
		if !there {
			name = fmt.Sprintf("%02d", l)
		}
		if layers[name] == nil {
			layers[name] = map[string]json.RawMessage{}
		}
		layers[name][key] = json.RawMessage(strconv.Itoa(g))
	}
	for name, entry := range layers {
		if len(entry) == 0 {
			delete(layers, name)
		}
	}
	if had || len(layers) > 0 {
		set = append(set, hf.KV{Key: layersKey, Value: layers})
	}
	return set, nil
}

// uniformHeadDim returns the width of every layer's heads, 0 where layers differ.
func uniformHeadDim(m *arch.Model) int {
	k := m.Layers[0].K
	for l := range m.Layers {
		if m.Layers[l].K != k {
			return 0
		}
	}
	return k
}

// ropeScaling returns the scaling of rotary embeddings as config.json has it, nil for none. Releases of transformers from 5
// on write it as rope_parameters, together with the base.
func ropeScaling(config []byte) map[string]any {
	var c struct {
		Scaling    map[string]any `json:"rope_scaling"`
		Parameters map[string]any `json:"rope_parameters"`
	}
	if json.Unmarshal(config, &c) != nil { // it was read before
		return nil
	}
	scaling := c.Scaling
	if scaling == nil {
		scaling = c.Parameters
		delete(scaling, "rope_theta")
	}
	if kind := scaling["rope_type"]; kind == nil && scaling["type"] == nil || kind == "default" || scaling["type"] == "default" {
		return nil
	}
	return scaling
}
