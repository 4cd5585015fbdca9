package pipeline

import (
	"fmt"
	"sort"
	"strings"
)

// What a verdict says.
const (
	VerdictLoads   = "loads"         // no rule that is known is broken
	VerdictIf      = "loads_if"      // it loads under the conditions that are named
	VerdictNot     = "does_not_load" // a rule is broken: it fails to load, or loads and computes something else
	VerdictUnknown = "not_known"     // what decides it has not been looked at
)

// notKnown stands for a version of which nothing is known.
const notKnown = "not known"

// Verdict is whether a runtime loads a checkpoint, as far as the rules of its loader are known.
type Verdict struct {
	Name       string    `json:"name"`
	Verdict    string    `json:"verdict"`     // VerdictLoads, VerdictIf, VerdictNot, VerdictUnknown
	Loads      bool      `json:"loads"`       // no rule is broken
	MinVersion string    `json:"min_version"` // the oldest release or build that is known to load it; "not known"
	Violations []Finding `json:"violations,omitempty"`
	Conditions []Finding `json:"conditions,omitempty"`
	Unknown    []Finding `json:"unknown,omitempty"`
	Notes      []string  `json:"notes,omitempty"`
	// TensorParallel has an entry for 1, 2, 4, 8 and 16 ranks, for the runtimes that split a model over them and where it loads.
	TensorParallel []ParallelSize `json:"tensor_parallel,omitempty"`
}

// Finding is one rule that bears on a verdict: what it is about, what the loader does, and what to do.
type Finding struct {
	ID     string `json:"id"`               // of the rule, as docs/TARGETS.md lists them
	Tensor string `json:"tensor,omitempty"` // that breaks it
	Key    string `json:"key,omitempty"`    // of config.json, or the file, that breaks it
	Rule   string `json:"rule"`
	Fix    string `json:"fix"`
}

// ParallelSize is whether the weights split over a number of ranks.
type ParallelSize struct {
	Size   int    `json:"size"`
	Works  bool   `json:"works"`
	Tensor string `json:"tensor,omitempty"` // the first that does not
	Reason string `json:"reason,omitempty"`
}

// Verdicts returns the verdict of each target on a checkpoint, sorted by name; it computes nothing and reads no tensor. Targets are
// those that recipes have.
func Verdicts(c *Candidate, targets []string) []Verdict {
	list := []Verdict{}
	for _, name := range uniqueStrings(append([]string{}, targets...)) {
		k := c.checker(name)
		k.all()
		list = append(list, k.verdict())
	}
	sort.Slice(list, func(i, j int) bool { return list[i].Name < list[j].Name })
	return list
}

// verdict sums up what was found.
func (c *checker) verdict() Verdict {
	v := Verdict{Name: c.target, Notes: c.notes}
	for _, f := range c.found {
		switch f.level {
		case levelRefuse:
			v.Violations = append(v.Violations, f.Finding)
		case levelCondition:
			v.Conditions = append(v.Conditions, f.Finding)
		default:
			v.Unknown = append(v.Unknown, f.Finding)
		}
	}
	v.Loads = len(v.Violations) == 0
	switch {
	case !v.Loads:
		v.Verdict = VerdictNot
	case len(v.Unknown) > 0:
		v.Verdict = VerdictUnknown
	case len(v.Conditions) > 0:
		v.Verdict = VerdictIf
	default:
		v.Verdict = VerdictLoads
	}
	v.MinVersion = notKnown
	if v.Loads {
		v.TensorParallel = c.parallelSizes()
	}
	if v.Loads && len(v.Unknown) == 0 {
		v.MinVersion = c.minVersion()
	}
	return v
}

// text is the rule with the key that it is about.
func (f Finding) text() string {
	if f.Key == "" {
		return f.Rule
	}
	return fmt.Sprintf("%s: %s", f.Key, f.Rule)
}

// Words says the verdict to people.
func (v Verdict) Words() string { return strings.ReplaceAll(v.Verdict, "_", " ") }
