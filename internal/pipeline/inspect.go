package pipeline

import (
	"slices"

	"modelpress/formats"
	"modelpress/formats/planfile"
	"modelpress/internal/arch"
)

// Inspection is what a checkpoint holds.
type Inspection struct {
	Name          string            `json:"name"`
	Family        string            `json:"family"`
	Architecture  string            `json:"architecture"`
	Layers        int               `json:"layers"`
	Hidden        int               `json:"hidden"`
	Heads         int               `json:"heads"` // of layer 0
	KVHeads       int               `json:"kv_heads"`
	HeadDim       int               `json:"head_dim"`
	FFN           int               `json:"ffn"`
	Vocabulary    int               `json:"vocabulary"`
	MaxPosition   int               `json:"max_position"`
	Tied          bool              `json:"tied"`
	Quantized     bool              `json:"quantized"`
	Parameters    int64             `json:"parameters"`
	Bytes         int64             `json:"bytes"`
	KVBytesToken  int64             `json:"kv_bytes_per_token"`
	Tensors       []planfile.Tensor `json:"tensors"` // as they are stored, under the names that they have in their files
	Modules       []string          `json:"modules"` // linear modules of decoder blocks
	Targets       []Verdict         `json:"targets"`
	Warnings      []string          `json:"warnings"`
	HeadersDigest string            `json:"headers_digest"`
}

// Inspect reads the configuration and the headers of a checkpoint, and no weights but scales that are a single number. The verdicts are
// those of the targets that are named; of all that are known where none is.
func Inspect(dir string, allowRemoteCode bool, targets []string) (*Inspection, error) {
	if len(targets) == 0 {
		targets = knownTargets
	}
	var f faults
	for _, t := range targets {
		f.add(!oneOf(t, knownTargets...), "target %q: known are %s", t, KnownTargets())
	}
	if len(f) > 0 {
		return nil, &Error{Kind: KindUsage, Err: sortedJoin(f)}
	}
	s, err := openSource(dir, allowRemoteCode)
	if err != nil {
		return nil, err
	}
	defer s.close()
	m, first := s.arch, s.arch.Layers[0]
	i := &Inspection{Name: s.ck.Name(), Family: m.Family, Architecture: m.Architecture, Layers: len(m.Layers), Hidden: m.D, Heads: first.H,
		KVHeads: first.G, HeadDim: first.K, FFN: first.F, Vocabulary: m.V, MaxPosition: m.MaxPosition, Tied: m.Tied,
		Quantized: s.whole.Quantized != nil, HeadersDigest: headersDigest(s), Warnings: slices.Concat([]string{}, s.ck.Warnings(), s.whole.Notes())}
	if i.Tensors, err = s.storedTensors(); err != nil {
		return nil, err
	}
	for _, t := range i.Tensors {
		i.Bytes += t.Bytes
	}
	for _, t := range s.dense.Tensors() {
		n, err := t.Elements()
		if err != nil {
			return nil, formats.Errorf(s.ck.Name(), t.Name, "%w", err)
		}
		i.Parameters += n
	}
	i.Modules, i.KVBytesToken = modules(m), kvBytesPerToken(m)
	c, err := s.candidate()
	if err != nil {
		return nil, err
	}
	i.Targets = Verdicts(c, targets)
	return i, nil
}

// storedTensors lists the tensors of the source as they are stored.
func (s *source) storedTensors() ([]planfile.Tensor, error) {
	var list []planfile.Tensor
	if f := s.whole.GGUF; f != nil {
		for _, t := range f.Tensors() {
			n, err := t.Bytes()
			if err != nil {
				return nil, formats.Errorf(s.ck.Name(), t.Name, "%w", err)
			}
			list = append(list, planfile.Tensor{Name: t.Name, DType: t.Type.String(), Shape: t.Shape, Bytes: n})
		}
		return list, nil
	}
	for _, t := range s.ck.Tensors() {
		ft, err := fileTensor(t)
		if err != nil {
			return nil, err
		}
		list = append(list, ft)
	}
	return list, nil
}

// NotLoading lists the targets that do not load the checkpoint.
func (i *Inspection) NotLoading() []string {
	var names []string
	for _, v := range i.Targets {
		if !v.Loads {
			names = append(names, v.Name)
		}
	}
	return names
}

func modules(m *arch.Model) []string {
	var list []string
	for l := range m.Layers {
		for _, lin := range m.Layers[l].Linears {
			if lin.Present() {
				list = append(list, lin.Module())
			}
		}
	}
	return uniqueStrings(list)
}

// kvBytesPerToken counts keys and values of all layers in bf16.
func kvBytesPerToken(m *arch.Model) int64 {
	var n int64
	for l := range m.Layers {
		n += 2 * 2 * int64(m.Layers[l].G) * int64(m.Layers[l].K)
	}
	return n
}
