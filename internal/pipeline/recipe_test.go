package pipeline

import (
	"encoding/json"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
)

// parse reads a recipe and returns it as JSON, which holds every value in force.
func parse(t *testing.T, text string) string {
	t.Helper()
	r, err := ParseRecipe([]byte(text))
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	b, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestRecipeDefaults(t *testing.T) {
	for _, c := range []struct{ name, recipe, want string }{
		{"rtn", "quantize: {method: rtn}", `"quantize":{"method":"rtn","bits":4,"group_size":128,"symmetric":true,"clip":true,"act_order":false,"damp":0.01,"rotate":"none","ignore":["lm_head"]}`},
		{"rsq", "quantize: {}", `"quantize":{"method":"rsq","bits":4,"group_size":128,"symmetric":true,"clip":true,"act_order":false,"damp":0.01,"rotate":"hadamard","importance":{"min":0.005,"max":1},"ignore":["lm_head"]}`},
		{"gptq", "quantize: {method: gptq, clip: false, symmetric: false}", `"symmetric":false,"clip":false,"act_order":false,"damp":0.01,"rotate":"none","ignore":["lm_head"]}`},
		{"nothing ignored", "quantize: {method: rtn, ignore: []}", `"ignore":[]}`},
		{"part of importance", "quantize: {importance: {min: 0.1, max: 3}}", `"importance":{"min":0.1,"max":3}`},
		{"sparsify", "sparsify: {}", `"sparsify":{"method":"sparsegpt","pattern":"unstructured","ratio":0.5,"block":128,"damp":0.01,"ignore":["lm_head"]}`},
		{"n:m", "sparsify: {pattern: '1:4'}", `"pattern":"1:4","ratio":0.75,"block":128`},
		{"n:m with its share", "sparsify: {method: wanda, pattern: '2:4', ratio: 0.5}", `"pattern":"2:4","ratio":0.5,"block":128`},
		{"wanda", "sparsify: {method: wanda, ratio: 0.7}", `"ratio":0.7,"per":"row","block":128`},
		{"magnitude", "sparsify: {method: magnitude}", `"ratio":0.5,"per":"matrix","block":128`},
		{"heads", "heads: {method: echo, full_share: 0.5}", `"heads":{"method":"echo","full_share":0.5,"sink":64,"recent":256,"page":1,"unit":"head","balance":1.25,"min_length":0,"key_channels":0}`},
		{"calibration", "heads: {method: echo, full_share: 0.5}", `{"version":1,"seed":0,"target":["hf"],"calibration":{"sequences":128,"holdout":16,"length":2048,"bos":"auto","shuffle":false}`},
		{"output", "heads: {method: echo, full_share: 0.5}", `"gates":{},"output":{"max_shard_bytes":5000000000}}`},
		{"retrieval", `{heads: {full_share: 0.5}, retrieval: {fact: "{name} {code}", question: "{name}", lengths: [64]}}`, `"lengths":[64],"depths":[0.1,0.3,0.5,0.7,0.9],"per_cell":4,"distractors":0}`},

		// A zero that is written down is not a default.
		{"no sinks", "heads: {method: echo, full_share: 0.5, sink: 0}", `"sink":0,"recent":256`},
		{"no holdout", "{heads: {method: echo, full_share: 0.5}, calibration: {holdout: 0}}", `"sequences":128,"holdout":0,"length":2048`},
		{"a decimal for a whole number", "{heads: {method: echo, full_share: 0.5}, output: {max_shard_bytes: 2e9}}", `"max_shard_bytes":2000000000`},
		{"empty sections", "heads: {method: echo, full_share: 0.5}\ncalibration:\noutput:\ngates:\n", `"calibration":{"sequences":128,"holdout":16,"length":2048,"bos":"auto","shuffle":false}`},
		{"null section", "{heads: {method: echo, full_share: 0.5}, quantize: null}", `"heads":{"method":"echo","full_share":0.5,"sink":64,"recent":256,"page":1,"unit":"head","balance":1.25,"min_length":0,"key_channels":0},"gates"`},
	} {
		if got := parse(t, c.recipe); !strings.Contains(got, c.want) {
			t.Errorf("%s: %s\nlacks %s", c.name, got, c.want)
		}
	}
}

// TestRecipeErrors has every rule of a recipe, and that all faults are named at once.
func TestRecipeErrors(t *testing.T) {
	for _, c := range []struct{ name, recipe string }{
		{`no step: give prune, kvmerge, distill, heads, sparsify or quantize`, ""},
		{`recipe: no step: give prune, kvmerge, distill, heads, sparsify or quantize`, "# nothing"},
		{`recipe: no step: give prune, kvmerge, distill, heads, sparsify or quantize`, "seed: 3"},
		{`unknown field "quantise"`, "quantise: {}"},
		{`unknown field "bitz"`, "quantize:\n  bitz: 4"},
		{`[2:3]`, "quantize:\n  bitz: 4"},
		{`[3:9]`, "quantize:\n  method: rtn\n  bits: four"},
		{`already defined`, "quantize: {bits: 4, bits: 4}"},
		{`more than one document`, "quantize: {method: rtn}\n---\nquantize: {method: gptq}"},
		{`sequence was used where mapping is expected`, "[]"},
		{`sequence was used where mapping is expected`, "quantize: [4]"},
		{`quantize.bits 4.5: want a whole number`, "quantize: {bits: 4.5}"},
		{`retrieval.lengths 64.5: want a whole number`, "heads: {full_share: 0.5}\nretrieval: {fact: '{name} {code}', question: '{name}', lengths: [64.5]}"},
		{`cannot unmarshal 1e30 into Go value of type int ( overflow )`, "calibration: {sequences: 1e30}\nheads: {method: echo, full_share: 0.5}"},
		{`cannot unmarshal`, "seed: -1\nheads: {method: echo, full_share: 0.5}"},
		{`could not find alias`, "quantize: *x"},
		{`version 2: this build reads version 1`, "version: 2\nheads: {method: echo, full_share: 0.5}"},
		{`version 0: this build reads version 1`, "version: 0\nheads: {method: echo, full_share: 0.5}"},
		{`target "ollama": known are hf, vllm`, "target: [ollama]\nheads: {method: echo, full_share: 0.5}"},
		{`calibration.sequences 0: want 1 to 1048576`, "calibration: {sequences: 0}\nheads: {method: echo, full_share: 0.5}"},
		{`calibration.holdout -1: want 0 to 1048576`, "calibration: {holdout: -1}\nheads: {method: echo, full_share: 0.5}"},
		{`calibration.length 7: want 8 to 1048576`, "calibration: {length: 7}\nheads: {method: echo, full_share: 0.5}"},
		{`output.max_shard_bytes 1: want at least 1048576`, "output: {max_shard_bytes: 1}\nheads: {method: echo, full_share: 0.5}"},
		{`gates.ppl_ratio -1: want`, "gates: {ppl_ratio: -1}\nheads: {method: echo, full_share: 0.5}"},
		{`gates.kl NaN: want`, "gates: {kl: .nan}\nheads: {method: echo, full_share: 0.5}"},
		{`gates.kl +Inf: want`, "gates: {kl: .inf}\nheads: {method: echo, full_share: 0.5}"},
		{`gates need held-out data, and calibration.holdout is 0`, "{heads: {method: echo, full_share: 0.5}, calibration: {holdout: 0}, gates: {kl: 1}}"},
		{`gates.needle_drop needs the retrieval section`, "gates: {needle_drop: 1}\nheads: {method: echo, full_share: 0.5}"},
		{`retrieval.fact must contain {name} and {code}`, "heads: {full_share: 0.5}\nretrieval: {fact: x, question: '{name}', lengths: [64]}"},
		{`retrieval.question must contain {name} and not {code}`, "heads: {full_share: 0.5}\nretrieval: {fact: '{name} {code}', question: '{code}', lengths: [64]}"},
		{`retrieval.lengths: give at least one`, "heads: {full_share: 0.5}\nretrieval: {fact: '{name} {code}', question: '{name}'}"},
		{`retrieval.lengths 4: want 16 to 1048576`, "heads: {full_share: 0.5}\nretrieval: {fact: '{name} {code}', question: '{name}', lengths: [4]}"},
		{`retrieval.depths 2: want 0 to 1`, "heads: {full_share: 0.5}\nretrieval: {fact: '{name} {code}', question: '{name}', lengths: [64], depths: [2]}"},
		{`retrieval.depths NaN: want 0 to 1`, "heads: {full_share: 0.5}\nretrieval: {fact: '{name} {code}', question: '{name}', lengths: [64], depths: [.nan]}"},
		{`retrieval.per_cell 0: want 1 to 10000`, "heads: {full_share: 0.5}\nretrieval: {fact: '{name} {code}', question: '{name}', lengths: [64], per_cell: 0}"},
		{`retrieval.distractors 101: want 0 to 100`, "heads: {full_share: 0.5}\nretrieval: {fact: '{name} {code}', question: '{name}', lengths: [64], distractors: 101}"},
		{`heads.method "best": known are wu`, "heads: {method: best, full_share: 0.5}"},
		{`heads.method wu needs the retrieval section`, "heads: {full_share: 0.5}"},
		{`heads.full_share 1.01: want 0 to 1`, "heads: {method: echo, full_share: 1.01}"},
		{`heads: give full_share or kv_budget`, "heads: {method: echo}"},
		{`heads.full_share NaN: want 0 to 1`, "heads: {method: echo, full_share: .nan}"},
		{`heads.sink -1: want 0 to 1048576`, "heads: {method: echo, full_share: 0.5, sink: -1}"},
		{`heads.recent 0: want 1 to 1048576`, "heads: {method: echo, full_share: 0.5, recent: 0}"},
		{`heads.full_share has no effect with method razor`, "heads: {method: razor, full_share: 0.5}"},
		{`heads: give full_share or kv_budget, one of them`, "heads: {method: echo, full_share: 0.5, kv_budget: 0.5}"},
		{`heads.kv_budget 2: want 0 to 1`, "heads: {method: echo, kv_budget: 2}"},
		{`heads.method static needs kv_budget`, "heads: {method: static}"},
		{`heads.method moa needs the retrieval section`, "heads: {method: moa, kv_budget: 0.5}"},
		{`heads.unit "rank": want head or layer`, "heads: {method: echo, full_share: 0.5, unit: rank}"},
		{`heads.kv_budget does not choose whole layers`, "heads: {method: echo, kv_budget: 0.5, unit: layer}"},
		{`heads.tensor_parallel 1: want 2 to 1024`, "heads: {method: echo, full_share: 0.5, tensor_parallel: [1]}"},
		{`heads.balance 0.5: want at least 1`, "heads: {method: echo, full_share: 0.5, balance: 0.5}"},
		{`heads.key_channels 1: want 0 to less than 1`, "heads: {method: echo, full_share: 0.5, key_channels: 1}"},
		{`heads.evidence "tea": known are`, "heads: {method: echo, full_share: 0.5, evidence: [tea]}"},
		{`heads.duo has no effect with method echo`, "heads: {method: echo, full_share: 0.5, duo: {}}"},
		{`heads.duo.lr 0: want more than 0`, "heads: {method: duo, full_share: 0.5, duo: {lr: 0}}\nretrieval: {fact: '{name} {code}', question: '{name}', lengths: [64]}"},
		{`heads.moa.lengths must ascend`, "heads: {method: moa, kv_budget: 0.5, moa: {lengths: [64, 32]}}\nretrieval: {fact: '{name} {code}', question: '{name}', lengths: [64]}"},
		{`heads.moa.influence "some": want joint or additive`, "heads: {method: moa, kv_budget: 0.5, moa: {influence: some}}\nretrieval: {fact: '{name} {code}', question: '{name}', lengths: [64]}"},
		{`heads.prefill.method "dense": known are minference`, "heads: {method: echo, full_share: 0.5, prefill: {method: dense}}"},
		{`heads.prefill.density 0: want more than 0`, "heads: {method: echo, full_share: 0.5, prefill: {density: 0}}"},
		{`heads.validate needs the retrieval section`, "heads: {method: echo, full_share: 0.5, validate: {}}"},
		{`heads.validate.tasks "chess": known are single, multi-key, multi-value, key-value`, "heads: {full_share: 0.5, validate: {tasks: [chess]}}\nretrieval: {fact: '{name} {code}', question: '{name}', lengths: [64]}"},
		{`heads.page 0: want 1 to 65536`, "heads: {method: echo, full_share: 0.5, page: 0}"},
		{`distill.top_k 4097: want 0 to 4096`, "distill: {top_k: 4097}"},
		{`distill.hidden.weight 0 follows the losses on logits, which have none`, "distill: {logits: 0, hidden: {}}"},
		{`sparsify.method "obs": known are sparsegpt, wanda, magnitude`, "sparsify: {method: obs}"},
		{`sparsify.pattern "4:2": want unstructured, or n:m as in 2:4, where n of every m inputs stay and m is at most 1024`, "sparsify: {pattern: '4:2'}"},
		{`sparsify.pattern "2:4096": want unstructured`, "sparsify: {pattern: '2:4096'}"},
		{`sparsify.pattern "block": want unstructured`, "sparsify: {pattern: block}"},
		{`sparsify.ratio 0: want more than 0 and less than 1`, "sparsify: {ratio: 0}"},
		{`sparsify.ratio 1: want more than 0 and less than 1`, "sparsify: {ratio: 1}"},
		{`sparsify.ratio NaN: want more than 0 and less than 1`, "sparsify: {ratio: .nan}"},
		{`sparsify.ratio 0.6: pattern 2:4 leaves out 0.5`, "sparsify: {pattern: '2:4', ratio: 0.6}"},
		{`sparsify.block 0: want 1 to 1024`, "sparsify: {block: 0}"},
		{`sparsify.block 2048: want 1 to 1024`, "sparsify: {block: 2048}"},
		{`sparsify.block 12.5: want a whole number`, "sparsify: {block: 12.5}"},
		{`sparsify.block 100: want a multiple of 8, the width of a group of pattern 4:8`, "sparsify: {pattern: '4:8', block: 100}"},
		{`sparsify.damp 0: want more than 0 and less than 10`, "sparsify: {damp: 0}"},
		{`sparsify.per "column": want matrix or row`, "sparsify: {method: wanda, per: column}"},
		{`sparsify.per has no effect with method sparsegpt`, "sparsify: {per: row}"},
		{`sparsify.per has no effect with pattern 2:4`, "sparsify: {method: wanda, pattern: '2:4', per: row}"},
		{`sparsify.ignore "re:[": error parsing regexp`, "sparsify: {ignore: ['re:[']}"},
		{`sparsify and quantize do not go into one recipe: plan with sparsify, then quantize its result in a second run`, "sparsify: {}\nquantize: {method: rtn}"},
		{`quantize.method "awq": known are rtn, gptq, rsq`, "quantize: {method: awq}"},
		{`quantize.bits 0: known are 2, 3, 4, 8`, "quantize: {bits: 0}"},
		{`quantize.bits 16: known are 2, 3, 4, 8`, "quantize: {bits: 16}"},
		{`quantize.group_size 0: want 32, 64, 128 or -1 (per channel)`, "quantize: {group_size: 0}"},
		{`quantize.damp 0: want more than 0 and less than 10`, "quantize: {damp: 0}"},
		{`quantize.damp NaN: want more than 0 and less than 10`, "quantize: {damp: .nan}"},
		{`quantize.rotate "R4": known are none, hadamard, qr`, "quantize: {rotate: R4}"},
		{`quantize.importance: want 0 < min <= max, have 0 and 1`, "quantize: {importance: {max: 1}}"},
		{`quantize.importance has no effect with method rtn`, "quantize: {method: rtn, importance: {min: 1, max: 2}}"},
		{`quantize.act_order has no effect with method rtn`, "quantize: {method: rtn, act_order: true}"},
		{`quantize.ignore "re:[": error parsing regexp`, "quantize: {ignore: ['re:[']}"},
		{`65537 bytes, more than 65536`, "# " + strings.Repeat("x", 1<<16-1)},
		{`brackets nest deeper than 64`, strings.Repeat("[", 65)},
		{`not valid YAML`, "target: !000000000000000 #000000000000000000000000000000000000000"},
	} {
		r, err := ParseRecipe([]byte(c.recipe))
		if err == nil || !strings.Contains(err.Error(), c.name) {
			t.Errorf("%.80q: %v, want %q", c.recipe, err, c.name)
		}
		var e *Error
		if r != nil || !errors.As(err, &e) || e.Kind != KindUsage {
			t.Errorf("%.80q: recipe %v, error of kind %v", c.recipe, r, KindOf(err))
		}
	}
	_, err := ParseRecipe([]byte("version: 3\ntarget: [x, y]\nquantize: {bits: 5, damp: -1}"))
	if n := strings.Count(err.Error(), "\n"); n != 5 {
		t.Errorf("%d lines after the first, want four faults more and the hint:\n%v", n, err)
	}
}

func TestSetTargets(t *testing.T) {
	r, err := ParseRecipe([]byte("quantize: {method: rtn}"))
	if err != nil {
		t.Fatal(err)
	}
	if err := r.SetTargets([]string{"vllm", "mlx"}); err != nil || strings.Join(r.Target, ",") != "vllm,mlx" {
		t.Errorf("%v, %v", r.Target, err)
	}
	if err := r.SetTargets([]string{"tgi"}); KindOf(err) != KindUsage || !strings.Contains(err.Error(), KnownTargets()) {
		t.Errorf("%v", err)
	}
}

// FuzzRecipe checks that whatever is accepted is within its bounds and survives the way into a plan and back.
func FuzzRecipe(f *testing.F) {
	for _, s := range []string{
		"quantize: {method: rtn}", "heads: {method: echo, full_share: 0.5, sink: 0}", "version: 1\nseed: 18446744073709551615\nquantize:\n  bits: 3\n",
		"target: [hf, vllm]\nquantize: {ignore: [lm_head, 're:.*']}\ngates: {kl: 0.1}", "quantize: &a {bits: 4}\nheads: *a", "a: &a [*a]", "sparsify: {pattern: '3:8', block: 64}", "? [x]\n: y",
		"heads: {method: wu, full_share: 0}\nretrieval: {fact: '{name} {code}', question: '{name}', lengths: [64], depths: [0, 1]}", "---\n---\n", "\xff", "!!binary x",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := ParseRecipe(b)
		if err != nil {
			if KindOf(err) != KindUsage || r != nil {
				t.Fatalf("%v, %v", r, err)
			}
			return
		}
		raw, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		again := &Recipe{}
		if err := json.Unmarshal(raw, again); err != nil {
			t.Fatal(err)
		}
		if err := again.check(); err != nil {
			t.Fatalf("%s: %v", raw, err)
		}
		if second, err := json.Marshal(again); err != nil || string(second) != string(raw) {
			t.Fatalf("%s became %s (%v)", raw, second, err)
		}
	})
}

// TestHeadsAreDocumented: docs/HEADS.md names every method, measure and task that a recipe can ask for.
func TestHeadsAreDocumented(t *testing.T) {
	doc, err := os.ReadFile("../../docs/HEADS.md")
	if err != nil {
		t.Fatal(err)
	}
	names := slices.Concat(headMethods, prefillMethods, evidences)
	for _, name := range append(names, "full_share", "kv_budget", "budget_length", "page", "unit", "tensor_parallel", "balance", "min_length", "key_channels", "evidence", "prefill", "validate") {
		if !strings.Contains(string(doc), "`"+name) {
			t.Errorf("docs/HEADS.md does not name %s", name)
		}
	}
}
