package gptq

import (
	"encoding/json"
	"regexp"
	"strings"
)

// written is quantization_config as [Format.Config] writes it: the keys that AutoGPTQ, GPTQModel, vLLM and transformers read.
type written struct {
	Bits             int            `json:"bits"`
	CheckpointFormat string         `json:"checkpoint_format"`
	DescAct          bool           `json:"desc_act"`
	Dynamic          map[string]any `json:"dynamic,omitempty"`
	GroupSize        int            `json:"group_size"`
	LMHead           bool           `json:"lm_head"`
	PackDType        string         `json:"pack_dtype"`
	QuantMethod      string         `json:"quant_method"`
	Sym              bool           `json:"sym"`
}

// lmHead is the module that the key lm_head speaks of.
const lmHead = "lm_head"

// Config returns the value of the key quantization_config of config.json, which is also the content of quantize_config.json, for a checkpoint
// whose modules in quantized are stored in the format and whose linear modules in plain are not. Names in plain may be those that a runtime
// gives to modules which it fuses. The output head goes by the key lm_head, other plain modules by exclusions in dynamic.
func (f Format) Config(quantized, plain []string) json.RawMessage {
	c := written{
		Bits: f.Bits, CheckpointFormat: f.name(), DescAct: f.ActOrder, GroupSize: f.Group, PackDType: "int32", QuantMethod: "gptq",
		Sym: f.Symmetric,
	}
	for _, name := range quantized {
		c.LMHead = c.LMHead || isLMHead(name)
	}
	for _, name := range plain {
		if isLMHead(name) {
			continue
		}
		if c.Dynamic == nil {
			c.Dynamic = map[string]any{}
		}
		c.Dynamic["-:^"+regexp.QuoteMeta(name)+"$"] = struct{}{}
	}
	b, err := json.Marshal(c)
	if err != nil {
		panic("gptq: " + err.Error()) // plain strings and numbers always marshal
	}
	return b
}

func isLMHead(module string) bool { return module == lmHead || strings.HasSuffix(module, "."+lmHead) }
