package pipeline

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
)

// layerEntries are the entries of per_layer_config. What they hold stays as it is written, and so do the names of layers that keep
// their number.
type layerEntries struct {
	had     bool // there were some
	changed bool
	names   map[int]string
	layers  map[int]map[string]json.RawMessage
}

// readLayerEntries reads them. Entries that do not name a layer stay behind.
func readLayerEntries(raw json.RawMessage) (*layerEntries, error) {
	e := &layerEntries{names: map[int]string{}, layers: map[int]map[string]json.RawMessage{}}
	if raw = bytes.TrimSpace(raw); len(raw) == 0 || string(raw) == "null" {
		return e, nil
	}
	var all map[string]map[string]json.RawMessage
	if err := json.Unmarshal(raw, &all); err != nil {
		return nil, fmt.Errorf("key %q: %w", layersKey, err)
	}
	for name, entry := range all {
		if l, err := strconv.Atoi(name); err == nil {
			e.names[l], e.layers[l] = name, entry
		}
	}
	e.had = len(all) > 0
	return e, nil
}

// at returns the entry of a layer, nil where it has none.
func (e *layerEntries) at(l int) map[string]json.RawMessage { return e.layers[l] }

// keep renumbers the entries of some layers, ascending, and drops the others.
func (e *layerEntries) keep(kept []int) {
	names, layers := map[int]string{}, map[int]map[string]json.RawMessage{}
	for i, l := range kept {
		if entry := e.layers[l]; entry != nil {
			layers[i] = entry
			if i == l {
				names[i] = e.names[l]
			}
		}
	}
	e.names, e.layers = names, layers
	e.changed = e.changed || e.had
}

// put sets a key of a layer.
func (e *layerEntries) put(l int, key string, value json.RawMessage) {
	if e.layers[l] == nil {
		e.layers[l] = map[string]json.RawMessage{}
	}
	e.layers[l][key] = value
	e.changed = true
}

// remove takes a key of a layer away.
func (e *layerEntries) remove(l int, key string) {
	delete(e.layers[l], key)
	e.changed = e.changed || e.had
}

// written returns the entries that are not empty, by the names of their layers: two digits at least where they are new.
func (e *layerEntries) written() map[string]map[string]json.RawMessage {
	out := map[string]map[string]json.RawMessage{}
	for l, entry := range e.layers {
		if len(entry) == 0 {
			continue
		}
		name := e.names[l]
		if name == "" {
			name = fmt.Sprintf("%02d", l)
		}
		out[name] = entry
	}
	return out
}
