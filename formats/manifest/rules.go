package manifest

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// Rule chooses a policy for sequences up to MaxLen tokens; MaxLen 0 stands for any length.
type Rule struct {
	MaxLen int    `json:"max_len,omitempty"`
	Use    string `json:"use"`
}

// Rules choose a policy by length: the first whose MaxLen is not exceeded applies. In JSON a single rule for every length is
// the name of its policy; anything else is a list. No rules mean the default.
type Rules []Rule

// Always returns the rules that use one policy at every length.
func Always(policy string) Rules { return Rules{{Use: policy}} }

// MarshalJSON writes a name or a list.
func (r Rules) MarshalJSON() ([]byte, error) {
	if len(r) == 1 && r[0].MaxLen == 0 {
		return json.Marshal(r[0].Use)
	}
	return json.Marshal([]Rule(r))
}

// UnmarshalJSON reads a name or a list.
func (r *Rules) UnmarshalJSON(data []byte) error {
	data = bytes.TrimSpace(data)
	if len(data) == 0 || string(data) == "null" {
		return fmt.Errorf("rules are neither a name nor a list")
	}
	if data[0] == '"' {
		var use string
		if err := json.Unmarshal(data, &use); err != nil {
			return err
		}
		*r = Always(use)
		return nil
	}
	var list []ruleJSON
	if err := json.Unmarshal(data, &list); err != nil {
		return err
	}
	out := make(Rules, len(list))
	for i, e := range list {
		out[i].Use = e.Use
		if e.MaxLen != nil {
			if *e.MaxLen <= 0 {
				return fmt.Errorf("max_len %d, want at least 1", *e.MaxLen)
			}
			out[i].MaxLen = *e.MaxLen
		}
	}
	*r = out
	return nil
}

type ruleJSON struct {
	MaxLen *int   `json:"max_len"`
	Use    string `json:"use"`
}

// at returns the policy for a length, "" where there are no rules.
func (r Rules) at(length int) string {
	for _, rule := range r {
		if rule.MaxLen == 0 || length <= rule.MaxLen {
			return rule.Use
		}
	}
	return ""
}

// validate reports an order in which some rule cannot apply, or no rule for long sequences.
func (r Rules) validate(v *validator, path string) {
	for i, rule := range r {
		at := fmt.Sprintf("%s[%d]", path, i)
		last := i == len(r)-1
		v.check(!last || rule.MaxLen == 0, at, "the last rule has a max_len")
		v.check(last || rule.MaxLen > 0, at, "a rule without max_len is not the last")
		v.check(i == 0 || rule.MaxLen == 0 || rule.MaxLen > r[i-1].MaxLen, at, "max_len does not ascend")
	}
}
