package pipeline

import (
	"encoding/json"
	"math"
	"slices"
	"strings"

	"modelpress/formats"
	"modelpress/formats/hf"
	"modelpress/internal/arch"
)

// NewCandidate describes an open checkpoint: what config.json says, nil where there is none, and how view, if it is quantized, stores the
// weights of the model. raw is what view dequantizes; it tells types of scales, and values of scales that a whole tensor shares, and may be nil.
func NewCandidate(m *arch.Model, config []byte, view, raw formats.Source) (*Candidate, error) {
	c := &Candidate{Model: m, Config: config}
	q, ok := view.(formats.Quantized)
	if !ok {
		return c, nil
	}
	facts := c.facts()
	stored := map[string]WeightFormat{}
	for l := range m.Layers {
		for _, lin := range m.Layers[l].Linears {
			if !lin.Present() {
				continue
			}
			st, ok := q.Storage(lin.Weight)
			if !ok {
				continue
			}
			f := formatOf(st)
			f.Activations = facts.quant.activations(lin.Module())
			if raw != nil {
				if err := f.readScales(raw, st.Tensors); err != nil {
					return nil, err
				}
			}
			stored[lin.Weight] = f
		}
	}
	if len(stored) > 0 {
		c.Weights = func(lin arch.Linear) (WeightFormat, bool) { f, ok := stored[lin.Weight]; return f, ok }
	}
	return c, nil
}

// formatOf puts what a view says of a weight in the terms of all formats.
func formatOf(st formats.Storage) WeightFormat {
	f := WeightFormat{Method: methodGGUF, Layout: st.Format, Bits: st.Code, Group: st.Group, Symmetric: st.Symmetric, ActOrder: st.Ordered}
	f.Indexed = slices.ContainsFunc(st.Tensors, func(name string) bool { return strings.HasSuffix(name, "g_idx") })
	algo, modelopt := strings.CutPrefix(st.Format, methodModelOpt+" ")
	switch {
	case modelopt:
		f.Method, f.Layout = methodModelOpt, map[string]string{"NVFP4": layoutNVFP4, "FP8": layoutFloat}[algo]
	case st.Format == methodFP8:
		f.Method = methodFP8
	case strings.HasPrefix(st.Format, methodGPTQ):
		f.Method = methodGPTQ
	case strings.HasPrefix(st.Format, methodAWQ):
		f.Method = methodAWQ
	case strings.HasSuffix(st.Format, "-quantized"):
		f.Method = methodCT
	}
	if f.Layout == "naive-quantized" {
		f.Layout = layoutFloat
		if st.Grid {
			f.Layout = layoutInt
		}
	}
	if f.Bits == 0 && f.Method != methodGGUF {
		f.Bits = 8
		if f.Layout == layoutNVFP4 || f.Layout == layoutMXFP4 {
			f.Bits = 4
		}
	}
	// The weights of a square block share a scale, and rules go by its side.
	if side := int(math.Sqrt(float64(max(0, f.Group)))); f.block() && side*side == f.Group {
		f.Group = side
	}
	return f
}

// readScales finds the type of the scales among the tensors that a weight is stored in, and reads the one of the whole tensor.
func (f *WeightFormat) readScales(raw formats.Source, tensors []string) error {
	for _, name := range tensors {
		global := strings.HasSuffix(name, ".weight_global_scale") || strings.HasSuffix(name, ".weight_scale_2")
		if !global && !strings.HasSuffix(name, ".scales") && !strings.HasSuffix(name, ".weight_scale") && !strings.HasSuffix(name, ".weight_scale_inv") {
			continue
		}
		t, ok := raw.Lookup(name)
		if !ok {
			continue
		}
		if !global {
			f.Scales = t.DType
		}
		n, err := t.Elements()
		if err != nil || n != 1 || !global && f.Group != 0 || !t.DType.IsFloat() {
			continue
		}
		var v [1]float32
		if err := formats.ReadF32(raw, name, v[:], 0); err != nil {
			return err
		}
		f.Global = v[0]
	}
	return nil
}

// candidate describes an open model.
func (s *source) candidate() (*Candidate, error) {
	c, err := NewCandidate(s.arch, s.ck.Config(), s.dense, s.ck)
	if err != nil {
		return nil, err
	}
	c.GGUF = s.whole.GGUF != nil
	if c.GGUF {
		c.SplitGGUF = len(s.whole.GGUF.Files()) > 1
	} else {
		for _, f := range s.whole.Directory.Shards() {
			c.Shards = append(c.Shards, ShardMetadata{File: f.Name(), Metadata: f.Metadata()})
		}
	}
	return c, c.beside(s)
}

// beside looks at the files that lie with the weights.
func (c *Candidate) beside(s *source) error {
	if d := s.whole.Directory; d != nil {
		c.RemoteCode = d.RemoteCode()
	}
	for _, f := range s.ck.Files() {
		switch {
		case f.Kind == hf.KindTemplate:
			c.ChatTemplate = true
		case oneOf(f.Name, tokenizerName, "tokenizer.model", "tokenizer.model.v3", "tekken.json", "vocab.json", "vocab.txt", "spiece.model", "sentencepiece.bpe.model"):
			c.Tokenizer = true
		case f.Name == "tokenizer_config.json":
			raw, err := s.ck.ReadFile(f.Name, maxTokenizer)
			if err != nil {
				return err
			}
			var t struct {
				Template json.RawMessage `json:"chat_template"`
			}
			if json.Unmarshal(raw, &t) == nil && len(t.Template) > 0 && string(t.Template) != "null" {
				c.ChatTemplate = true
			}
		}
	}
	return nil
}
