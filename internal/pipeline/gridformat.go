package pipeline

import (
	"encoding/json"
	"slices"

	"modelpress/formats"
	"modelpress/formats/awq"
	"modelpress/formats/gptq"
	"modelpress/formats/packed"
)

// The formats of quantized weights that a recipe may ask for.
const (
	formatPacked = "compressed-tensors"
	formatGPTQ   = "gptq"
	formatGPTQv2 = "gptq_v2"
	formatAWQ    = "awq"
)

// gptqConfigName is where some loaders of GPTQ look for what config.json says too.
const gptqConfigName = "quantize_config.json"

// format is the one that the section names.
func (q *Quantize) format() string {
	if q.Format == "" {
		return formatPacked
	}
	return q.Format
}

// output is the form in which the weights are written.
func (q *Quantize) output() string {
	switch f := q.format(); {
	case f != formatPacked:
		return f
	case q.Bits == 2 || q.Bits == 3:
		return outputDequantized
	}
	return outputPacked
}

// packs reports whether codes are written, and not the values that they stand for. There may be no quantization.
func (q *quantDecision) packs() bool { return q != nil && q.Output != outputDequantized }

// formatName names the format of the result for people and plans.
func (q *quantDecision) formatName() string {
	if q.Output == outputPacked {
		return formatPacked + "/" + outputPacked
	}
	return q.Output
}

// grid is how codes are stored.
func (q *quantDecision) grid() formats.AffineFormat {
	switch q.Output {
	case formatGPTQ, formatGPTQv2:
		return q.gptq()
	case formatAWQ:
		return awq.Format{Group: q.Group, Symmetric: q.Symmetric}
	}
	return q.packed()
}

func (q *quantDecision) gptq() gptq.Format {
	return gptq.Format{Bits: q.Bits, Group: q.Group, V2: q.Output == formatGPTQv2, Symmetric: q.Symmetric}
}

func (q *quantDecision) packed() packed.PackQuantized {
	return packed.PackQuantized{Scheme: packed.Scheme{Bits: q.Bits, GroupSize: q.Group, Symmetric: q.Symmetric}, Scales: q.store()}
}

// scales is the type that scales are stored in, of which every scale is a value.
func (q *quantDecision) scales() formats.DType {
	if q.Output == outputPacked || q.Output == outputDequantized {
		return q.store()
	}
	return formats.F16
}

// plain are the modules that are not quantized, also by the names that runtimes give them.
func (q *quantDecision) plain() []string {
	return slices.Concat([]string{headModule}, q.Ignored, q.Fused)
}

// config is the value of quantization_config.
func (q *quantDecision) config() (json.RawMessage, error) {
	plain := q.plain()
	switch q.Output {
	case formatGPTQ, formatGPTQv2:
		return q.gptq().Config(q.Modules, plain), nil
	case formatAWQ:
		return awq.Format{Group: q.Group, Symmetric: q.Symmetric}.Config(q.Modules, plain)
	}
	return packed.Config([]packed.GroupConfig{{Setting: q.packed()}}, plain), nil
}

// configFiles are the files beside config.json that say the same.
func (q *quantDecision) configFiles() map[string][]byte {
	if q == nil || q.Output != formatGPTQ && q.Output != formatGPTQv2 {
		return nil
	}
	return map[string][]byte{gptqConfigName: append(q.gptq().Config(q.Modules, q.plain()), '\n')}
}
