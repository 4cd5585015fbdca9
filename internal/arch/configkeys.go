package arch

// ConfigKeys are the keys of config.json that state the sizes of a model. KVHeads and HeadDim are "" in families that have no such
// key.
type ConfigKeys struct {
	Width, Layers, Heads, KVHeads, HeadDim, FFN string
}

// ConfigKeys returns the keys of the model's family.
func (m *Model) ConfigKeys() ConfigKeys {
	for _, f := range families {
		if f.name != m.Family {
			continue
		}
		k := ConfigKeys{Width: f.keys.d, Layers: f.keys.layers, Heads: f.keys.heads, FFN: f.keys.ffn}
		if !f.fused {
			k.KVHeads, k.HeadDim = "num_key_value_heads", "head_dim"
		}
		return k
	}
	return ConfigKeys{}
}
