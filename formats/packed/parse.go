package packed

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"
)

// rules say which modules of a checkpoint are quantized, and how.
type rules struct {
	groups []ruleGroup
	halves bool // weights of type U8 hold codes of 4 bits
	ignore []target
}

type ruleGroup struct {
	name    string
	targets []target
	stored
}

// stored is how the modules of a group lie in the file.
type stored struct {
	format  string
	Scheme          // of integer codes
	ordered bool    // actorder "group": column i belongs to group g_idx[i]
	float   *layout // of codes that are floats
	static  bool    // activations have scales in the file
}

// parseRules reads quantization_config and refuses all that a dense view of the weights would not be faithful to.
func parseRules(raw json.RawMessage) (*rules, error) {
	var c config
	if err := json.Unmarshal(raw, &c); err != nil {
		return nil, err
	}
	switch {
	case c.QuantMethod == methodOwn:
	case c.QuantMethod == methodFP8:
		return parseFP8(raw)
	case c.QuantMethod == methodModelOpt, c.QuantMethod == "" && c.Quantization != nil:
		return parseModelOpt(raw)
	default:
		return nil, fmt.Errorf("quant_method %.40q; this reader knows compressed-tensors, fp8 and modelopt", c.QuantMethod)
	}
	if err := c.unsupported(); err != nil {
		return nil, err
	}
	if len(c.ConfigGroups) == 0 {
		return nil, errors.New("config_groups is missing or empty")
	}
	r := &rules{}
	var err error
	if r.ignore, err = parseTargets(c.Ignore); err != nil {
		return nil, fmt.Errorf("ignore: %w", err)
	}
	for _, g := range c.ConfigGroups {
		rg := ruleGroup{name: g.name}
		if rg.stored, err = g.group.stored(c.Format); err != nil {
			return nil, fmt.Errorf("config_groups %.40q: %w", g.name, err)
		}
		if rg.targets, err = parseTargets(g.Targets); err != nil {
			return nil, fmt.Errorf("config_groups %.40q: targets: %w", g.name, err)
		}
		r.groups = append(r.groups, rg)
	}
	return r, nil
}

var errCache = errors.New("kv_cache_scheme: a quantized KV cache has no dense form")

func (c *config) unsupported() error {
	if s := c.QuantizationStatus; s != "" && s != "compressed" {
		return fmt.Errorf("quantization_status %.40q; weights are readable in status compressed", s)
	}
	if c.KVCacheScheme != nil {
		return errCache
	}
	if !emptyObject(c.SparsityConfig) {
		var sparse struct {
			Format string `json:"format"`
		}
		if err := json.Unmarshal(c.SparsityConfig, &sparse); err != nil || sparse.Format != "" && sparse.Format != "dense" {
			return fmt.Errorf("sparsity_config: format %.40q is not supported", sparse.Format)
		}
	}
	return c.onlineTransforms()
}

// onlineTransforms refuses rotations that a runtime applies to activations; those of weights are already in the weights.
func (c *config) onlineTransforms() error {
	if emptyObject(c.TransformConfig) {
		return nil
	}
	var t struct {
		Groups map[string]struct {
			Apply []struct {
				Location string `json:"location"`
			} `json:"apply"`
		} `json:"config_groups"`
	}
	if err := json.Unmarshal(c.TransformConfig, &t); err != nil {
		return fmt.Errorf("transform_config: %w", err)
	}
	for _, g := range t.Groups {
		for _, a := range g.Apply {
			if a.Location != "weight_input" && a.Location != "weight_output" {
				return errors.New("transform_config: transforms of activations are not supported")
			}
		}
	}
	return nil
}

func emptyObject(raw json.RawMessage) bool {
	s := strings.Join(strings.Fields(string(raw)), "")
	return s == "" || s == "null" || s == "{}"
}

// target matches modules by name, by class ("Linear") or by a pattern.
type target struct {
	name string
	re   *regexp.Regexp
}

func parseTargets(list []string) ([]target, error) {
	targets := make([]target, len(list))
	for i, t := range list {
		pattern, ok := strings.CutPrefix(t, "re:")
		if !ok {
			targets[i].name = t
			continue
		}
		// Python's re.match anchors at the start alone.
		re, err := regexp.Compile("^(?:" + pattern + ")")
		if err != nil {
			return nil, fmt.Errorf("pattern %.60q: %w", pattern, err)
		}
		targets[i].re = re
	}
	return targets, nil
}

func (t target) matches(module string) bool {
	if t.re != nil {
		return t.re.MatchString(module)
	}
	return t.name == module
}

// find returns how a quantized module is stored: by the first group, in the order of the file, that names it. A module that
// has packed codes is a Linear, whatever its class is called in the program that wrote it.
func (r *rules) find(module string) (stored, error) {
	for _, t := range r.ignore {
		if t.matches(module) {
			return stored{}, errors.New("module is quantized although quantization_config ignores it")
		}
	}
	for _, g := range r.groups {
		for _, t := range g.targets {
			if t.matches(module) || t.re == nil && t.name == "Linear" {
				return g.stored, nil
			}
		}
	}
	return stored{}, errors.New("module is quantized although no entry of config_groups names it")
}
