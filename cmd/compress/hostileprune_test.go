package main

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"modelpress/formats/planfile"
	"modelpress/internal/testmodel"
	"modelpress/prune"
)

var hostilePruneBase = testmodel.Options{Layers: 3, D: 64, H: 4, G: 2, F: 128, V: 128, Seed: 9}

const (
	hostilePrune = "calibration: {sequences: 6, holdout: 2, length: 32}\nprune: {method: random, params: 0.7, multiple: 4, axes: [hidden, ffn]}\n"
	hostileDrop  = "calibration: {sequences: 6, holdout: 2, length: 32}\nprune: {method: random, kv: 0.6667, axes: [layers]}\nheads: {method: projected_error, full_share: 0.5, sink: 2, recent: 8}\nquantize: {method: rtn, group_size: 32}\n"
)

// field replaces a field in the decision of a step.
func field(step int, name, raw string) func(*testing.T, *planfile.Plan) {
	return func(t *testing.T, p *planfile.Plan) {
		var d map[string]json.RawMessage
		if err := json.Unmarshal(p.Steps[step].Decision, &d); err != nil {
			t.Fatal(err)
		}
		if d[name] = json.RawMessage(raw); raw == "" {
			delete(d, name)
		}
		out, err := json.Marshal(d)
		if err != nil {
			t.Fatal(err)
		}
		p.Steps[step].Decision = out
	}
}

// cut edits what stays.
func cut(edit func(c *prune.Cut)) func(*testing.T, *planfile.Plan) {
	return func(t *testing.T, p *planfile.Plan) {
		var d struct{ Cut *prune.Cut }
		if err := json.Unmarshal(p.Steps[0].Decision, &d); err != nil {
			t.Fatal(err)
		}
		edit(d.Cut)
		raw, err := json.Marshal(d.Cut)
		if err != nil {
			t.Fatal(err)
		}
		field(0, "cut", string(raw))(t, p)
	}
}

// cutText replaces what stays by any text, after the counts of the three layers are known.
func cutText(raw string) func(*testing.T, *planfile.Plan) { return field(0, "cut", raw) }

// shifted moves units by one where there is room.
func shifted(u []int, n int) {
	if u[len(u)-1] < n-1 {
		u[len(u)-1] = n - 1
		return
	}
	for i := len(u) - 2; i >= 0; i-- {
		if u[i]+1 < u[i+1] {
			u[i]++
			return
		}
	}
}

func scales(n int, v float32) []float32 { return slices.Repeat([]float32{v}, n) }

// hostilePrunes are decisions of the step prune that no planning makes.
var hostilePrunes = []hostilePlan{
	{"untouched", func(*testing.T, *planfile.Plan) {}, 0, ""},
	{"other units", cut(func(c *prune.Cut) { shifted(c.Layers[1].FFN.Keep, 128) }), 0, ""},
	{"scales", cut(func(c *prune.Cut) { c.Hidden.Scale = scales(len(c.Hidden.Keep), 0.5) }), 0, ""},
	{"scales of nothing", cut(func(c *prune.Cut) { c.Layers[0].FFN.Scale = scales(len(c.Layers[0].FFN.Keep), 0) }), 0, ""},
	{"a newer step", func(_ *testing.T, p *planfile.Plan) { p.Steps[0].Version = 99 }, 5, "version 99"},
	{"a decision that is null", func(_ *testing.T, p *planfile.Plan) { p.Steps[0].Decision = json.RawMessage(`null`) }, 5, ""},
	{"a decision of nothing", func(_ *testing.T, p *planfile.Plan) { p.Steps[0].Decision = json.RawMessage(`{}`) }, 5, "says nothing of what stays"},
	{"a decision of another shape", func(_ *testing.T, p *planfile.Plan) { p.Steps[0].Decision = json.RawMessage(`{"colour":1}`) }, 5, "colour"},
	{"no cut", field(0, "cut", ""), 5, "says nothing of what stays"},
	{"a cut that is null", cutText(`null`), 5, ""},
	{"a cut of nothing", cutText(`{}`), 5, "a cut of 0 layers for a model of 3"},
	{"a cut of another shape", cutText(`[]`), 5, ""},
	{"a cut of colours", cutText(`{"colours":{},"hidden":{},"layers":[{},{},{}]}`), 5, "colours"},
	{"nothing is cut", cutText(`{"hidden":{},"layers":[{},{},{}]}`), 5, "leaves 1 of params, the settings ask for 0.7"},
	{"a layer less", cut(func(c *prune.Cut) { c.Layers = c.Layers[:2] }), 5, "a cut of 2 layers for a model of 3"},
	{"a layer more", cut(func(c *prune.Cut) { c.Layers = append(c.Layers, prune.CutLayer{}) }), 5, "a cut of 4 layers for a model of 3"},
	{"layers without end", cutText(`{"hidden":{},"layers":[` + strings.Repeat(`{},`, 5000) + `{}]}`), 5, "more than 1000 layers"},
	{"a channel that is not there", cutText(`{"hidden":{"keep":"0-40,64"},"layers":[{},{},{}]}`), 5, "unit 64 of 64"},
	{"a channel far off", cutText(`{"hidden":{"keep":"9223372036854775808"},"layers":[{},{},{}]}`), 5, ""},
	{"channels without end", cutText(`{"hidden":{"keep":"0-9223372036854775807"},"layers":[{},{},{}]}`), 5, ""},
	{"a channel below zero", cutText(`{"hidden":{"keep":"-1"},"layers":[{},{},{}]}`), 5, ""},
	{"a channel twice", cutText(`{"hidden":{"keep":"3,3"},"layers":[{},{},{}]}`), 5, ""},
	{"channels out of order", cutText(`{"hidden":{"keep":"3,2"},"layers":[{},{},{}]}`), 5, ""},
	{"no channels", cutText(`{"hidden":{"keep":""},"layers":[{},{},{}]}`), 5, "channels: none stays"},
	{"a head that is not there", cutText(`{"hidden":{},"layers":[{"heads":{"keep":"2"}},{},{}]}`), 5, "layer 0: KV heads: unit 2 of 2"},
	{"an FFN channel that is not there", cutText(`{"hidden":{},"layers":[{},{"ffn":{"keep":"128"}},{}]}`), 5, "layer 1: FFN: unit 128 of 128"},
	{"all layers dropped", cutText(`{"hidden":{},"layers":[{"drop":true},{"drop":true},{"drop":true}]}`), 5, "no layer stays"},
	{"a layer dropped", cutText(`{"hidden":{},"layers":[{"drop":true},{},{}]}`), 5, "the settings ask for 0.7"},
	{"a layer dropped and kept", cutText(`{"hidden":{},"layers":[{"drop":true,"scale":"AACAPw=="},{},{}]}`), 5, "it is dropped"},
	{"scales that are not finite", cutText(`{"hidden":{"keep":"0","scale":"AADAfw=="},"layers":[{},{},{}]}`), 5, "NaN"},
	{"scales too few", cutText(`{"hidden":{"scale":"AACAPw=="},"layers":[{},{},{}]}`), 5, "1 scales for 64 units"},
	{"scales that are none", cutText(`{"hidden":{"scale":"!"},"layers":[{},{},{}]}`), 5, "base64"},
	{"one channel less", cut(func(c *prune.Cut) { c.Hidden.Keep = c.Hidden.Keep[1:] }), 5, ""},
	{"one FFN channel less", cut(func(c *prune.Cut) { c.Layers[2].FFN.Keep = c.Layers[2].FFN.Keep[1:] }), 5, notFollow},
	{"heads instead of channels", cut(func(c *prune.Cut) {
		for l := range c.Layers {
			c.Layers[l].Heads.Keep = []int{1}
		}
	}), 5, ""},
	{"another share", field(0, "share", `0.69`), 5, notFollow},
	{"a share of no number", field(0, "share", `"most"`), 5, ""},
	{"a share of nothing", field(0, "share", ``), 5, notFollow},
	{"another metric", field(0, "metric", `"kv"`), 5, notFollow},
	{"another method", field(0, "method", `"taylor"`), 5, notFollow},
	{"a method that is not known", field(0, "method", `"magic"`), 5, notFollow},
	{"other costs before", field(0, "before", `{"params":1,"flops":1,"kv_bytes":1}`), 5, notFollow},
	{"other costs after", field(0, "after", `{"params":-1,"flops":9223372036854775807,"kv_bytes":0}`), 5, notFollow},
	{"costs past all integers", field(0, "after", `{"params":9223372036854775808}`), 5, ""},
	{"weights trained along", field(0, "joint", `true`), 5, notFollow},
	{"another target in the settings", setting(`"params":0.7`, `"params":0.5`), 5, "the settings ask for 0.5"},
	{"two targets in the settings", setting(`"params":0.7`, `"params":0.7,"kv":0.5`), 5, "give one of params, flops and kv"},
	{"no target in the settings", setting(`"params":0.7,`, ``), 5, "give one of params, flops and kv"},
	{"a target of all in the settings", setting(`"params":0.7`, `"params":1e308`), 5, "want more than 0 and at most 1"},
	{"another metric in the settings", setting(`"params":0.7`, `"flops":0.7`), 5, ""},
	{"another method in the settings", setting(`"method":"random"`, `"method":"taylor"`), 5, notFollow},
	{"masks in the settings", setting(`"method":"random"`, `"method":"vib"`), 5, ""},
	{"axes that may not change in the settings", setting(`"axes":["hidden","ffn"]`, `"axes":["heads","ffn"]`), 5, notFollow},
	{"no axes in the settings", setting(`"axes":["hidden","ffn"]`, `"axes":[]`), 5, ""},
	{"an axis that is not known in the settings", setting(`"axes":["hidden","ffn"]`, `"axes":["depths"]`), 5, "depths"},
	{"another length in the settings", setting(`"length":32,"method"`, `"length":64,"method"`), 5, notFollow},
	{"a length without end in the settings", setting(`"length":32,"method"`, `"length":9223372036854775807,"method"`), 5, "prune.length"},
	{"rounds below zero in the settings", setting(`"rounds":1`, `"rounds":-1`), 5, "prune.rounds"},
	{"a layout that is not known in the settings", setting(`"layout":"portable"`, `"layout":"dense"`), 5, "prune.layout"},
	{"the section taken out", setting(`"prune":{`, `"pruned":{`), 5, ""},
	{"the step taken out", func(_ *testing.T, p *planfile.Plan) {
		p.Steps = p.Steps[:0]
		for i := range p.Changes {
			p.Changes[i].Step = ""
		}
	}, 5, "do not agree on pruning"},
	{"calibration taken out", func(_ *testing.T, p *planfile.Plan) { p.Calibration = nil }, 5, "the plan names none"},
	{"the step twice", func(_ *testing.T, p *planfile.Plan) { p.Steps = append(p.Steps, p.Steps[0]) }, -1, ""},
}

func TestHostilePrunes(t *testing.T) {
	runHostilePlans(t, hostile{options: hostilePruneBase, recipe: hostilePrune, calib: true}, hostilePrunes)
}

// TestHostilePrunesBeside: the steps after pruning are for the layers that it leaves.
func TestHostilePrunesBeside(t *testing.T) {
	runHostilePlans(t, hostile{options: hostilePruneBase, recipe: hostileDrop, calib: true}, []hostilePlan{
		{"untouched", func(*testing.T, *planfile.Plan) {}, 0, ""},
		{"another layer goes", cut(func(c *prune.Cut) {
			for l := range c.Layers {
				c.Layers[l].Drop = !c.Layers[l].Drop && (l == 0 || !c.Layers[l-1].Drop)
			}
		}), 5, ""},
		{"layers of an attention plan that are not there", decision(1, `"layer":0`, `"layer":2`), 5, ""},
		{"modules of layers that are not there", decision(2, `"model.layers.1.`, `"model.layers.2.`), 5, notFollow},
		{"the step taken out", func(_ *testing.T, p *planfile.Plan) {
			p.Steps = p.Steps[1:]
			for i := range p.Changes {
				if p.Changes[i].Step == "prune" {
					p.Changes[i].Step = ""
				}
			}
		}, 5, "do not agree on pruning"},
		{"steps in another order", func(_ *testing.T, p *planfile.Plan) { p.Steps[0], p.Steps[1] = p.Steps[1], p.Steps[0] }, 0, ""},
	})
}

// TestHostilePruneValues: weights that leave nothing to measure, or too much, are pruned or refused.
func TestHostilePruneValues(t *testing.T) {
	zeros := func(w []float32) { clear(w) }
	const oWeight, down, norm = "model.layers.0.self_attn.o_proj.weight", "model.layers.0.mlp.down_proj.weight", "model.layers.0.input_layernorm.weight"
	for _, c := range []hostile{
		{name: "NaN in a weight", values: value(qWeight, 70, nan), code: 4, want: weightFile + "|" + qWeight + "|70"},
		{name: "Inf in a weight", values: value(oWeight, 5, inf), code: 4, want: weightFile + "|" + oWeight + "|5"},
		{name: "weights of zeros are fine", values: values(down, zeros)},
		{name: "embeddings of zeros are fine", values: values(embedded, zeros)},
		{name: "inputs of zeros are fine", values: values(norm, zeros)},
		{name: "the same word everywhere is fine", values: values(embedded, func(w []float32) { copyRows(w, 64) })},
		{name: "subnormal weights are fine", values: values(oWeight, func(w []float32) { fill(w, 1e-42) })},
		{name: "equal weights are fine", values: values(qWeight, func(w []float32) { fill(w, 0.5) })},
	} {
		for _, method := range []string{"minitron", "taylor", "magnitude"} {
			t.Run(strings.ReplaceAll(c.name+" "+method, " ", "_"), func(t *testing.T) {
				h := c
				h.options, h.recipe, h.calib = hostilePruneBase, strings.Replace(hostilePrune, "random", method, 1), true
				h.run(t)
			})
		}
	}
}
