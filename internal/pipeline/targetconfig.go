package pipeline

import (
	"encoding/json"
	"slices"
)

// configFacts is what config.json says that loaders go by and the description of the model does not hold. Keys of the wrong type
// count as missing: what reads the model has checked those that it needs.
type configFacts struct {
	keys       map[string]json.RawMessage
	layerTypes []string
	quant      quantFacts
}

func readConfigFacts(config json.RawMessage) *configFacts {
	f := &configFacts{}
	if len(config) == 0 || json.Unmarshal(config, &f.keys) != nil {
		return f
	}
	f.value("layer_types", &f.layerTypes)
	if raw := f.keys["quantization_config"]; len(raw) > 0 {
		f.quant = readQuantFacts(raw)
	} else if raw := f.keys["compression_config"]; len(raw) > 0 {
		f.quant = readQuantFacts(raw)
	}
	return f
}

// value decodes a key; v keeps what it has where the key is missing or of another type.
func (f *configFacts) value(key string, v any) {
	if raw := f.keys[key]; len(raw) > 0 {
		_ = json.Unmarshal(raw, v)
	}
}

// null reports whether a key is there and null.
func (f *configFacts) null(key string) bool {
	raw, ok := f.keys[key]
	return ok && string(raw) == "null"
}

// missing reports whether config.json was read and says nothing under a key.
func (f *configFacts) missing(key string) bool {
	return f.keys != nil && missingKey(f.keys, key)
}

// slides reports whether config.json asks for sliding windows, in all layers or in some.
func (f *configFacts) slides() bool {
	return f.keys != nil && (!missingKey(f.keys, "sliding_window") || slices.Contains(f.layerTypes, "sliding_attention"))
}

// quantFacts is what quantization_config says.
type quantFacts struct {
	method  string
	format  string // checkpoint_format of GPTQ
	groups  []quantGroup
	ignore  moduleMatcher
	online  []string // locations of transforms that a runtime applies
	scheme  string   // activation_scheme of quant_method fp8
	classes bool     // a group names modules by their class
}

// quantGroup is an entry of config_groups: the modules that it names and what becomes of their inputs.
type quantGroup struct {
	targets     moduleMatcher
	activations string
}

func readQuantFacts(raw json.RawMessage) quantFacts {
	type args struct {
		Dynamic  json.RawMessage `json:"dynamic"`
		Strategy string          `json:"strategy"`
	}
	type group struct {
		Targets []string `json:"targets"`
		Inputs  *args    `json:"input_activations"`
	}
	var c struct {
		Method    string                     `json:"quant_method"`
		Format    string                     `json:"checkpoint_format"`
		Scheme    string                     `json:"activation_scheme"`
		Groups    map[string]json.RawMessage `json:"config_groups"`
		Ignore    []string                   `json:"ignore"`
		Transform struct {
			Groups map[string]struct {
				Apply []struct {
					Location string `json:"location"`
				} `json:"apply"`
			} `json:"config_groups"`
		} `json:"transform_config"`
	}
	_ = json.Unmarshal(raw, &c)
	q := quantFacts{method: c.Method, format: c.Format, scheme: c.Scheme, ignore: newMatcher(c.Ignore)}
	for _, name := range sortedKeys(c.Groups) {
		var g group
		if json.Unmarshal(c.Groups[name], &g) != nil {
			continue
		}
		m := quantGroup{targets: newMatcher(g.Targets)}
		q.classes = q.classes || m.targets.exact["Linear"]
		if a := g.Inputs; a != nil {
			when := "dynamic"
			if d := string(a.Dynamic); d == "" || d == "false" || d == "null" {
				when = "static"
			}
			m.activations = when + " " + a.Strategy
		}
		q.groups = append(q.groups, m)
	}
	for _, name := range sortedKeys(c.Transform.Groups) {
		for _, a := range c.Transform.Groups[name].Apply {
			if a.Location != "weight_input" && a.Location != "weight_output" && !slices.Contains(q.online, a.Location) {
				q.online = append(q.online, a.Location)
			}
		}
	}
	return q
}

// group returns the entry of config_groups that names a module, which runtimes call a Linear; nil where none does.
func (q *quantFacts) group(module string) *quantGroup {
	for i := range q.groups {
		if t := &q.groups[i].targets; t.matches(module) || t.exact["Linear"] {
			return &q.groups[i]
		}
	}
	return nil
}

// activations says what becomes of the inputs of a quantized module.
func (q *quantFacts) activations(module string) string {
	if q.method == methodFP8 {
		if q.scheme == "static" {
			return "static tensor"
		}
		return "dynamic group"
	}
	if g := q.group(module); g != nil {
		return g.activations
	}
	return ""
}

// targets reports whether the config says that a module is quantized; unsure where a pattern of Python has no meaning here.
func (q *quantFacts) targets(module string) (yes, unsure bool) {
	g := q.group(module)
	if g == nil || q.ignore.matches(module) {
		return false, false
	}
	return true, q.ignore.unread || g.targets.unread
}
