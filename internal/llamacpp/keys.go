package llamacpp

import (
	"modelpress/formats/gguf"
	"modelpress/internal/arch"
)

// keys lists the metadata of the model in the order of llama.cpp's converter (conversion/base.py, set_gguf_parameters).
func (d *describer) keys() {
	m := d.src
	d.out.KV = []gguf.KV{{Key: keyArchitecture, Value: gguf.String(d.out.Architecture)}, {Key: keyType, Value: gguf.String("model")}}
	d.number(keyBlocks, len(m.Layers))
	d.number(keyContext, d.context)
	d.number(keyWidth, m.D)
	d.perLayer(keyFFN, func(a *arch.Layer) int { return a.F })
	d.perLayer(keyHeads, func(a *arch.Layer) int { return a.H })
	if d.out.Architecture != archGPT2 {
		d.perLayer(keyKVHeads, func(a *arch.Layer) int { return a.G })
	}
	k := m.Layers[0].K
	if m.Rope != nil {
		d.ropeKeys()
	}
	eps := keyRMSEps
	if m.LayerNorm {
		eps = keyLayerNormEps
	}
	d.float(eps, m.Eps)
	if m.Rope != nil {
		d.number(keyKeyLength, k)
		d.number(keyValueLength, k)
	}
	d.number(keyVocab, m.V)
	if m.Rope != nil {
		d.number(keyRotated, k)
	}
}

func (d *describer) add(key string, v gguf.Value) {
	d.out.KV = append(d.out.KV, gguf.KV{Key: d.out.Architecture + "." + key, Value: v})
}

// number adds a key; internal/arch bounds every size below 2^32.
func (d *describer) number(key string, v int) { d.add(key, gguf.Uint32(uint32(v))) }

func (d *describer) float(key string, v float32) { d.add(key, gguf.Float32(v)) }

// perLayer adds one number where all layers are alike, else a list, which deci alone reads.
func (d *describer) perLayer(key string, of func(a *arch.Layer) int) {
	if d.out.Architecture != archDeci {
		d.number(key, of(&d.src.Layers[0]))
		return
	}
	list := make([]int32, len(d.src.Layers))
	for l := range list {
		list[l] = int32(of(&d.src.Layers[l]))
	}
	d.add(key, gguf.Int32s(list))
}

// Metadata returns all entries of a file in the order of llama.cpp's converter: those of the model with its name ("" for none) and the
// number of its file type, those of the tokenizer, and the version of the block types where there are any.
func (m *Model) Metadata(name string, fileType uint32, tokenizer []gguf.KV) []gguf.KV {
	var out []gguf.KV
	for _, kv := range m.KV {
		out = append(out, kv)
		if kv.Key == keyType && name != "" {
			out = append(out, gguf.KV{Key: keyName, Value: gguf.String(name)})
		}
	}
	out = append(out, gguf.KV{Key: keyFileType, Value: gguf.Uint32(fileType)})
	out = append(out, tokenizer...)
	return append(out, gguf.KV{Key: keyQuantVersion, Value: gguf.Uint32(2)})
}
