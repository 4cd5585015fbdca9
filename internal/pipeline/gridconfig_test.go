package pipeline

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"modelpress/internal/testmodel"
)

// The configuration names ignored modules also as runtimes do which fuse them, in config.json and beside it.
func TestConfigNamesFusedModules(t *testing.T) {
	for _, c := range []struct{ format, want string }{
		{formatGPTQ, `"-:^model\\.layers\\.1\\.self_attn\\.qkv_proj$":{}`}, {formatGPTQv2, `"-:^model\\.layers\\.1\\.self_attn\\.qkv_proj$":{}`},
		{formatAWQ, `"modules_to_not_convert":["lm_head","model.layers.1.self_attn.q_proj","model.layers.1.self_attn.k_proj","model.layers.1.self_attn.v_proj","model.layers.1.mlp.up_proj","model.layers.1.self_attn.qkv_proj"]`},
		{formatPacked, `"ignore":["lm_head","model.layers.1.self_attn.q_proj","model.layers.1.self_attn.k_proj","model.layers.1.self_attn.v_proj","model.layers.1.mlp.up_proj"]`},
	} {
		m := testmodel.New(testmodel.Options{D: 64, H: 4, G: 2, F: 96, V: 64, Seed: 33})
		b := newBench(t, m, `quantize: {method: rtn, group_size: 32, format: `+c.format+`, ignore: ['re:model\.layers\.1\.self_attn\.[qkv]_proj', model.layers.1.mlp.up_proj]}`)
		b.anywhere = true
		_, _, out := b.run()
		var config struct {
			Quant json.RawMessage `json:"quantization_config"`
		}
		raw, err := os.ReadFile(filepath.Join(out, configName))
		b.check(err)
		b.check(json.Unmarshal(raw, &config))
		quant, err := json.Marshal(config.Quant) // on one line
		b.check(err)
		if !strings.Contains(string(quant), c.want) {
			t.Errorf("%s: %s\nwant %s", c.format, quant, c.want)
		}
		beside, err := os.ReadFile(filepath.Join(out, gptqConfigName))
		if strings.HasPrefix(c.format, formatGPTQ) && (err != nil || strings.TrimSpace(string(beside)) != string(quant)) {
			t.Errorf("%s: beside it %s, %v", c.format, beside, err)
		}
	}
}

// Modules of GPT-2 are none that GPTQ and AWQ can name: plan says so.
func TestFormatsOfGPT2(t *testing.T) {
	for _, format := range []string{formatGPTQ, formatAWQ} {
		b := newBench(t, testmodel.Named("gpt2"), "quantize: {method: rtn, group_size: 32, format: "+format+"}")
		b.anywhere = true
		if _, err := b.plan(); KindOf(err) != KindUsage || !strings.Contains(err.Error(), "Conv1D") {
			t.Errorf("%s: %v", format, err)
		}
	}
}
