package pipeline

import (
	"encoding/json"

	"modelpress/formats"
	"modelpress/internal/arch"
)

// Candidate is a checkpoint, or one that is planned, as a loader meets it.
type Candidate struct {
	Model *arch.Model
	// Weights says how the weight of a projection is stored; false for one that is stored as plain numbers. It may be nil.
	Weights func(arch.Linear) (WeightFormat, bool)
	Config  []byte // config.json, nil where the container has none
	GGUF    bool   // a GGUF file; else a directory of safetensors

	Tokenizer    bool // there is a vocabulary
	ChatTemplate bool
	RemoteCode   []string        // what makes a loader run code of the checkpoint
	Shards       []ShardMetadata // of the weight files; none where they are not written yet
	SplitGGUF    bool            // the GGUF file is one of several

	config *configFacts
}

// ShardMetadata is the __metadata__ of a weight file, nil where the file has none.
type ShardMetadata struct {
	File     string
	Metadata map[string]string
}

// WeightFormat is how a weight is stored, in terms that all formats share.
type WeightFormat struct {
	Method      string // "compressed-tensors", "gptq", "awq", "fp8", "modelopt", "gguf"
	Layout      string // of the method: "pack-quantized", "int-quantized", "float-quantized", "gptq", "gptq_v2", "Q4_K"
	Bits        int    // of a code
	Group       int    // inputs that share a scale, the side of the block for FP8 in blocks; -1 for a whole row, 0 for a whole tensor
	Symmetric   bool   // no zero points
	ActOrder    bool   // columns belong to groups in an order of their own
	Indexed     bool   // the group of each column is stored, in order or not
	Activations string // "" as they are, else when and by what they are quantized: "dynamic token", "static tensor", "dynamic group"
	// Scales is the type of the stored scales, Invalid where it is not known. Global is the scale of a whole tensor, 0 where there is
	// none or it was not read.
	Scales formats.DType
	Global float32
}

// integer reports whether the weight is integer codes that kernels read with activations in 16 bits.
func (f WeightFormat) integer() bool {
	return f.Activations == "" && (f.Layout == layoutPack || f.Method == methodGPTQ || f.Method == methodAWQ)
}

// block reports whether scales belong to square blocks.
func (f WeightFormat) block() bool {
	return f.Group > 0 && (f.Method == methodFP8 || f.Layout == layoutFloat)
}

// The methods and layouts that rules name.
const (
	methodCT       = "compressed-tensors"
	methodGPTQ     = "gptq"
	methodAWQ      = "awq"
	methodFP8      = "fp8"
	methodModelOpt = "modelopt"
	methodGGUF     = "gguf"

	layoutPack  = outputPacked
	layoutInt   = "int-quantized"
	layoutFloat = "float-quantized"
	layoutNVFP4 = "nvfp4-pack-quantized"
	layoutMXFP4 = "mxfp4-pack-quantized"
	layoutMXFP8 = "mxfp8-quantized"
)

// planned describes the result of a decision; q is nil where nothing is quantized. A decision that names no module holds for all.
func planned(m *arch.Model, q *quantDecision) *Candidate {
	c := &Candidate{Model: m}
	if !q.packs() {
		return c
	}
	f := WeightFormat{Method: methodCT, Layout: q.Output, Bits: q.Bits, Group: q.Group, Symmetric: q.Symmetric, Scales: q.scales()}
	switch q.Output {
	case formatGPTQ, formatGPTQv2:
		f.Method, f.Indexed = methodGPTQ, true
	case formatAWQ:
		f.Method = methodAWQ
	}
	c.Weights = func(lin arch.Linear) (WeightFormat, bool) {
		ok := lin.Present() && (len(q.Modules) == 0 || q.has(lin.Module()))
		return f, ok
	}
	return c
}

// facts reads config.json once.
func (c *Candidate) facts() *configFacts {
	if c.config == nil {
		c.config = readConfigFacts(json.RawMessage(c.Config))
	}
	return c.config
}
