package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"modelpress/formats/planfile"
)

// hostilePlan is a plan that somebody wrote with a right id: the id is no signature. The result must be the planned one or
// an error, never a panic or a file elsewhere.
type hostilePlan struct {
	name string
	edit func(t *testing.T, p *planfile.Plan)
	code int
	want string
}

// decision replaces text in the decision of a step.
func decision(step int, old, new string) func(*testing.T, *planfile.Plan) {
	return func(t *testing.T, p *planfile.Plan) { replaceRaw(t, &p.Steps[step].Decision, old, new) }
}

// setting replaces text in the recipe settings.
func setting(old, new string) func(*testing.T, *planfile.Plan) {
	return func(t *testing.T, p *planfile.Plan) { replaceRaw(t, &p.Recipe.Settings, old, new) }
}

func replaceRaw(t *testing.T, raw *json.RawMessage, old, new string) {
	t.Helper()
	var b bytes.Buffer
	if err := json.Compact(&b, *raw); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(b.String(), old) {
		t.Fatalf("%s does not hold %s", b.String(), old)
	}
	*raw = json.RawMessage(strings.Replace(b.String(), old, new, 1))
}

var hostilePlans = []hostilePlan{
	{"untouched", func(*testing.T, *planfile.Plan) {}, 0, ""},
	{"another device class", func(_ *testing.T, p *planfile.Plan) { p.DeviceClass = "tpu" }, 5, "device class tpu"},
	{"a step that is not known", func(_ *testing.T, p *planfile.Plan) { p.Steps[0].Name = "dissolve" }, 5, `no step "dissolve"`},
	{"a newer step", func(_ *testing.T, p *planfile.Plan) { p.Steps[1].Version = 99 }, 5, "version 99"},
	{"a decision of another shape", func(_ *testing.T, p *planfile.Plan) { p.Steps[1].Decision = json.RawMessage(`{"colour":1}`) }, 5, "decision"},
	{"a decision that is null", func(_ *testing.T, p *planfile.Plan) { p.Steps[1].Decision = json.RawMessage(`null`) }, 5, ""},
	{"a decision of nothing", func(_ *testing.T, p *planfile.Plan) { p.Steps[1].Decision = json.RawMessage(`{}`) }, 5, ""},
	{"5 bits", decision(1, `"bits":4`, `"bits":5`), 5, ""},
	{"8 bits where 4 are laid out", decision(1, `"bits":4`, `"bits":8`), 5, ""},
	{"3 bits packed", decision(1, `"bits":4`, `"bits":3`), 5, ""},
	{"group 0", decision(1, `"group":32`, `"group":0`), 5, ""},
	{"group -7", decision(1, `"group":32`, `"group":-7`), 5, ""},
	{"group 48", decision(1, `"group":32`, `"group":48`), 5, ""},
	{"group huge", decision(1, `"group":32`, `"group":9223372036854775807`), 5, ""},
	{"asymmetric where no zero points are laid out", decision(1, `"symmetric":true`, `"symmetric":false`), 5, ""},
	{"method unknown", decision(1, `"method":"rsq"`, `"method":"magic"`), 5, "does not follow"},
	{"damp negative", decision(1, `"damp":0.01`, `"damp":-5`), 5, "does not follow"},
	{"damp huge", decision(1, `"damp":0.01`, `"damp":1e308`), 5, "does not follow"},
	{"importance turned round", decision(1, `"min":0.005`, `"min":-1e300`), 5, "does not follow"},
	{"rotation unknown", decision(1, `"kind":"hadamard"`, `"kind":"spiral"`), 5, "does not follow"},
	{"output unknown", decision(1, `"output":"pack-quantized"`, `"output":"zip"`), 5, ""},
	{"store unknown", decision(1, `"store":"F32"`, `"store":"Q4"`), 5, ""},
	{"store an integer", decision(1, `"store":"F32"`, `"store":"I8"`), 5, ""},
	{"store of another size", decision(1, `"store":"F32"`, `"store":"F64"`), 5, ""},
	{"a module that is not there", decision(1, `"modules":["model.layers.0.self_attn.q_proj"`, `"modules":["model.layers.0.self_attn.z_proj"`), 5, ""},
	{"a module that is no projection", decision(1, `"modules":["model.layers.0.self_attn.q_proj"`, `"modules":["model.norm"`), 5, ""},
	{"one module less", decision(1, `"modules":["model.layers.0.self_attn.q_proj",`, `"modules":[`), 5, "does not follow"},
	{"heads of too few layers", decision(0, `"num_layers":2`, `"num_layers":1`), 5, ""},
	{"a KV head that is not there", decision(0, `"decode":"full","head":0`, `"decode":"full","head":7`), 5, ""},
	{"a policy that is not there", decision(0, `"decode":"full","head":0`, `"decode":"none","head":0`), 5, ""},
	{"a plan for other weights", decision(0, `"weights_digest":"tensors-v1:sha256:`, `"weights_digest":"tensors-v1:sha256:0123456789`), 5, ""},
	{"no attention plan", func(_ *testing.T, p *planfile.Plan) {
		p.Steps[0].Decision = json.RawMessage(`{"method":"projected_error","held_out":[]}`)
	}, 5, "has no attention plan"},
	{"a kind that is not known", decision(0, `{"kind":"full"}`, `{"kind":"magic"}`), 5, ""},
	{"sinks of another recipe", decision(0, `"sink":2`, `"sink":3`), 5, "does not follow"},
	{"scores of another shape", decision(0, `"scores":[[`, `"scores":[[9],[`), 5, ""},
	{"sink negative", decision(0, `"sink":2`, `"sink":-2`), 5, ""},
	{"sink huge", decision(0, `"sink":2`, `"sink":9223372036854775807`), 5, ""},
	{"recent 0", decision(0, `"recent":8`, `"recent":0`), 5, ""},
	{"page 0", decision(0, `"page":1`, `"page":0`), 5, ""},
	{"shards of one byte", setting(`"max_shard_bytes":5000000000`, `"max_shard_bytes":1`), 5, ""},
	{"shards negative", setting(`"max_shard_bytes":5000000000`, `"max_shard_bytes":-1`), 5, ""},
	{"settings of another shape", func(_ *testing.T, p *planfile.Plan) { p.Recipe.Settings = json.RawMessage(`[]`) }, 5, "settings"},
	{"settings of nothing", func(_ *testing.T, p *planfile.Plan) { p.Recipe.Settings = json.RawMessage(`{}`) }, 5, ""},
	{"windows of no length", setting(`"length":32`, `"length":0`), 5, ""},
	{"windows of negative length", setting(`"length":32`, `"length":-32`), 5, ""},
	{"gates taken out of the settings only", setting(`"kl":3`, `"kl":0`), 5, "gates"},
	{"a gate of another metric", func(_ *testing.T, p *planfile.Plan) { p.Gates[0].Metric = "beauty" }, 5, "gates"},
	{"calibration taken out", func(_ *testing.T, p *planfile.Plan) { p.Calibration = nil }, 5, ""},
	{"no steps", func(_ *testing.T, p *planfile.Plan) {
		p.Steps = p.Steps[:0]
		for i := range p.Changes {
			p.Changes[i].Step = ""
		}
	}, 5, ""},
	{"file names that lead out", func(_ *testing.T, p *planfile.Plan) { p.Output.Shards[0].File = "../out.safetensors" }, -1, ""},
	{"a side file that leads out", func(_ *testing.T, p *planfile.Plan) { p.Source.Files[0].Name = "../x" }, -1, ""},
}

func TestHostilePlans(t *testing.T) {
	runHostilePlans(t, hostile{recipe: hostileRSQ + "\ngates: {kl: 3}\n", calib: true}, hostilePlans)
}

// runHostilePlans plans h, and applies each edit of the plan.
func runHostilePlans(t *testing.T, h hostile, list []hostilePlan) {
	base := t.TempDir()
	d := &damaged{t: t, base: base, dir: filepath.Join(base, "model")}
	h.write(d)
	if code, _, stderr := h.plan(d); code != exitOK {
		t.Fatal(stderr)
	}
	raw, err := os.ReadFile(filepath.Join(base, "plan.json"))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range list {
		t.Run(strings.ReplaceAll(c.name, " ", "_"), func(t *testing.T) {
			p, err := planfile.Decode(raw)
			if err != nil {
				t.Fatal(err)
			}
			c.edit(t, p)
			doc, err := planfile.Encode(p)
			if c.code == -1 {
				if err == nil {
					t.Error("the plan was written")
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			dir := t.TempDir()
			plan, out := write(t, dir, "plan.json", string(doc)), filepath.Join(dir, "OUT")
			code, _, stderr := runProgram("apply", plan, "--model", d.dir, "--calib", filepath.Join(base, "calib.npy"), "-o", out)
			t.Logf("%3d  %s", code, strings.TrimSpace(strings.ReplaceAll(stderr, dir, "…")))
			if code != c.code || !strings.Contains(stderr, c.want) {
				t.Errorf("exit code %d, want %d with %q\n%s", code, c.code, c.want, stderr)
			}
			if code, _, stderr := runProgram("heads", plan); code != exitOK && code != exitInput && code != exitStale {
				t.Errorf("heads: exit code %d\n%s", code, stderr)
			}
			if _, err := os.Stat(out); (err == nil) != (code == exitOK) {
				t.Errorf("OUT: %v", err)
			}
			if _, err := os.Stat(out + ".partial"); err == nil {
				t.Error("OUT.partial is left")
			}
		})
	}
}
