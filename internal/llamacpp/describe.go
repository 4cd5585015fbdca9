package llamacpp

import (
	"errors"

	"modelpress/formats/gguf"
	"modelpress/internal/arch"
)

// Model is a checkpoint as a GGUF file describes it.
type Model struct {
	Architecture string    // general.architecture
	KV           []gguf.KV // the architecture and its sizes, in the order of llama.cpp's converter
	Tensors      []Tensor  // in the order of the forward pass
	Warnings     []string  // what a reader of the file should know, one sentence each

	layers int
	moreV  bool // llama-quantize gives attn_v more bits, as in a model of 70 billion parameters
}

// Describe says how the model is written: under which architecture, with which keys and tensors. Layers that differ, and attention that
// is left out, need the architecture deci. Errors have [Refused] in their chain, with all rules that the model breaks joined.
func Describe(m *arch.Model) (*Model, error) {
	d := &describer{src: m, out: &Model{layers: len(m.Layers)}}
	d.uniform = uniform(m)
	d.choose()
	d.check()
	d.windows()
	if len(d.faults) > 0 {
		return nil, errors.Join(d.faults...)
	}
	d.keys()
	d.tensors()
	d.out.moreV = d.seventyB()
	return d.out, nil
}

// describer turns a model into what a GGUF file says of it.
type describer struct {
	src     *arch.Model
	out     *Model
	uniform bool
	context int // the context that the file states
	faults  []error
}

func (d *describer) refuse(fix, rule string, args ...any) {
	d.faults = append(d.faults, refuse(fix, rule, args...))
}

// uniform reports whether all layers have the same sizes and both sub-layers.
func uniform(m *arch.Model) bool {
	first := m.Layers[0].Size()
	for l := range m.Layers {
		s := m.Layers[l].Size()
		if s != first || s.H == 0 || s.F == 0 {
			return false
		}
	}
	return true
}

// permutes reports whether the architecture rotates neighbouring rows of q and k.
func permutes(architecture string) bool { return architecture == archLlama || architecture == archDeci }

// seventyB follows llama.cpp's guess of a model's size from its depth (load_arch_hparams of the architectures, LLM_TYPE_70B).
func (d *describer) seventyB() bool {
	if len(d.src.Layers) != 80 {
		return false
	}
	first := d.src.Layers[0]
	switch d.out.Architecture {
	case archLlama:
		return first.H != first.G
	case archDeci, archQwen2:
		return true
	}
	return false
}
