package packed

import (
	"encoding/json"
	"fmt"

	"modelpress/formats"
)

// Version is the release of compressed-tensors whose schema [Config] follows. Readers record it and do not act on it.
const Version = "0.18.0"

// args are the fields of QuantizationArgs, all of them: readers refuse any other.
type args struct {
	ActOrder       *string         `json:"actorder"`
	BlockStructure json.RawMessage `json:"block_structure"`
	Dynamic        json.RawMessage `json:"dynamic"`
	GroupSize      *int            `json:"group_size"`
	NumBits        int             `json:"num_bits"`
	Observer       *string         `json:"observer"`
	ObserverKwargs json.RawMessage `json:"observer_kwargs"`
	ScaleDType     *string         `json:"scale_dtype"`
	Strategy       *string         `json:"strategy"`
	Symmetric      *bool           `json:"symmetric"`
	Type           *string         `json:"type"`
	ZPDType        *string         `json:"zp_dtype"`
}

// group is one QuantizationScheme: the modules that targets name and how their weights and activations are stored.
type group struct {
	Format            *string  `json:"format"`
	InputActivations  *args    `json:"input_activations"`
	OutputActivations *args    `json:"output_activations"`
	Targets           []string `json:"targets"`
	Weights           *args    `json:"weights"`
}

// config is the whole of quantization_config.
type config struct {
	ConfigGroups           orderedGroups   `json:"config_groups"`
	Format                 string          `json:"format"`
	GlobalCompressionRatio *float64        `json:"global_compression_ratio"`
	Ignore                 []string        `json:"ignore"`
	KVCacheScheme          *args           `json:"kv_cache_scheme"`
	Quantization           json.RawMessage `json:"-"` // of hf_quant_config.json, which ModelOpt writes
	QuantMethod            string          `json:"quant_method"`
	QuantizationStatus     string          `json:"quantization_status"`
	SparsityConfig         json.RawMessage `json:"sparsity_config"`
	TransformConfig        json.RawMessage `json:"transform_config"`
	Version                string          `json:"version"`
}

// Setting is one of [PackQuantized], [IntQuantized] and [Float].
type Setting interface {
	// Check reports why a weight [out, in] cannot be stored, nil if it can.
	Check(out, in int64) error
	// Tensors lists what is stored for the weight of a linear module, sorted by name. The weight must have passed Check.
	Tensors(module string, out, in int64) []formats.TensorInfo
	group() group
}

// GroupConfig is an entry of config_groups: the modules that a setting is for.
type GroupConfig struct {
	Targets []string // module names, class names or "re:" patterns; nil for all of class Linear
	Setting Setting
}

// Config returns the value of the key quantization_config of config.json for a checkpoint whose modules are stored as groups say,
// the first that names a module, except those in ignore (module names, class names or "re:" patterns). There must be one group at
// least. All keys are written, in sorted order. The format of groups that differ in it is "mixed-precision". Two settings need a
// word: actorder is null without an order of columns on disk, whatever order they were quantized in, and scale_dtype null means
// the type of the scales as stored.
func Config(groups []GroupConfig, ignore []string) json.RawMessage {
	if ignore == nil {
		ignore = []string{}
	}
	c := config{
		Ignore: ignore, QuantMethod: methodOwn, QuantizationStatus: "compressed",
		SparsityConfig: json.RawMessage("{}"), TransformConfig: json.RawMessage("{}"), Version: Version,
	}
	for i, g := range groups {
		e := namedGroup{fmt.Sprintf("group_%d", i), g.Setting.group()}
		e.Targets = g.Targets
		if e.Targets == nil {
			e.Targets = []string{"Linear"}
		}
		if i == 0 {
			c.Format = *e.Format
		}
		if c.Format != *e.Format {
			c.Format = formatMixed
		}
		c.ConfigGroups = append(c.ConfigGroups, e)
	}
	b, err := json.Marshal(c)
	if err != nil {
		panic("packed: " + err.Error()) // plain strings and numbers always marshal
	}
	return b
}
