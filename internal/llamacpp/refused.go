package llamacpp

import (
	"fmt"

	"modelpress/formats"
)

// Refused is in the chain of the error for a model that llama.cpp would not load, or would load and compute wrongly.
type Refused struct {
	Rule string // of llama.cpp, and what breaks it
	Fix  string // what can be done about it
}

// Error implements error.
func (r *Refused) Error() string { return r.Rule + "; fix: " + r.Fix }

const configFile = "config.json"

// refuse returns the error of a rule that a model's configuration breaks.
func refuse(fix, rule string, args ...any) error {
	return formats.Errorf(configFile, "", "llama.cpp: %w", &Refused{Rule: fmt.Sprintf(rule, args...), Fix: fix})
}
