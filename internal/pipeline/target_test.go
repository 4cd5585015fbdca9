package pipeline

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"modelpress/internal/arch"
	"modelpress/internal/testmodel"
)

// ruleCase is a candidate that one rule bears on: what is found, at which level, and where.
type ruleCase struct {
	id, target string
	level      level
	where      string // of tensor or key, a part
	rule, fix  string // parts
	model      testmodel.Options
	weights    func(m *arch.Model) func(arch.Linear) (WeightFormat, bool)
	config     string // keys that config.json has besides
	edit       func(c *Candidate)
}

// candidate makes what a case looks at; by default a model of even shapes, plain, with tokenizer and template.
func (c *ruleCase) candidate(t *testing.T) *Candidate {
	t.Helper()
	o := c.model
	if o.D == 0 {
		o.D, o.H, o.G, o.K, o.F = 256, 4, 2, 64, 512
	}
	o.V, o.Seed = 64, 1
	tm := testmodel.New(o)
	m, err := arch.Describe(tm.Config, tm)
	if err != nil {
		t.Fatal(err)
	}
	config := tm.Config
	if c.config != "" {
		config = []byte(strings.TrimSuffix(strings.TrimSpace(string(config)), "}") + "," + c.config + "}")
	}
	out := &Candidate{Model: m, Config: config, Tokenizer: true, ChatTemplate: true, Shards: []ShardMetadata{{"model.safetensors", map[string]string{"format": "pt"}}}}
	if c.weights != nil {
		out.Weights = c.weights(m)
	}
	if c.edit != nil {
		c.edit(out)
	}
	return out
}

// all stores every projection in one format; part only those of some roles.
func all(f WeightFormat) func(*arch.Model) func(arch.Linear) (WeightFormat, bool) {
	return func(*arch.Model) func(arch.Linear) (WeightFormat, bool) {
		return func(lin arch.Linear) (WeightFormat, bool) { return f, lin.Present() }
	}
}

func part(f WeightFormat, roles ...arch.Role) func(*arch.Model) func(arch.Linear) (WeightFormat, bool) {
	return mix(func(_ int, r arch.Role) (WeightFormat, bool) { return f, slices.Contains(roles, r) })
}

func mix(of func(layer int, r arch.Role) (WeightFormat, bool)) func(*arch.Model) func(arch.Linear) (WeightFormat, bool) {
	return func(m *arch.Model) func(arch.Linear) (WeightFormat, bool) {
		stored := map[string]WeightFormat{}
		for l := range m.Layers {
			for r, lin := range m.Layers[l].Linears {
				if f, ok := of(l, arch.Role(r)); ok && lin.Present() {
					stored[lin.Weight] = f
				}
			}
		}
		return func(lin arch.Linear) (WeightFormat, bool) { f, ok := stored[lin.Weight]; return f, ok }
	}
}

func ct(layout string, bits, group int, symmetric bool) WeightFormat {
	return WeightFormat{Method: methodCT, Layout: layout, Bits: bits, Group: group, Symmetric: symmetric}
}

func gptqOf(bits, group int, symmetric bool) WeightFormat {
	return WeightFormat{Method: methodGPTQ, Layout: methodGPTQ, Bits: bits, Group: group, Symmetric: symmetric, Indexed: true}
}

func (f WeightFormat) with(edit func(*WeightFormat)) WeightFormat { edit(&f); return f }

func inputs(s string) func(*WeightFormat) { return func(f *WeightFormat) { f.Activations = s } }

var (
	pack4  = ct(layoutPack, 4, 128, true)
	int8s  = ct(layoutInt, 8, -1, true).with(inputs("dynamic token"))
	fp8row = ct(layoutFloat, 8, -1, true).with(inputs("dynamic token"))
	fp8blk = ct(layoutFloat, 8, 128, true).with(inputs("dynamic group"))
	nvfp4s = ct(layoutNVFP4, 4, 16, true)
	mxfp4s = ct(layoutMXFP4, 4, 32, true)
	awq4   = WeightFormat{Method: methodAWQ, Layout: methodAWQ, Bits: 4, Group: 128}
	fp8ds  = WeightFormat{Method: methodFP8, Layout: methodFP8, Bits: 8, Group: 128, Symmetric: true, Activations: "dynamic group"}
)

// TestRules looks at every rule by a candidate that it bears on, and sees that it is not found on one without the fault.
func TestRules(t *testing.T) {
	seen := map[string]bool{ruleMergedPower: true, ruleMergedParallel: true} // TestMergedRules has these
	for _, c := range ruleCases() {
		seen[c.id] = true
		v := Verdicts(c.candidate(t), []string{c.target})[0]
		list, verdict := v.Violations, VerdictNot
		switch c.level {
		case levelCondition:
			list, verdict = v.Conditions, VerdictIf
		case levelUnsure:
			list, verdict = v.Unknown, VerdictUnknown
		}
		i := slices.IndexFunc(list, func(f Finding) bool {
			return f.ID == c.id && strings.Contains(f.Tensor+" "+f.Key, c.where) && strings.Contains(f.Rule, c.rule) && strings.Contains(f.Fix, c.fix)
		})
		if i < 0 || v.Verdict != verdict || v.Loads != (c.level != levelRefuse) {
			t.Errorf("%s for %s: %s\n%+v", c.id, c.target, v.Verdict, v)
			continue
		}
		if f := list[i]; f.Rule == "" || f.Fix == "" || (c.where == "") != (f.Tensor+f.Key == "") {
			t.Errorf("%s for %s: %+v", c.id, c.target, f)
		}
		sound := (&ruleCase{}).candidate(t)
		for _, f := range slices.Concat(Verdicts(sound, []string{c.target})[0].Violations, Verdicts(sound, []string{c.target})[0].Conditions) {
			t.Errorf("%s: a sound checkpoint breaks %+v", c.target, f)
		}
	}
	code, err := os.ReadFile("targetrules.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile(`(?m)^\trule\w+ += "(\w+)"$`).FindAllStringSubmatch(string(code), -1) {
		if !seen[m[1]] {
			t.Errorf("no case for rule %s", m[1])
		}
	}
}

func containsText(lines []string, part string) bool {
	return part == "" || slices.ContainsFunc(lines, func(l string) bool { return strings.Contains(l, part) })
}
