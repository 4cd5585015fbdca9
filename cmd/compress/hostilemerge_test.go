package main

import (
	"encoding/json"
	"math"
	"strings"
	"testing"

	"modelpress/formats/planfile"
	"modelpress/internal/testmodel"
)

var hostileMergeBase = testmodel.Options{D: 64, H: 8, G: 4, F: 128, V: 128, Seed: 9}

const (
	hostileMerge    = "calibration: {sequences: 6, holdout: 2, length: 32}\nkvmerge: {kv_heads: 2, mix: true, grouping: contiguous}\n"
	hostileMergeAll = "calibration: {sequences: 6, holdout: 2, length: 32}\nkvmerge: {kv_heads: 2, mix: true, grouping: contiguous, layout: compact}\nheads: {method: projected_error, full_share: 0.5, sink: 2, recent: 8}\nquantize: {method: rtn, group_size: 32}\n"
)

// groups replaces the groups of the first layer, which are contiguous.
func groups(new string) func(*testing.T, *planfile.Plan) {
	return decision(0, `"groups":[[0,1],[2,3]]`, `"groups":`+new)
}

// layers replaces all layers.
func layers(new string) func(*testing.T, *planfile.Plan) {
	return func(t *testing.T, p *planfile.Plan) {
		var d map[string]json.RawMessage
		if err := json.Unmarshal(p.Steps[0].Decision, &d); err != nil {
			t.Fatal(err)
		}
		d["layers"] = json.RawMessage(new)
		raw, err := json.Marshal(d)
		if err != nil {
			t.Fatal(err)
		}
		p.Steps[0].Decision = raw
	}
}

const (
	soundLayer = `{"groups":[[0,1],[2,3]],"repeat":1,"key_loss":0,"value_loss":0,"output_loss":0,"mixed_groups":0,"best_grouping":false}`
	notFollow  = "does not follow from the settings"
)

// hostileMerges are decisions of the step kvmerge that no planning makes.
var hostileMerges = []hostilePlan{
	{"untouched", func(*testing.T, *planfile.Plan) {}, 0, ""},
	{"the same layers", layers(`[` + soundLayer + `,` + soundLayer + `]`), 0, ""},
	{"a newer step", func(_ *testing.T, p *planfile.Plan) { p.Steps[0].Version = 99 }, 5, "version 99"},
	{"a decision that is null", func(_ *testing.T, p *planfile.Plan) { p.Steps[0].Decision = json.RawMessage(`null`) }, 5, ""},
	{"a decision of nothing", func(_ *testing.T, p *planfile.Plan) { p.Steps[0].Decision = json.RawMessage(`{}`) }, 5, notFollow},
	{"a decision of another shape", func(_ *testing.T, p *planfile.Plan) { p.Steps[0].Decision = json.RawMessage(`{"colour":1}`) }, 5, "colour"},
	{"a head that is not there", groups(`[[0,1],[2,4]]`), 5, "layer 0: kvmerge: group 1: head 4 is none of 4"},
	{"a head below zero", groups(`[[0,1],[2,-1]]`), 5, "head -1"},
	{"a head far off", groups(`[[0,1],[2,9223372036854775807]]`), 5, "head 9223372036854775807"},
	{"a head past all integers", groups(`[[0,1],[2,9223372036854775808]]`), 5, ""},
	{"a head that is half", groups(`[[0,1],[2,2.5]]`), 5, ""},
	{"a head twice in a group", groups(`[[0,0],[2,3]]`), 5, "stands twice"},
	{"a head in two groups", groups(`[[0,1],[1,2]]`), 5, "stands twice"},
	{"a head missing", groups(`[[0,1]]`), 5, "2 of 4 heads"},
	{"sizes that differ", groups(`[[0,1,2],[3]]`), 5, "has 1 heads, group 0 has 3"},
	{"a group of nothing", groups(`[[0,1,2,3],[]]`), 5, "group 1 has 0 heads"},
	{"groups of nothing", groups(`[[],[]]`), 5, "group 0 has 0 heads"},
	{"a group that is null", groups(`[null,[0,1,2,3]]`), 5, ""},
	{"no groups", groups(`[]`), 5, "0 of 4 heads"},
	{"groups that are null", groups(`null`), 5, "0 of 4 heads"},
	{"groups of text", groups(`"01"`), 5, ""},
	{"one group", groups(`[[0,1,2,3]]`), 5, "layer 0 has 1 KV heads, the settings say 2"},
	{"four groups", groups(`[[0],[1],[2],[3]]`), 5, "layer 0 has 4 KV heads, the settings say 2"},
	{"repeated twice", decision(0, `"repeat":1`, `"repeat":2`), 5, "lays heads out otherwise"},
	{"repeated three times", decision(0, `"repeat":1`, `"repeat":3`), 5, "lays heads out otherwise"},
	{"never written", decision(0, `"repeat":1`, `"repeat":0`), 5, "lays heads out otherwise"},
	{"repeated less than never", decision(0, `"repeat":1`, `"repeat":-1`), 5, "lays heads out otherwise"},
	{"repeated without end", decision(0, `"repeat":1`, `"repeat":9223372036854775807`), 5, "lays heads out otherwise"},
	{"repeated without end below zero", decision(0, `"repeat":1`, `"repeat":-9223372036854775808`), 5, "lays heads out otherwise"},
	{"layers that are null", layers(`null`), 5, "for 0 layers, the model has 2"},
	{"layers of null", layers(`[null,null]`), 5, "0 of 4 heads"},
	{"no layers", layers(`[]`), 5, "for 0 layers, the model has 2"},
	{"a layer less", layers(`[` + soundLayer + `]`), 5, "for 1 layers, the model has 2"},
	{"a layer more", layers(`[` + soundLayer + `,` + soundLayer + `,` + soundLayer + `]`), 5, "for 3 layers, the model has 2"},
	{"layers of another shape", layers(`{"0":` + soundLayer + `}`), 5, ""},
	{"keys unknown", decision(0, `"keys":"pca"`, `"keys":"svd"`), 5, notFollow},
	{"keys by another method", decision(0, `"keys":"pca"`, `"keys":"mean"`), 5, notFollow},
	{"keys by auto", decision(0, `"keys":"pca"`, `"keys":"auto"`), 5, notFollow},
	{"values unknown", decision(0, `"values":"pca"`, `"values":""`), 5, notFollow},
	{"values by another method", decision(0, `"values":"pca"`, `"values":"first"`), 5, notFollow},
	{"outputs that are not refitted", decision(0, `"refit":true`, `"refit":false`), 5, notFollow},
	{"a measure of heads that may mix", decision(0, `"refit":true`, `"refit":true,"retrieval":"induction"`), 5, notFollow},
	{"fewer heads in the settings", setting(`"kv_heads":2`, `"kv_heads":1`), 5, "the settings say 1"},
	{"no heads in the settings", setting(`"kv_heads":2,`, ``), 5, "give kv_heads or kv_budget"},
	{"heads below zero in the settings", setting(`"kv_heads":2`, `"kv_heads":-2`), 5, "kvmerge.kv_heads -2"},
	{"heads without end in the settings", setting(`"kv_heads":2`, `"kv_heads":9223372036854775807`), 5, "want 1 to 16384"},
	{"a budget that is less", setting(`"kv_heads":2`, `"kv_budget":0.4`), 5, "the merged heads exceed kv_budget"},
	{"a budget past all", setting(`"kv_heads":2`, `"kv_budget":1e308`), 5, "want more than 0 and at most 1"},
	{"methods unknown in the settings", setting(`"keys":"auto"`, `"keys":"svd"`), 5, `kvmerge.keys "svd"`},
	{"another method in the settings", setting(`"keys":"auto"`, `"keys":"select"`), 5, notFollow},
	{"refit left open in the settings", setting(`"refit":true`, `"refit":null`), 5, notFollow},
	{"heads that may not mix in the settings", setting(`"mix":true`, `"mix":false`), 5, notFollow},
	{"a layout that is not known", setting(`"layout":"portable"`, `"layout":"dense"`), 5, "kvmerge.layout"},
	{"the section taken out", setting(`"kvmerge":{`, `"kvmerged":{`), 5, ""},
	{"the step taken out", func(_ *testing.T, p *planfile.Plan) {
		p.Steps = p.Steps[:0]
		for i := range p.Changes {
			p.Changes[i].Step = ""
		}
	}, 5, "do not agree on merging KV heads"},
	{"calibration taken out", func(_ *testing.T, p *planfile.Plan) { p.Calibration = nil }, 5, "the plan names none"},
	{"the step twice", func(_ *testing.T, p *planfile.Plan) { p.Steps = append(p.Steps, p.Steps[0]) }, -1, ""},
}

func TestHostileMerges(t *testing.T) {
	runHostilePlans(t, hostile{options: hostileMergeBase, recipe: hostileMerge, calib: true}, append(hostileMerges,
		hostilePlan{"groups that are not contiguous", groups(`[[0,2],[1,3]]`), 5, "groups that are not contiguous"},
		hostilePlan{"groups in another order", groups(`[[2,3],[0,1]]`), 5, "groups that are not contiguous"}))
}

// TestHostileMergesBeside: the steps after merging are for the model that it leaves.
func TestHostileMergesBeside(t *testing.T) {
	runHostilePlans(t, hostile{options: hostileMergeBase, recipe: hostileMergeAll, calib: true}, []hostilePlan{
		{"untouched", func(*testing.T, *planfile.Plan) {}, 0, ""},
		{"the step taken out", func(_ *testing.T, p *planfile.Plan) {
			p.Steps = p.Steps[1:]
			for i := range p.Changes {
				if p.Changes[i].Step == "kvmerge" {
					p.Changes[i].Step = ""
				}
			}
		}, 5, "do not agree on merging KV heads"},
		{"one group", func(t *testing.T, p *planfile.Plan) {
			decision(0, `"groups":[[0,1],[2,3]]`, `"groups":[[0,1,2,3]]`)(t, p)
		}, 5, "the settings say 2"},
		{"an attention plan of more heads", decision(1, `"num_key_value_heads":2`, `"num_key_value_heads":4`), 5, ""},
		{"an attention plan that knows no merging", decision(1, `"permutation":{"kv_heads":[[0,1,2,3],[0,1,2,3]]}`, `"permutation":null`), 5, ""},
		{"heads that came from elsewhere", decision(1, `"permutation":{"kv_heads":[[0,1,2,3],[0,1,2,3]]}`, `"permutation":{"kv_heads":[[0,1,2,3],[3,2,1,0]]}`), 5, ""},
		{"steps in another order", func(_ *testing.T, p *planfile.Plan) { p.Steps[0], p.Steps[1] = p.Steps[1], p.Steps[0] }, 0, ""},
	})
}

const (
	hostileBudget  = "calibration: {sequences: 6, holdout: 2, length: 32}\nkvmerge: {kv_budget: 0.6}\n"
	hostileTurning = "calibration: {sequences: 6, holdout: 2, length: 32}\nkvmerge: {kv_heads: 1, keys: procrustes, values: procrustes, grouping: contiguous}\n"
	hostileChosen  = "calibration: {sequences: 6, holdout: 2, length: 32}\nkvmerge: {kv_heads: 1, keys: select, values: mean, refit: false}\n"
)

// TestHostileMergeValues: weights that leave nothing to measure, or too much, merge or are refused.
func TestHostileMergeValues(t *testing.T) {
	zeros := func(w []float32) { clear(w) }
	const vWeight, oWeight, norm = "model.layers.0.self_attn.v_proj.weight", "model.layers.0.self_attn.o_proj.weight", "model.layers.0.input_layernorm.weight"
	for _, c := range []hostile{
		{name: "NaN in a weight", values: value(qWeight, 70, nan), code: 4, want: weightFile + "|" + qWeight + "|70"},
		{name: "Inf in a weight", values: value(oWeight, 5, inf), code: 4, want: weightFile + "|" + oWeight + "|5"},
		{name: "keys of zeros are fine", values: values(kWeight, zeros)},
		{name: "values of zeros are fine", values: values(vWeight, zeros)},
		{name: "queries of zeros are fine", values: values(qWeight, zeros)},
		{name: "outputs of zeros are fine", values: values(oWeight, zeros)},
		{name: "embeddings of zeros are fine", values: values(embedded, zeros)},
		{name: "inputs of zeros are fine", values: values(norm, zeros)},
		{name: "keys of one head are fine", values: values(kWeight, func(w []float32) { clear(w[len(w)/4:]) })},
		{name: "the same word everywhere is fine", values: values(embedded, func(w []float32) { copyRows(w, 64) })},
		{name: "subnormal keys are fine", values: values(kWeight, func(w []float32) { fill(w, 1e-42) })},
		{name: "subnormal values are fine", values: values(vWeight, func(w []float32) { fill(w, 1e-42) })},
		{name: "large keys are fine", values: values(kWeight, func(w []float32) { scaleAll(w, 1e12) })},
		{name: "large values are fine", values: values(vWeight, func(w []float32) { scaleAll(w, 1e12) })},
		{name: "largest f32 in keys", values: value(kWeight, 3, math.MaxFloat32), code: exitInput, want: "layer 1: kvmerge: keys |so large"},
		{name: "largest f32 in values", values: value(vWeight, 3, math.MaxFloat32), code: exitInput, want: "layer 0: kvmerge: |so large"},
		{name: "largest f32 in outputs", values: value(oWeight, 3, math.MaxFloat32), code: exitInput},
		{name: "largest f32 in an embedding", values: value(embedded, 64*7, math.MaxFloat32)},
		{name: "largest f32 everywhere in keys", values: values(kWeight, func(w []float32) { fill(w, math.MaxFloat32) }), code: exitInput},
		{name: "largest f32 everywhere in values", values: values(vWeight, func(w []float32) { fill(w, math.MaxFloat32) }), code: exitInput},
	} {
		for _, way := range []struct{ name, recipe string }{{"pca", hostileMerge}, {"budget", hostileBudget}, {"turning", hostileTurning}, {"chosen", hostileChosen}} {
			t.Run(strings.ReplaceAll(c.name+" "+way.name, " ", "_"), func(t *testing.T) {
				h := c
				h.options, h.recipe, h.calib = hostileMergeBase, way.recipe, true
				h.run(t)
			})
		}
	}
}

func scaleAll(w []float32, f float32) {
	for i := range w {
		w[i] *= f
	}
}
