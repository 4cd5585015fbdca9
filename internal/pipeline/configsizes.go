package pipeline

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"

	"modelpress/formats/hf"
	"modelpress/internal/arch"
)

// layersKey holds what single layers have of their own (transformers from 5.14 on).
const layersKey = "per_layer_config"

// sizeEditor collects the keys of config.json that state the sizes of a result.
type sizeEditor struct {
	have    map[string]json.RawMessage
	m, view *arch.Model
	kept    []int // the layer of m that each layer of view is
	keys    arch.ConfigKeys
	entries *layerEntries
	set     []hf.KV
}

// sizeEdits returns the keys that state the sizes of view where they are not those of m: width, depth, and for heads and FFN the number
// that most layers have, with per_layer_config for the others and for sub-layers that are left out. Lists with an entry for each layer
// lose those of layers that went.
func sizeEdits(have map[string]json.RawMessage, m, view *arch.Model, kept []int) ([]hf.KV, error) {
	if kept == nil {
		for l := range m.Layers {
			kept = append(kept, l)
		}
	}
	if len(kept) != len(view.Layers) {
		return nil, fmt.Errorf("%d layers are written, %d of the source are named", len(view.Layers), len(kept))
	}
	e := &sizeEditor{have: have, m: m, view: view, kept: kept, keys: m.ConfigKeys()}
	var err error
	if e.entries, err = readLayerEntries(have[layersKey]); err != nil {
		return nil, err
	}
	if err := e.headDim(); err != nil {
		return nil, err
	}
	if err := e.depth(); err != nil {
		return nil, err
	}
	wider := view.D != m.D
	if wider {
		e.add(e.keys.Width, view.D)
	}
	if err := e.counts(e.keys.Heads, func(a *arch.Layer) int { return a.H }, false); err != nil {
		return nil, err
	}
	if err := e.counts(e.keys.KVHeads, func(a *arch.Layer) int { return a.G }, false); err != nil {
		return nil, err
	}
	// Where the width of the FFN follows from that of the stream, it has to be said once that changes.
	follows := wider && missingKey(have, e.keys.FFN)
	if err := e.counts(e.keys.FFN, func(a *arch.Layer) int { return a.F }, follows); err != nil {
		return nil, err
	}
	if err := e.skips(); err != nil {
		return nil, err
	}
	if e.entries.changed {
		e.add(layersKey, e.entries.written())
	}
	return e.set, nil
}

func (e *sizeEditor) add(key string, value any) { e.set = append(e.set, hf.KV{Key: key, Value: value}) }

// headDim writes the width of heads out where it is not there: that of all layers, or, where layers differ and the width that it would
// follow from changes, that of those which have none of their own.
func (e *sizeEditor) headDim() error {
	if e.keys.HeadDim == "" || !missingKey(e.have, e.keys.HeadDim) {
		return nil
	}
	if k := uniformHeadDim(e.m); k > 0 {
		e.add(e.keys.HeadDim, k)
		return nil
	}
	same := e.view.D == e.m.D
	for i, l := range e.kept {
		same = same && e.view.Layers[i].H == e.m.Layers[l].H
	}
	for l := range e.m.Layers {
		if _, own := e.entries.at(l)[e.keys.HeadDim]; !same && !own && e.m.Layers[l].HasAttention() {
			e.add(e.keys.HeadDim, e.m.Layers[l].K)
			return nil
		}
	}
	return nil
}

// uniformHeadDim returns the width of every layer's heads, 0 where layers differ.
func uniformHeadDim(m *arch.Model) int {
	k := 0
	for l := range m.Layers {
		a := &m.Layers[l]
		if a.K > 0 && k > 0 && a.K != k {
			return 0
		}
		k = max(k, a.K)
	}
	return k
}

// depth writes the number of layers and what counts by it.
func (e *sizeEditor) depth() error {
	if len(e.kept) == len(e.m.Layers) {
		return nil
	}
	e.add(e.keys.Layers, len(e.kept))
	e.entries.keep(e.kept)
	for _, key := range []string{"layer_types", "no_rope_layers"} {
		if err := e.trim(key); err != nil {
			return err
		}
	}
	return e.firstWindow()
}

// trim leaves a list what it says of the layers that stay.
func (e *sizeEditor) trim(key string) error {
	var list []json.RawMessage
	if missingKey(e.have, key) {
		return nil
	}
	if err := json.Unmarshal(e.have[key], &list); err != nil {
		return fmt.Errorf("key %q: %w", key, err)
	}
	if len(list) != len(e.m.Layers) {
		return nil // read by no one, or refused before
	}
	out := make([]json.RawMessage, len(e.kept))
	for i, l := range e.kept {
		out[i] = list[l]
	}
	e.add(key, out)
	return nil
}

// firstWindow moves the first layer that has a sliding window: Qwen's max_window_layers, which is 28 where it is missing and windows are
// in use.
func (e *sizeEditor) firstWindow() error {
	const key, used = "max_window_layers", "use_sliding_window"
	first := 28
	if missingKey(e.have, key) {
		if string(e.have[used]) != "true" {
			return nil
		}
	} else if err := json.Unmarshal(e.have[key], &first); err != nil {
		return fmt.Errorf("key %q: %w", key, err)
	}
	n := 0
	for _, l := range e.kept {
		if l < first {
			n++
		}
	}
	e.add(key, n)
	return nil
}

// counts writes a number that layers have: the one that most of them have, of equals the largest, under its key, and the others layer
// by layer. It writes nothing where no layer's number changes, unless always is set.
func (e *sizeEditor) counts(key string, of func(a *arch.Layer) int, always bool) error {
	changed, times := always, map[int]int{}
	for i := range e.view.Layers {
		if n := of(&e.view.Layers[i]); n > 0 {
			times[n]++
			changed = changed || n != of(&e.m.Layers[e.kept[i]])
		}
	}
	if !changed || key == "" || len(times) == 0 {
		return nil
	}
	most := 0
	for n, t := range times {
		if t > times[most] || t == times[most] && n > most {
			most = n
		}
	}
	if len(times) > 1 && key == e.keys.Heads && e.keys.KVHeads == "" {
		return fmt.Errorf("layers have different numbers of heads, which %s has no key for", e.m.Family)
	}
	e.add(key, most)
	for i := range e.view.Layers {
		n := of(&e.view.Layers[i])
		if n == 0 || n == most {
			e.entries.remove(i, key)
		} else {
			e.entries.put(i, key, json.RawMessage(strconv.Itoa(n)))
		}
	}
	return nil
}

// skips names the sub-layers that went.
func (e *sizeEditor) skips() error {
	const key = "skip"
	for i, l := range e.kept {
		a, b := &e.m.Layers[l], &e.view.Layers[i]
		var gone []string
		if a.HasAttention() && !b.HasAttention() {
			gone = append(gone, "attention")
		}
		if a.HasFFN() && !b.HasFFN() {
			gone = append(gone, "mlp")
		}
		if gone == nil {
			continue
		}
		var list []string
		if raw, ok := e.entries.at(i)[key]; ok {
			if err := json.Unmarshal(raw, &list); err != nil {
				return fmt.Errorf("key %q: layer %d: %w", layersKey, l, err)
			}
		}
		list = append(list, gone...)
		slices.Sort(list)
		raw, err := json.Marshal(list)
		if err != nil {
			return err
		}
		e.entries.put(i, key, raw)
	}
	return nil
}
