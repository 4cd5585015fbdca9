package packed

import "encoding/json"

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
	QuantMethod            string          `json:"quant_method"`
	QuantizationStatus     string          `json:"quantization_status"`
	SparsityConfig         json.RawMessage `json:"sparsity_config"`
	TransformConfig        json.RawMessage `json:"transform_config"`
	Version                string          `json:"version"`
}

const (
	packQuantized = "pack-quantized"
	intQuantized  = "int-quantized"
)

// Config returns the value of the key quantization_config of config.json for a checkpoint in which every Linear module is
// packed under the scheme except those in ignore (module names, class names or "re:" patterns). All keys are written, in
// sorted order. Two settings need a word: actorder stays null since groups lie in column order on disk whatever order
// they were quantized in, and scale_dtype null means the type of the scales as stored.
func Config(s Scheme, ignore []string) json.RawMessage {
	ptr := func(v string) *string { return &v }
	w := &args{
		BlockStructure: json.RawMessage("null"), Dynamic: json.RawMessage("false"), NumBits: s.Bits,
		Observer: ptr("memoryless_minmax"), ObserverKwargs: json.RawMessage("{}"), Strategy: ptr("channel"),
		Symmetric: &s.Symmetric, Type: ptr("int"),
	}
	if s.GroupSize != -1 {
		w.Strategy, w.GroupSize = ptr("group"), &s.GroupSize
	}
	if !s.Symmetric {
		w.ZPDType = ptr("torch.int8")
	}
	if ignore == nil {
		ignore = []string{}
	}
	c := config{
		ConfigGroups: orderedGroups{{"group_0", group{Format: ptr(packQuantized), Targets: []string{"Linear"}, Weights: w}}},
		Format:       packQuantized, Ignore: ignore, QuantMethod: "compressed-tensors", QuantizationStatus: "compressed",
		SparsityConfig: json.RawMessage("{}"), TransformConfig: json.RawMessage("{}"), Version: Version,
	}
	b, err := json.Marshal(c)
	if err != nil {
		panic("packed: " + err.Error()) // plain strings and numbers always marshal
	}
	return b
}
