package main

import (
	"encoding/json"
	"math"
	"strings"
	"testing"

	"modelpress/formats/planfile"
)

const hostileDistill = "calibration: {sequences: 6, holdout: 2, length: 32}\ndistill: {steps: 2, batch: 2, hidden: {layers: [[0, 1]]}}\n"

// hostileDistills are decisions of the step distill that no planning makes.
var hostileDistills = []hostilePlan{
	{"untouched", func(*testing.T, *planfile.Plan) {}, 0, ""},
	{"a newer step", func(_ *testing.T, p *planfile.Plan) { p.Steps[0].Version = 99 }, 5, "version 99"},
	{"a decision that is null", func(_ *testing.T, p *planfile.Plan) { p.Steps[0].Decision = json.RawMessage(`null`) }, 5, ""},
	{"a decision of nothing", func(_ *testing.T, p *planfile.Plan) { p.Steps[0].Decision = json.RawMessage(`{}`) }, 5, notFollow},
	{"a decision of another shape", func(_ *testing.T, p *planfile.Plan) { p.Steps[0].Decision = json.RawMessage(`{"colour":1}`) }, 5, "colour"},
	{"other windows", field(0, "windows", `"sha256:00"`), 5, notFollow},
	{"more windows", field(0, "count", `7`), 5, notFollow},
	{"windows below zero", field(0, "count", `-6`), 5, notFollow},
	{"windows past all integers", field(0, "count", `9223372036854775808`), 5, ""},
	{"no tokens", field(0, "tokens", `0`), 5, notFollow},
	{"tokens without end", field(0, "tokens", `9223372036854775807`), 5, notFollow},
	{"other parameters", field(0, "params", `1`), 5, notFollow},
	{"fewer that are trained", field(0, "trained", `1`), 5, notFollow},
	{"a teacher", field(0, "teacher", `{"weights_digest":"x","headers_digest":"y"}`), 3, "this plan needs its teacher"},
	{"a teacher of nothing", field(0, "teacher", `{}`), 3, "this plan needs its teacher"},
	{"a teacher of colours", field(0, "teacher", `{"colour":"x"}`), 5, "colour"},
	{"more steps in the settings", setting(`"steps":2`, `"steps":3`), 5, notFollow},
	{"no steps in the settings", setting(`"steps":2`, `"steps":0`), 5, "distill.steps 0"},
	{"steps without end in the settings", setting(`"steps":2`, `"steps":9223372036854775807`), 5, "distill.steps 9223372036854775807"},
	{"windows without end in the settings", setting(`"batch":2`, `"batch":9223372036854775807`), 5, "distill.batch"},
	{"parts without end in the settings", setting(`"accumulate":1`, `"accumulate":9223372036854775807`), 5, "distill.accumulate"},
	{"another batch in the settings", setting(`"batch":2`, `"batch":4`), 5, notFollow},
	{"a rate of nothing in the settings", setting(`"rate":0.0003`, `"rate":0`), 5, "distill.rate 0"},
	{"a rate past all in the settings", setting(`"rate":0.0003`, `"rate":1e308`), 5, "distill.rate 1e+308"},
	{"a schedule that is not known in the settings", setting(`"schedule":"cosine"`, `"schedule":"sine"`), 5, "distill.schedule"},
	{"moments without end in the settings", setting(`"beta2":0.95`, `"beta2":1`), 5, "distill.beta1"},
	{"master weights that are not known in the settings", setting(`"master":"f32"`, `"master":"f8"`), 5, "distill.master"},
	{"a layer that is not there in the settings", setting(`"layers":[[0,1]]`, `"layers":[[0,2]]`), 5, "layer 2 of a model of 2"},
	{"a layer far off in the settings", setting(`"layers":[[0,1]]`, `"layers":[[-9223372036854775808,1]]`), 5, "of a model of 2"},
	{"layers that are null in the settings", setting(`"layers":[[0,1]]`, `"layers":null`), 0, ""},
	{"a distance that is not known in the settings", setting(`"loss":"cosine"`, `"loss":"far"`), 5, "distill.hidden.loss"},
	{"more predictions than tokens in the settings", setting(`"top_k":0`, `"top_k":128`), 5, "128"},
	{"predictions without end in the settings", setting(`"top_k":0`, `"top_k":9223372036854775807`), 5, "distill.top_k"},
	{"adapters in the settings", setting(`"eval_every"`, `"lora":{"rank":4,"alpha":8,"roles":["q"]},"eval_every"`), 5, notFollow},
	{"adapters of no projection in the settings", setting(`"eval_every"`, `"lora":{"rank":4,"alpha":8,"roles":[]},"eval_every"`), 5, "has none of"},
	{"adapters of a rank past all in the settings", setting(`"eval_every"`, `"lora":{"rank":16384,"alpha":8,"roles":["q"]},"eval_every"`), 5, "rank 16384"},
	{"relations of a layer that is not there in the settings", setting(`"eval_every"`, `"relations":{"version":2,"weight":1,"student":7,"teacher":0},"eval_every"`), 5, "layer 7 of a model of 2"},
	{"relation heads that do not divide in the settings", setting(`"eval_every"`, `"relations":{"version":2,"weight":1,"student":0,"teacher":0,"heads":7},"eval_every"`), 5, ""},
	{"saved never in the settings", setting(`"save_every":50`, `"save_every":0`), 5, "distill.save_every"},
	{"the section taken out", setting(`"distill":{`, `"distilled":{`), 5, ""},
	{"the step taken out", func(_ *testing.T, p *planfile.Plan) {
		p.Steps = p.Steps[:0]
		for i := range p.Changes {
			p.Changes[i].Step = ""
		}
	}, 5, "do not agree on training"},
	{"calibration taken out", func(_ *testing.T, p *planfile.Plan) { p.Calibration = nil }, 5, "the plan names none"},
	{"the step twice", func(_ *testing.T, p *planfile.Plan) { p.Steps = append(p.Steps, p.Steps[0]) }, -1, ""},
}

func TestHostileDistills(t *testing.T) {
	runHostilePlans(t, hostile{recipe: hostileDistill, calib: true}, hostileDistills)
}

// TestHostileDistillValues: weights that leave nothing to learn, or too much, are trained or refused.
func TestHostileDistillValues(t *testing.T) {
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
		{name: "largest f32 everywhere", values: values(oWeight, func(w []float32) { fill(w, math.MaxFloat32) }), code: exitInput},
	} {
		for _, way := range []struct{ name, recipe string }{{"kl", hostileDistill}, {"ce", "calibration: {sequences: 6, holdout: 2, length: 32}\ndistill: {steps: 2, batch: 2, logits: 0, ce: 1, master: bf16}\n"}} {
			t.Run(strings.ReplaceAll(c.name+" "+way.name, " ", "_"), func(t *testing.T) {
				h := c
				h.recipe, h.calib = way.recipe, true
				h.run(t)
			})
		}
	}
}
