package pipeline

import (
	"bytes"
	"encoding/json"

	"modelpress/formats"
	"modelpress/formats/hf"
	"modelpress/internal/arch"
	"modelpress/internal/checkpoint"
)

// configEdits returns the keys of config.json that differ in a result: m describes the source, view what is written, and kept the
// layer of m that each layer of view is; nil where all are there. Keys whose absence loaders read in different ways are written out:
// one of them takes a missing tie_word_embeddings for true where the others take it for false, and some fail on a head_dim that
// is null.
func configEdits(config []byte, m, view *arch.Model, kept []int, q *quantDecision) ([]hf.KV, error) {
	var have map[string]json.RawMessage
	if err := json.Unmarshal(config, &have); err != nil {
		return nil, err
	}
	var set []hf.KV
	if q.packs() {
		c, err := q.config()
		if err != nil {
			return nil, err
		}
		set = append(set, hf.KV{Key: "quantization_config", Value: c})
	}
	if m.Tied != view.Tied || m.Rope != nil && missingKey(have, "tie_word_embeddings") {
		set = append(set, hf.KV{Key: "tie_word_embeddings", Value: view.Tied})
	}
	sizes, err := sizeEdits(have, m, view, kept)
	return append(set, sizes...), err
}

// configEdits returns the keys of the source's config.json that differ in a result. What else says how its weights are stored is no part
// of a result, so that config.json says it.
func (s *source) configEdits(view *arch.Model, kept []int, q *quantDecision) ([]hf.KV, error) {
	set, err := configEdits(s.ck.Config(), s.arch, view, kept, q)
	if err != nil {
		return nil, formats.Errorf(configName, "", "%w", err)
	}
	return append(checkpoint.QuantizationEdit(s.ck), set...), nil
}

// missingKey reports whether a key of config.json is missing or null.
func missingKey(have map[string]json.RawMessage, key string) bool {
	v := bytes.TrimSpace(have[key])
	return len(v) == 0 || string(v) == "null"
}

// uniformSizes reports whether all layers have the same head counts and FFN width.
func uniformSizes(m *arch.Model) bool {
	for l := range m.Layers {
		if m.Layers[l].Size() != m.Layers[0].Size() {
			return false
		}
	}
	return true
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
