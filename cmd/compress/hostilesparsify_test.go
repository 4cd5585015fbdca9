package main

import (
	"encoding/json"
	"math"
	"strings"
	"testing"

	"modelpress/formats/planfile"
)

const (
	hostileSparse    = "calibration: {sequences: 6, holdout: 2, length: 32}\nsparsify: {pattern: '2:4'}\n"
	hostileSparseAll = "calibration: {sequences: 6, holdout: 2, length: 32}\nsparsify: {method: wanda, ratio: 0.5}\n"
)

// hostileSparsifies are decisions of the step sparsify that no planning makes.
var hostileSparsifies = []hostilePlan{
	{"untouched", func(*testing.T, *planfile.Plan) {}, 0, ""},
	{"a newer step", func(_ *testing.T, p *planfile.Plan) { p.Steps[0].Version = 99 }, 5, "version 99"},
	{"a decision that is null", func(_ *testing.T, p *planfile.Plan) { p.Steps[0].Decision = json.RawMessage(`null`) }, 5, notFollow},
	{"a decision of nothing", func(_ *testing.T, p *planfile.Plan) { p.Steps[0].Decision = json.RawMessage(`{}`) }, 5, notFollow},
	{"a decision of another shape", func(_ *testing.T, p *planfile.Plan) { p.Steps[0].Decision = json.RawMessage(`{"colour":1}`) }, 5, "colour"},
	{"method unknown", decision(0, `"method":"sparsegpt"`, `"method":"magic"`), 5, notFollow},
	{"another method", decision(0, `"method":"sparsegpt"`, `"method":"magnitude"`), 5, notFollow},
	{"pattern unknown", decision(0, `"pattern":"2:4"`, `"pattern":"4:2"`), 5, notFollow},
	{"another pattern", decision(0, `"pattern":"2:4"`, `"pattern":"1:4"`), 5, notFollow},
	{"pattern without end", decision(0, `"pattern":"2:4"`, `"pattern":"2:9223372036854775807"`), 5, notFollow},
	{"a share of nothing", decision(0, `"ratio":0.5`, `"ratio":0`), 5, notFollow},
	{"a share past all", decision(0, `"ratio":0.5`, `"ratio":1e308`), 5, notFollow},
	{"a share that is no number", decision(0, `"ratio":0.5`, `"ratio":"half"`), 5, ""},
	{"rows of a pattern", decision(0, `"block":128`, `"block":128,"per":"row"`), 5, notFollow},
	{"block 0", decision(0, `"block":128`, `"block":0`), 5, notFollow},
	{"block negative", decision(0, `"block":128`, `"block":-128`), 5, notFollow},
	{"block huge", decision(0, `"block":128`, `"block":9223372036854775807`), 5, notFollow},
	{"damp negative", decision(0, `"damp":0.01`, `"damp":-5`), 5, notFollow},
	{"damp huge", decision(0, `"damp":0.01`, `"damp":1e308`), 5, notFollow},
	{"a module that is not there", decision(0, `"modules":["model.layers.0.self_attn.q_proj"`, `"modules":["model.layers.0.self_attn.z_proj"`), 5, notFollow},
	{"one module less", decision(0, `"modules":["model.layers.0.self_attn.q_proj",`, `"modules":[`), 5, notFollow},
	{"modules that are null", func(t *testing.T, p *planfile.Plan) {
		var d map[string]json.RawMessage
		if err := json.Unmarshal(p.Steps[0].Decision, &d); err != nil {
			t.Fatal(err)
		}
		d["modules"] = json.RawMessage(`null`)
		raw, err := json.Marshal(d)
		if err != nil {
			t.Fatal(err)
		}
		p.Steps[0].Decision = raw
	}, 5, notFollow},
	{"another pattern in the settings", setting(`"pattern":"2:4"`, `"pattern":"4:8"`), 5, notFollow},
	{"a pattern that is not known in the settings", setting(`"pattern":"2:4"`, `"pattern":"2:4:8"`), 5, "sparsify.pattern"},
	{"a share left open in the settings", setting(`"ratio":0.5`, `"ratio":null`), 5, "sparsify.ratio NaN"},
	{"another share in the settings", setting(`"ratio":0.5`, `"ratio":0.25`), 5, "pattern 2:4 leaves out 0.5"},
	{"a block of no groups in the settings", setting(`"block":128`, `"block":126`), 5, "want a multiple of 4"},
	{"a block without end in the settings", setting(`"block":128`, `"block":9223372036854775804`), 5, "sparsify.block 9223372036854775804"},
	{"a pattern that does not divide, in both", func(t *testing.T, p *planfile.Plan) {
		for _, raw := range []*json.RawMessage{&p.Steps[0].Decision, &p.Recipe.Settings} {
			replaceRaw(t, raw, `"pattern":"2:4"`, `"pattern":"2:5"`)
			replaceRaw(t, raw, `"ratio":0.5`, `"ratio":0.6`)
			replaceRaw(t, raw, `"block":128`, `"block":125`)
		}
	}, 5, "64 inputs do not divide into groups of 5"},
	{"quantization besides", setting(`"sparsify":{`, `"quantize":{"method":"rtn","bits":4,"group_size":32,"symmetric":true,"clip":true,"act_order":false,"damp":0.01,"rotate":"none","ignore":[]},"sparsify":{`), 5, "do not go into one recipe"},
	{"the section taken out", setting(`"sparsify":{`, `"sparsified":{`), 5, ""},
	{"the step taken out", func(_ *testing.T, p *planfile.Plan) {
		p.Steps = p.Steps[:0]
		for i := range p.Changes {
			p.Changes[i].Step = ""
		}
	}, 5, "do not agree on sparse weights"},
	{"calibration taken out", func(_ *testing.T, p *planfile.Plan) { p.Calibration = nil }, 5, "the plan names none"},
	{"the step twice", func(_ *testing.T, p *planfile.Plan) { p.Steps = append(p.Steps, p.Steps[0]) }, -1, ""},
}

func TestHostileSparsifies(t *testing.T) {
	runHostilePlans(t, hostile{recipe: hostileSparse, calib: true}, hostileSparsifies)
}

// TestHostileSparsifyValues: weights that leave nothing to measure, or too much, become sparse or are refused.
func TestHostileSparsifyValues(t *testing.T) {
	zeros := func(w []float32) { clear(w) }
	const oWeight, norm = "model.layers.0.self_attn.o_proj.weight", "model.layers.0.input_layernorm.weight"
	for _, c := range []hostile{
		{name: "NaN in a weight", values: value(qWeight, 70, nan), code: 4, want: weightFile + "|" + qWeight + "|70"},
		{name: "Inf in a weight", values: value(oWeight, 5, inf), code: 4, want: weightFile + "|" + oWeight + "|5"},
		{name: "weights of zeros are fine", values: values(qWeight, zeros)},
		{name: "embeddings of zeros are fine", values: values(embedded, zeros)},
		{name: "inputs of zeros are fine", values: values(norm, zeros)},
		{name: "the same word everywhere is fine", values: values(embedded, func(w []float32) { copyRows(w, 64) })},
		{name: "subnormal weights are fine", values: values(oWeight, func(w []float32) { fill(w, 1e-42) })},
		{name: "equal weights are fine", values: values(qWeight, func(w []float32) { fill(w, 0.5) })},
		{name: "largest f32 everywhere", values: values(oWeight, func(w []float32) { fill(w, math.MaxFloat32) }), code: exitInput},
	} {
		for _, way := range []struct{ name, recipe string }{{"sparsegpt", hostileSparse}, {"wanda", hostileSparseAll}} {
			t.Run(strings.ReplaceAll(c.name+" "+way.name, " ", "_"), func(t *testing.T) {
				h := c
				h.recipe, h.calib = way.recipe, true
				h.run(t)
			})
		}
	}
}
