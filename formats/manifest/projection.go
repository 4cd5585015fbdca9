package manifest

// layerWindow is one policy for all KV heads of a layer.
type layerWindow struct {
	sliding      bool
	sink, recent int
}

// project returns one policy for each layer: a layer slides only where all its KV heads stream, with the largest of their sizes.
func (x *export) project() []layerWindow {
	decode := x.decoding()
	out := make([]layerWindow, len(decode))
	for l, row := range decode {
		w := layerWindow{sliding: len(row) > 0}
		uniform := true
		for g, id := range row {
			pol := x.p.Policies[id]
			w.sliding = w.sliding && pol.Kind == KindStreaming
			w.sink, w.recent = max(w.sink, pol.Sink), max(w.recent, pol.Recent)
			uniform = uniform && x.samePolicy(id, row[0])
			if pol.Compensation {
				x.loseAt(l, g, "the compensation token")
			}
			if pol.Kind != KindFull && pol.Kind != KindStreaming {
				x.loseAt(l, g, "kind %s: written as full", pol.Kind)
			}
		}
		switch {
		case !w.sliding && !uniform:
			x.loseAt(l, -1, "heads that stream in a layer where not all do: the layer is full")
		case w.sliding && !uniform:
			x.loseAt(l, -1, "heads of different sizes: the layer has the largest")
		}
		if !w.sliding {
			w = layerWindow{}
		}
		out[l] = w
	}
	return out
}

// layerPrefill records prefill policies that a layer of one window does not have. dense says that readers may prefill dense.
func (x *export) layerPrefill(windows []layerWindow, dense bool) {
	sparse := false
	for l, row := range x.prefill() {
		for q, id := range row {
			pol := x.p.Policies[id]
			sparse = sparse || pol.Kind != KindFull
			switch {
			case pol.Kind == KindFull && (dense || !windows[l].sliding):
			case pol.Kind == KindStreaming && windows[l].sliding && !pol.Compensation:
			default:
				x.loseAt(l, x.group(l, q), "prefill under %s", pol.Kind)
			}
		}
	}
	x.minSeq(sparse)
}

// oneWindow returns the window of all sliding layers for formats that have one and no sinks, 0 where none slides.
func (x *export) oneWindow(windows []layerWindow) int {
	most, several := 0, false
	for l, w := range windows {
		if !w.sliding {
			continue
		}
		if w.sink > 0 {
			x.loseAt(l, -1, "the first %d tokens: the layer's window has no sinks, without which attention can collapse; measure before use", w.sink)
		}
		several = several || most > 0 && w.recent != most
		most = max(most, w.recent)
	}
	if several {
		x.lose("windows of different sizes: all layers that slide have %d", most)
	}
	x.layerPrefill(windows, false)
	x.saving("one policy for each layer", func(l, _, length int) int {
		if windows[l].sliding {
			return most
		}
		return length
	})
	return most
}

// slide makes every KV head of a layer stream.
func (r *reader) slide(layer, sink, recent int) error {
	id, err := r.policy("s", Streaming(sink, recent))
	if err != nil {
		return err
	}
	for g := range r.p.Layers[layer].KVHeads {
		h := &r.p.Layers[layer].KVHeads[g]
		h.Decode, h.Prefill = Always(id), id
	}
	return nil
}
