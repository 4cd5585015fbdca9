package arch

import (
	"encoding/json"
	"fmt"
	"maps"
)

// Config returns a config.json of the model, from which [DescribeConfig] makes it again: for models that come from another format. Of
// the layers it reads the sizes, and of their projections which have a bias: all of them or, where the family knows it, q, k and v
// alone. extra holds further keys, such as bos_token_id. Windows are an error, since no key says everything that they can be.
func (m *Model) Config(extra map[string]any) ([]byte, error) {
	fam := m.family()
	if fam == nil {
		return nil, fmt.Errorf("arch: config of family %q", m.Family)
	}
	w := &configWriter{m: m, fam: fam, keys: map[string]any{}, layers: map[int]map[string]any{}}
	maps.Copy(w.keys, extra)
	if err := w.write(); err != nil {
		return nil, err
	}
	out, err := json.MarshalIndent(w.keys, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("arch: config: %w", err)
	}
	return append(out, '\n'), nil
}

func (m *Model) family() *family {
	for _, f := range families {
		if f.name == m.Family {
			return f
		}
	}
	return nil
}

// configWriter collects the keys of a configuration.
type configWriter struct {
	m      *Model
	fam    *family
	keys   map[string]any
	layers map[int]map[string]any // per_layer_config
}

func (w *configWriter) write() error {
	m, k := w.m, w.fam.keys
	w.set("architectures", []string{w.fam.class})
	w.set("model_type", w.fam.name)
	w.set(k.d, m.D)
	w.set("vocab_size", m.V)
	w.set(k.layers, len(m.Layers))
	w.set(k.position, m.MaxPosition)
	w.set(k.eps, m.Eps)
	w.set("tie_word_embeddings", m.Tied)
	w.set("use_cache", true)
	if m.TorchDType != "" {
		w.set("torch_dtype", m.TorchDType)
	}
	for l := range m.Layers {
		if a := &m.Layers[l]; a.Window != 0 {
			return fmt.Errorf("arch: config of a model with a window of %d tokens in layer %d", a.Window, l)
		}
	}
	if w.fam.fused {
		w.gpt2()
	} else {
		w.decoder()
	}
	w.skips()
	if len(w.layers) > 0 {
		byName := map[string]any{}
		for l, entry := range w.layers {
			byName[fmt.Sprintf("%02d", l)] = entry
		}
		w.set("per_layer_config", byName)
	}
	return nil
}

func (w *configWriter) set(key string, v any) { w.keys[key] = v }

func (w *configWriter) gpt2() {
	k := w.fam.keys
	w.set("n_ctx", w.m.MaxPosition)
	w.set("activation_function", "gelu_new")
	if w.m.Act == GELUErf {
		w.set("activation_function", "gelu")
	}
	w.sizes(k.heads, func(a *Layer) int { return a.H })
	w.sizes(k.ffn, func(a *Layer) int { return a.F })
}

func (w *configWriter) decoder() {
	m, k := w.m, w.fam.keys
	w.set("hidden_act", "silu")
	w.sizes(k.heads, func(a *Layer) int { return a.H })
	w.sizes("num_key_value_heads", func(a *Layer) int { return a.G })
	w.sizes("head_dim", func(a *Layer) int { return a.K })
	w.sizes(k.ffn, func(a *Layer) int { return a.F })
	if w.fam.biasKeys {
		w.set("attention_bias", m.hasBias(Q))
		w.set("mlp_bias", m.hasBias(Up))
	}
	if w.fam.window != nil {
		w.set("sliding_window", nil)
	}
	w.set("rope_theta", m.Rope.Theta)
	w.set("rope_scaling", m.Rope.scaling())
}

// hasBias reports whether the projection has a bias in some layer.
func (m *Model) hasBias(r Role) bool {
	for l := range m.Layers {
		if m.Layers[l].Linears[r].Bias != "" {
			return true
		}
	}
	return false
}

// scaling returns the rope_scaling object, nil for none.
func (r *Rope) scaling() map[string]any {
	s := map[string]any{"rope_type": r.Type, "factor": r.Factor}
	switch r.Type {
	case "", "default":
		return nil
	case "llama3":
		s["low_freq_factor"], s["high_freq_factor"] = r.LowFreqFactor, r.HighFreqFactor
		s["original_max_position_embeddings"] = r.OriginalMaxPosition
	case "yarn":
		s["original_max_position_embeddings"] = r.OriginalMaxPosition
		s["beta_fast"], s["beta_slow"] = r.BetaFast, r.BetaSlow
		for key, v := range map[string]float64{"attention_factor": r.AttentionFactor, "mscale": r.MScale, "mscale_all_dim": r.MScaleAllDim} {
			if v != 0 {
				s[key] = v
			}
		}
		if !r.Truncate {
			s["truncate"] = false
		}
	}
	return s
}

// sizes writes a number that layers have: the one that most of them have, of equals the largest, and the others layer by layer.
func (w *configWriter) sizes(key string, of func(a *Layer) int) {
	times, most := map[int]int{}, 0
	for l := range w.m.Layers {
		n := of(&w.m.Layers[l])
		if times[n]++; n > 0 && (times[n] > times[most] || times[n] == times[most] && n > most || most == 0) {
			most = n
		}
	}
	if most > 0 {
		w.set(key, most)
	}
	for l := range w.m.Layers {
		if n := of(&w.m.Layers[l]); n > 0 && n != most {
			w.entry(l)[key] = n
		}
	}
}

func (w *configWriter) entry(l int) map[string]any {
	if w.layers[l] == nil {
		w.layers[l] = map[string]any{}
	}
	return w.layers[l]
}

// skips names the sub-layers that single layers lack.
func (w *configWriter) skips() {
	for l := range w.m.Layers {
		var gone []string
		if !w.m.Layers[l].HasAttention() {
			gone = append(gone, "attention")
		}
		if !w.m.Layers[l].HasFFN() {
			gone = append(gone, "mlp")
		}
		if gone != nil {
			w.entry(l)["skip"] = gone
		}
	}
}
