package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// hostileShards is the number of files that damaged.shard makes.
const hostileShards = 4

const (
	qWeight  = "model.layers.0.self_attn.q_proj.weight"
	headInfo = `"lm_head.weight":{"dtype":"F32","shape":[128,64],"data_offsets":[0,32768]}`
	normInfo = `"model.norm.weight":{"dtype":"F32","shape":[64],"data_offsets":[361472,361728]}`
)

// hostileHeaders are damaged safetensors files.
var hostileHeaders = []hostile{
	{name: "file empty", damage: func(d *damaged) { d.put(weightFile, "") }, code: 4, want: weightFile + "|too few"},
	{name: "file of 7 bytes", damage: func(d *damaged) { d.put(weightFile, "1234567") }, code: 4, want: weightFile + "|too few"},
	{name: "header length 0", damage: headerLength(0), code: 4, want: weightFile},
	{name: "header length 7", damage: headerLength(7), code: 4, want: weightFile},
	{name: "header length beyond the file", damage: headerLength(1 << 20), code: 4, want: weightFile},
	{name: "header length 2^63", damage: headerLength(1 << 63), code: 4, want: weightFile},
	{name: "header length 2^64-1", damage: headerLength(1<<64 - 1), code: 4, want: weightFile},
	{name: "header of 101 MB", damage: func(d *damaged) {
		d.sparse(weightFile, 200<<20)
		raw := d.get(weightFile)
		d.put(weightFile, "\x00\x00\x50\x06\x00\x00\x00\x00{"+raw[9:])
	}, code: 4, want: weightFile},
	{name: "header does not begin with a brace", damage: headerEdit(`{"__metadata__"`, ` {"__metadata__"`), code: 4, want: weightFile},
	{name: "header is a list", damage: headerOnly(`[]`, ""), code: 4, want: weightFile},
	{name: "header is null", damage: headerOnly(`null`, ""), code: 4, want: weightFile},
	{name: "header without tensors", damage: headerOnly(`{}`, ""), code: 4, want: "model.embed_tokens.weight|missing"},
	{name: "NUL after the header", damage: func(d *damaged) { d.header(func(h string) string { return h + "\x00" }) }, code: 4, want: weightFile},
	{name: "JSON after the header", damage: func(d *damaged) { d.header(func(h string) string { return h + "{}" }) }, code: 4, want: weightFile},
	{name: "header cut off", damage: func(d *damaged) { d.header(func(h string) string { return h[:len(h)/2] }) }, code: 4, want: weightFile},
	{name: "tensor twice", damage: headerEdit(normInfo, normInfo+","+normInfo), code: 4, want: weightFile + "|duplicate"},
	{name: "key of a tensor twice", damage: headerEdit(`"dtype":"F32"`, `"dtype":"F32","dtype":"F32"`), code: 4, want: weightFile + "|duplicate"},
	{name: "tensors overlap", damage: headerEdit("[361472,361728]", "[361468,361724]"), code: 4, want: weightFile + "|model.norm.weight"},
	{name: "hole between tensors", damage: headerEdit("[65536,65792]", "[65540,65796]"), code: 4, want: weightFile},
	{name: "bytes after the data", damage: func(d *damaged) { d.put(weightFile, d.get(weightFile)+"x") }, code: 4, want: weightFile},
	{name: "data cut off", damage: func(d *damaged) { raw := d.get(weightFile); d.put(weightFile, raw[:len(raw)-1]) }, code: 4, want: weightFile},
	{name: "offsets turned round", damage: headerEdit("[361472,361728]", "[361728,361472]"), code: 4, want: weightFile + "|model.norm.weight"},
	{name: "offset negative", damage: headerEdit("[0,32768]", "[-4,32764]"), code: 4, want: weightFile},
	{name: "offset a fraction", damage: headerEdit("[0,32768]", "[0.5,32768]"), code: 4, want: weightFile},
	{name: "offset 2^64", damage: headerEdit("[361472,361728]", "[361472,18446744073709551616]"), code: 4, want: weightFile},
	{name: "three offsets", damage: headerEdit("[0,32768]", "[0,1,32768]"), code: 4, want: weightFile},
	{name: "shape product overflows", damage: headerEdit("[128,64]", "[4294967296,4294967296,2]"), code: 4, want: weightFile + "|lm_head.weight"},
	{name: "shape and range disagree", damage: headerEdit("[128,64]", "[128,63]"), code: 4, want: weightFile + "|lm_head.weight"},
	{name: "shape negative", damage: headerEdit("[128,64]", "[-128,-64]"), code: 4, want: weightFile},
	{name: "shape of many dimensions", damage: headerEdit("[128,64]", "["+strings.Repeat("1,", 5000)+"8192]"), code: 4, want: weightFile},
	{name: "dtype unknown", damage: headerEdit(`"dtype":"F32"`, `"dtype":"F31"`), code: 4, want: weightFile + "|lm_head.weight|F31"},
	{name: "dtype a number", damage: headerEdit(`"dtype":"F32"`, `"dtype":32`), code: 4, want: weightFile},
	{name: "dtype not a float", damage: headerEdit(`"lm_head.weight":{"dtype":"F32"`, `"lm_head.weight":{"dtype":"I32"`), code: 4, want: "lm_head.weight|I32"},
	{name: "weight of rank 0", damage: headerEdit(normInfo, `"model.norm.weight":{"dtype":"F32","shape":[],"data_offsets":[361472,361476]},"rest":{"dtype":"U8","shape":[252],"data_offsets":[361476,361728]}`), code: 4, want: "model.norm.weight|shape []"},
	{name: "weight without elements", damage: headerEdit(normInfo, `"model.norm.weight":{"dtype":"F32","shape":[0],"data_offsets":[361472,361472]},"rest":{"dtype":"U8","shape":[256],"data_offsets":[361472,361728]}`), code: 4, want: "model.norm.weight|shape [0]"},
	{name: "tensor of rank 0 beside the model is fine", damage: extraTensor(`"scalar":{"dtype":"F32","shape":[],"data_offsets":[361728,361732]}`, "\x00\x00\x80\x3f"), code: 0},
	{name: "tensor without elements beside the model is fine", damage: extraTensor(`"nothing":{"dtype":"F32","shape":[0,7],"data_offsets":[361728,361728]}`, ""), code: 0},
	{name: "a million tensors", damage: func(d *damaged) {
		var b strings.Builder
		b.WriteString("{")
		for i := range 1<<20 + 1 {
			fmt.Fprintf(&b, `"%x":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},`, i)
		}
		h := b.String()
		d.put(weightFile, prefixed(h[:len(h)-1]+"}"))
	}, code: 4, want: weightFile + "|tensors"},
	{name: "header nested deep", damage: headerOnly(`{"a":`+strings.Repeat(`[`, 100_000)+strings.Repeat(`]`, 100_000)+"}", ""), code: 4, want: weightFile},
	{name: "name of 20 MB", damage: headerOnly(`{"`+strings.Repeat("x", 20<<20)+`":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}`, ""), code: 4, want: weightFile},
	{name: "name not UTF-8", damage: headerEdit(`"model.norm.weight"`, "\"model.norm.weigh\xff\""), code: 4, want: weightFile},
	{name: "name empty", damage: headerEdit(`"model.norm.weight"`, `""`), code: 4, want: weightFile},
	{name: "metadata not strings", damage: headerEdit(`{"format":"pt"}`, `{"format":1}`), code: 4, want: weightFile},
	{name: "metadata null", damage: headerEdit(`{"format":"pt"}`, `null`), code: 4, want: weightFile},
	{name: "unknown key of a tensor", damage: headerEdit(`"dtype":"F32"`, `"stride":1,"dtype":"F32"`), code: 4, want: weightFile},
	{name: "pickled weights", damage: func(d *damaged) {
		d.check(os.Rename(filepath.Join(d.dir, weightFile), filepath.Join(d.dir, "pytorch_model.bin")))
	}, code: 4, want: "model: neither " + weightFile},
	{name: "weights are a directory", damage: func(d *damaged) {
		d.check(os.Remove(filepath.Join(d.dir, weightFile)))
		d.check(os.Mkdir(filepath.Join(d.dir, weightFile), 0o755))
	}, code: 4, want: weightFile},
}

// extraTensor adds a tensor at the end of the weight file.
func extraTensor(info, data string) func(*damaged) {
	return func(d *damaged) {
		h, old := d.weights()
		d.put(weightFile, prefixed(strings.Replace(h, normInfo, normInfo+","+info, 1))+old+data)
	}
}

// hostileConfigs are damaged config.json files.
var hostileConfigs = []hostile{
	{name: "config missing", damage: func(d *damaged) { d.check(os.Remove(filepath.Join(d.dir, "config.json"))) }, code: 4, want: "config.json|not exist"},
	{name: "config empty", damage: func(d *damaged) { d.put("config.json", "") }, code: 4, want: "config.json"},
	{name: "config a list", damage: func(d *damaged) { d.put("config.json", "[]") }, code: 4, want: "config.json"},
	{name: "config without keys", damage: func(d *damaged) { d.put("config.json", "{}") }, code: 4, want: "config.json"},
	{name: "config of 1 GB", damage: func(d *damaged) { d.sparse("config.json", 1<<30) }, code: 4, want: "config.json|16777216"},
	{name: "config nested deep", damage: configEdit(`"use_cache": true`, `"use_cache": `+strings.Repeat("[", 50_000)+strings.Repeat("]", 50_000)), code: 4, want: "config.json|deep"},
	{name: "config NaN", damage: configEdit("0.00001", "NaN"), code: 4, want: "config.json"},
	{name: "config Infinity", damage: configEdit(`"rope_theta": 10000`, `"rope_theta": Infinity`), code: 4, want: "config.json"},
	{name: "config key twice", damage: configEdit(`"hidden_size": 64`, `"hidden_size": 64, "hidden_size": 64`), code: 4, want: "config.json|duplicate key|hidden_size"},
	{name: "config not UTF-8", damage: configEdit(`"silu"`, "\"sil\xff\""), code: 4, want: "config.json"},
	{name: "config with text after it", damage: func(d *damaged) { d.put("config.json", d.get("config.json")+"x") }, code: 4, want: "config.json"},
	{name: "model type unknown", damage: configEdit(`"model_type": "llama"`, `"model_type": "mamba"`), code: 4, want: "config.json|mamba|supported are llama (LlamaForCausalLM), "},
	{name: "model type missing", damage: configEdit(`"model_type": "llama",`, ``), code: 4, want: "config.json|model_type"},
	{name: "architecture of another family", damage: configEdit("LlamaForCausalLM", "LlamaForSequenceClassification"), code: 4, want: "config.json|LlamaForSequenceClassification"},
	{name: "hidden size missing", damage: configEdit(`"hidden_size": 64,`, ``), code: 4, want: `config.json|"hidden_size"|missing`},
	{name: "hidden size a string", damage: configEdit(`"hidden_size": 64`, `"hidden_size": "64"`), code: 4, want: `config.json|"hidden_size"|not a whole number`},
	{name: "hidden size a fraction", damage: configEdit(`"hidden_size": 64`, `"hidden_size": 64.5`), code: 4, want: `config.json|"hidden_size"`},
	{name: "hidden size null", damage: configEdit(`"hidden_size": 64`, `"hidden_size": null`), code: 4, want: `config.json|"hidden_size"|null`},
	{name: "hidden size 1e9", damage: configEdit(`"hidden_size": 64`, `"hidden_size": 1000000000`), code: 4, want: `config.json|"hidden_size"|outside`},
	{name: "no heads", damage: configEdit(`"num_attention_heads": 4`, `"num_attention_heads": 0`), code: 4, want: `config.json|"num_attention_heads"`},
	{name: "heads negative", damage: configEdit(`"num_attention_heads": 4`, `"num_attention_heads": -4`), code: 4, want: `config.json|"num_attention_heads"`},
	{name: "1e9 heads", damage: configEdit(`"num_attention_heads": 4`, `"num_attention_heads": 1000000000`), code: 4, want: `config.json|"num_attention_heads"`},
	{name: "heads not a multiple of KV heads", damage: configEdit(`"num_key_value_heads": 2`, `"num_key_value_heads": 3`), code: 4, want: `config.json|num_key_value_heads`},
	{name: "1e9 layers", damage: configEdit(`"num_hidden_layers": 2`, `"num_hidden_layers": 1000000000`), code: 4, want: `config.json|"num_hidden_layers"`},
	{name: "no layers", damage: configEdit(`"num_hidden_layers": 2`, `"num_hidden_layers": 0`), code: 4, want: `config.json|"num_hidden_layers"`},
	{name: "more layers than stored", damage: configEdit(`"num_hidden_layers": 2`, `"num_hidden_layers": 3`), code: 4, want: "model.layers.2.self_attn.q_proj.weight|missing|model.layers.2.mlp.down_proj.weight"},
	{name: "head dim null is derived", damage: configEdit(`"head_dim": 16`, `"head_dim": null`), code: 0},
	{name: "head dim odd", damage: configEdit(`"head_dim": 16`, `"head_dim": 15`), code: 4, want: "config.json|head_dim"},
	{name: "head dim other than stored", damage: configEdit(`"head_dim": 16`, `"head_dim": 32`), code: 4, want: qWeight + "|shape [64 64] where config.json asks for [128 64]"},
	{name: "vocabulary larger than stored", damage: configEdit(`"vocab_size": 128`, `"vocab_size": 129`), code: 4, want: "model.embed_tokens.weight|[129 64]"},
	{name: "activation unknown", damage: configEdit(`"silu"`, `"relu6"`), code: 4, want: "config.json|relu6"},
	{name: "rope scaling unknown", damage: configEdit(`"rope_scaling": null`, `"rope_scaling": {"rope_type": "spiral"}`), code: 4, want: "config.json|spiral"},
	{name: "rope scaling without factor", damage: configEdit(`"rope_scaling": null`, `"rope_scaling": {"rope_type": "linear"}`), code: 4, want: "config.json|factor"},
	{name: "rope theta 0", damage: configEdit(`"rope_theta": 10000`, `"rope_theta": 0`), code: 4, want: "config.json|rope_theta"},
	{name: "bias promised and not stored", damage: configEdit(`"attention_bias": false`, `"attention_bias": true`), code: 4, want: "model.layers.0.self_attn.q_proj.bias|missing"},
	{name: "remote code in the config", damage: configEdit(`"use_cache"`, `"auto_map": {"AutoModel": "evil.Model"}, "use_cache"`), code: 4, want: "config.json|auto_map|own code"},
	{name: "remote code beside the weights", damage: func(d *damaged) { d.put("modeling_evil.py", "import os") }, code: 4, want: "modeling_evil.py|own code"},
	{name: "per layer config out of range", damage: configEdit(`"use_cache"`, `"per_layer_config": {"7": {}}, "use_cache"`), code: 4, want: "config.json|per_layer_config"},
	{name: "config a link out", damage: func(d *damaged) {
		d.check(os.Remove(filepath.Join(d.dir, "config.json")))
		d.check(os.Symlink("/etc/hostname", filepath.Join(d.dir, "config.json")))
	}, code: 4, want: "config.json|out of the checkpoint"},
}

// indexEdit shards the checkpoint and changes its index.
func indexEdit(old, new string) func(*damaged) {
	return func(d *damaged) {
		d.shard()
		d.replace(indexFile, old, new)
	}
}

// hostileIndexes are damaged shard indexes.
var hostileIndexes = []hostile{
	{name: "sharded as it should be", damage: func(d *damaged) { d.shard() }, code: 0},
	{name: "index leads up", damage: indexEdit(shardName(1), "../"+shardName(1)), code: 4, want: indexFile + "|lm_head.weight"},
	{name: "index absolute", damage: indexEdit(shardName(1), "/abs.safetensors"), code: 4, want: indexFile + "|lm_head.weight"},
	{name: "index with a drive", damage: indexEdit(shardName(1), `C:\\x.safetensors`), code: 4, want: indexFile + "|lm_head.weight"},
	{name: "index with backslashes", damage: indexEdit(shardName(1), `..\\x.safetensors`), code: 4, want: indexFile + "|lm_head.weight"},
	{name: "index into a directory", damage: indexEdit(shardName(1), "sub/x.safetensors"), code: 4, want: indexFile + "|lm_head.weight"},
	{name: "index with another extension", damage: indexEdit(shardName(1), "model.bin"), code: 4, want: indexFile + "|lm_head.weight"},
	{name: "index with a NUL", damage: indexEdit(shardName(1), `a\u0000.safetensors`), code: 4, want: indexFile},
	{name: "shard a link out", damage: func(d *damaged) {
		d.shard()
		out := filepath.Join(d.base, "secret.safetensors")
		d.check(os.Rename(filepath.Join(d.dir, shardName(1)), out))
		d.check(os.Symlink(out, filepath.Join(d.dir, shardName(1))))
	}, code: 4, want: shardName(1) + "|out of the checkpoint"},
	{name: "shard missing", damage: func(d *damaged) { d.shard(); d.check(os.Remove(filepath.Join(d.dir, shardName(2)))) }, code: 4, want: shardName(2) + "|not exist"},
	{name: "shard twice by copy", damage: func(d *damaged) {
		d.shard()
		d.put(shardName(2), d.get(shardName(1)))
	}, code: 4, want: shardName(2) + "|lm_head.weight|" + shardName(1)},
	{name: "tensor not in the map", damage: indexEdit(`    "lm_head.weight": "`+shardName(1)+`",`+"\n", ""), code: 4, want: shardName(1) + "|lm_head.weight|not in " + indexFile},
	{name: "tensor in the wrong shard", damage: indexEdit(`"lm_head.weight": "`+shardName(1), `"lm_head.weight": "`+shardName(2)), code: 4, want: "lm_head.weight|" + shardName(2)},
	{name: "tensor twice in the map", damage: indexEdit(`"lm_head.weight": `, `"lm_head.weight": "`+shardName(2)+`", "lm_head.weight": `), code: 4, want: indexFile + "|duplicate"},
	{name: "tensor that no shard has", damage: indexEdit(`"lm_head.weight": `, `"extra": "`+shardName(2)+`", "lm_head.weight": `), code: 4, want: shardName(2) + "|extra|missing"},
	{name: "total size wrong is fine", damage: indexEdit("361728", "1"), code: 0},
	{name: "index not JSON", damage: indexEdit(`"weight_map"`, `weight_map`), code: 4, want: indexFile},
	{name: "index without map", damage: func(d *damaged) { d.shard(); d.put(indexFile, `{"metadata":{}}`) }, code: 4, want: indexFile + "|weight_map"},
	{name: "index of 1 GB", damage: func(d *damaged) { d.shard(); d.sparse(indexFile, 1<<30) }, code: 4, want: indexFile},
	{name: "index and single file", damage: func(d *damaged) {
		whole := d.get(weightFile)
		d.shard()
		d.put(weightFile, whole)
	}, code: 4, want: indexFile + "|unclear"},
	{name: "damaged shard", damage: func(d *damaged) { d.shard(); d.put(shardName(3), "{}") }, code: 4, want: shardName(3)},
}
