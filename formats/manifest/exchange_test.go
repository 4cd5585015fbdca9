package manifest

import (
	"bytes"
	"errors"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const exchangeDir = "testdata/exchange"

// model returns a dense plan over a model.
func model(layers, heads, kvHeads int) *Plan {
	p := small()
	p.Model.Layers, p.Model.Heads, p.Model.KVHeads = layers, heads, kvHeads
	p.Model.HeadDim, p.Model.MaxPosition = 128, 131072
	return p
}

func example(t testing.TB, names ...string) []File {
	t.Helper()
	var files []File
	for _, n := range names {
		data, err := os.ReadFile(filepath.Join(exchangeDir, n))
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, File{filepath.Base(n), data})
	}
	return files
}

func share(v float64) *float64 { return &v }

var duoExample = []string{"duo/full_attention_heads.tsv", "duo/config.json"}

// roundTrips are files as other programs write them (Python wrote those in testdata).
var roundTrips = []struct {
	format string
	files  []string
	model  *Plan
	o      Options
}{
	{"duo", duoExample, model(32, 32, 8), Options{Sparsity: share(0.5)}},
	{"duo", duoExample, model(32, 32, 8), Options{Sparsity: share(0.25)}},
	{"duo", duoExample, model(32, 32, 8), Options{Sparsity: share(0)}},
	{"duo", duoExample, model(32, 32, 8), Options{Sparsity: share(1)}},
	{"omniserve", duoExample, model(32, 32, 8), Options{}},
	{"mindie-omni", []string{"omni.txt"}, model(4, 8, 2), Options{}},
	{"golden-stick", []string{"golden_stick.json"}, model(4, 8, 2), Options{}},
	{"rtp-llm", []string{"headwise_config.json"}, model(4, 8, 2), Options{}},
	{"moa", []string{"moa_alpha_beta.json"}, model(4, 8, 2), Options{}},
	{"moa", []string{"moa_alpha_beta.json"}, model(4, 8, 8), Options{}},
	{"minference", []string{"minference.json"}, model(4, 8, 2), Options{}},
	{"minference", []string{"minference_counts.json"}, model(4, 8, 2), Options{}},
	{"dual-chunk", []string{"dual_chunk.json"}, model(4, 8, 2), Options{}},
	{"xattention", []string{"xattention.py"}, model(4, 8, 2), Options{}},
	{"retrieval-head", []string{"head_score.json"}, model(4, 8, 2), Options{}},
	{"block-sparse", []string{"block_sparse.json"}, model(4, 8, 2), Options{}},
	{"layer-types", []string{"layer_types.json"}, model(4, 8, 2), Options{}},
	{"tensorrt-llm", []string{"kv_cache_config.json"}, model(4, 8, 2), Options{}},
	{"gguf", []string{"gguf.json"}, model(4, 8, 2), Options{}},
}

// Importing a file and exporting the plan gives the file, byte for byte, and the plan is the same after a second round.
func TestRoundTrips(t *testing.T) {
	seen := map[string]bool{}
	for _, c := range roundTrips {
		f, files := FormatByName(c.format), example(t, c.files...)
		seen[c.format] = true
		in, err := f.Import(files, c.model, c.o)
		if err != nil {
			t.Errorf("%s %v: %v", c.format, c.files, err)
			continue
		}
		if in.Plan.Quality != nil {
			t.Errorf("%s: imported with a quality", c.format)
		}
		first := mustEncode(t, in.Plan)
		plan, err := Decode(first)
		if err != nil {
			t.Fatal(err)
		}
		out, err := f.Export(plan, Options{})
		if err != nil {
			t.Errorf("%s %v: %v", c.format, c.files, err)
			continue
		}
		sameFiles(t, c.format, out.Files, files)
		again, err := f.Import(out.Files, c.model, c.o)
		if err != nil {
			t.Errorf("%s again: %v", c.format, err)
			continue
		}
		if second := mustEncode(t, again.Plan); !bytes.Equal(first, second) {
			t.Errorf("%s: the second plan differs:\n%s\n%s", c.format, first, second)
		}
	}
	for _, f := range Formats() {
		if !seen[f.Name] {
			t.Errorf("%s has no round trip", f.Name)
		}
	}
}

func mustEncode(t testing.TB, p *Plan) []byte {
	t.Helper()
	doc, err := Encode(p)
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

func sameFiles(t *testing.T, format string, got, want []File) {
	t.Helper()
	if len(got) != len(want) {
		t.Errorf("%s: %d files, want %d", format, len(got), len(want))
		return
	}
	for i := range got {
		if !bytes.Equal(got[i].Data, want[i].Data) {
			t.Errorf("%s: %s differs:\n%s\n%s", format, got[i].Name, got[i].Data, want[i].Data)
		}
	}
}

// Files that hold more than a plan keeps: the second export is stable.
func TestLossyImports(t *testing.T) {
	for _, c := range []struct {
		format, file string
		o            Options
		losses       int
	}{
		{"dual-chunk", "dual_chunk_whole.json", Options{}, 0}, // chunk_size and the like stay in config.json
		{"xattention", "xattention_tables.py", Options{}, 1},
		{"xattention", "xattention_tables.py", Options{Stride: 8}, 1},
		{"retrieval-head", "head_samples.json", Options{}, 1},
		{"moa", "moa_alpha_beta.json", Options{}, 1},
	} {
		f := FormatByName(c.format)
		in, err := f.Import(example(t, c.file), model(4, 8, 2), c.o)
		if err != nil {
			t.Errorf("%s: %v", c.file, err)
			continue
		}
		if len(in.Losses) != c.losses {
			t.Errorf("%s: losses %v, want %d", c.file, in.Losses, c.losses)
		}
		first, err := f.Export(in.Plan, Options{})
		if err != nil {
			t.Errorf("%s: %v", c.file, err)
			continue
		}
		again, err := f.Import(first.Files, model(4, 8, 2), Options{})
		if err != nil {
			t.Errorf("%s again: %v", c.file, err)
			continue
		}
		second, err := f.Export(again.Plan, Options{})
		if err != nil {
			t.Fatal(err)
		}
		sameFiles(t, c.file, second.Files, first.Files)
	}
}

// A layer of the model that has head counts of its own, or none, needs a format that has no matrix.
func TestOwnHeadCounts(t *testing.T) {
	p := model(3, 8, 2)
	p.Layers = []Layer{{Layer: 1, Select: "none", NoAttention: true, KVHeads: []KVHead{}}, {Layer: 2, Select: "none", Heads: 4, KVHeadCount: 4, KVHeads: []KVHead{
		{Head: 3, Score: share(0.5)}}}}
	p.Requires = p.Needs()
	for _, f := range Formats() {
		out, err := f.Export(p, Options{Lossy: true})
		switch f.Name {
		case "duo", "omniserve", "mindie-omni", "moa", "xattention", "retrieval-head":
			if !errors.Is(err, ErrUnfit) {
				t.Errorf("%s: %v", f.Name, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", f.Name, err)
			continue
		}
		in, err := f.Import(out.Files, p, Options{})
		if err != nil {
			t.Errorf("%s: %v", f.Name, err)
			continue
		}
		if h, g := in.Plan.Counts(2); h != 4 || g != 4 {
			t.Errorf("%s: layer 2 has %d and %d heads", f.Name, h, g)
		}
		for l := range 3 {
			_, g := p.Counts(l)
			for h := range g {
				if pol, _ := in.Plan.Resolve(l, h, Decoding, 9999); pol.Kind != KindFull {
					t.Errorf("%s: layer %d head %d decodes by %s", f.Name, l, h, pol.Kind)
				}
			}
		}
	}
}

// Another model's file is refused, and so is what is not finite, doubled, short or long.
func TestHostileFiles(t *testing.T) {
	row := "0.5\t0.5\n"
	config := File{duoConfigFile, []byte(`{"sink_size": 4, "recent_size": 60}`)}
	duo := func(text string) []File { return []File{{duoScoresFile, []byte(text)}, config} }
	one := func(text string) []File { return []File{{"x", []byte(text)}} }
	for _, c := range []struct {
		format string
		files  []File
		want   error
	}{
		{"duo", duo(row + row + row), ErrShape},
		{"duo", duo(row), ErrShape},
		{"duo", duo(row + "0.5\n"), ErrShape},
		{"duo", duo(row + "0.5\tnan\n"), ErrFile},
		{"duo", duo(row + "0.5\tInf\n"), ErrFile},
		{"duo", duo(row + "0.5\t1e999\n"), ErrFile},
		{"duo", duo(row + "0.5\t0x1p-2\n"), ErrFile},
		{"duo", duo(row + "0.5\t\n"), ErrFile},
		{"duo", duo(""), ErrShape},
		{"duo", []File{config}, ErrFile},
		{"duo", []File{{duoScoresFile, []byte(row + row)}, {duoConfigFile, []byte(`{"sink_size": 4, "recent_size": 0}`)}}, ErrFile},
		{"duo", []File{{duoScoresFile, []byte(row + row)}, {duoConfigFile, []byte(`{"sink_size": -4, "recent_size": 60}`)}}, ErrFile},
		{"duo", []File{{duoScoresFile, []byte(row + row)}, {duoConfigFile, []byte(`{"sink_size": 4, "sink_size": 4, "recent_size": 60}`)}}, ErrFile},
		{"duo", []File{{duoScoresFile, []byte(row + row)}, {duoConfigFile, []byte(`{"recent_size": 60}`)}}, ErrFile},
		{"mindie-omni", one("0 1\n0 2\n"), ErrFile},
		{"mindie-omni", one("0 1\n0 1 1\n"), ErrShape},
		{"mindie-omni", append(one("0 1\n0 1\n"), config), ErrFile},
		{"golden-stick", one(`{"0":[2]}`), ErrShape},
		{"golden-stick", one(`{"0":[0,0]}`), ErrFile},
		{"golden-stick", one(`{"2":[0]}`), ErrShape},
		{"golden-stick", one(`{"00":[0]}`), ErrFile},
		{"golden-stick", one(`{"0":null}`), ErrFile},
		{"golden-stick", one(`{"0":[0.5]}`), ErrFile},
		{"golden-stick", one(`[]`), ErrFile},
		{"golden-stick", one(`{}{}`), ErrFile},
		{"rtp-llm", one(`{}`), ErrFile},
		{"rtp-llm", one(`{"headwise_config":{"sink_token_num":4,"swa_token_num":8,"seqlen_threshold":0,"0":[1,0,1]}}`), ErrShape},
		{"rtp-llm", one(`{"headwise_config":{"sink_token_num":4,"swa_token_num":8,"seqlen_threshold":0,"5":[1,0,1,1]}}`), ErrShape},
		{"rtp-llm", one(`{"headwise_config":{"sink_token_num":4,"swa_token_num":8,"seqlen_threshold":0,"0":[1,0,1,3]}}`), ErrFile},
		{"rtp-llm", one(`{"headwise_config":{"sink_token_num":4,"swa_token_num":8,"seqlen_threshold":0,"x":[1,0,1,1]}}`), ErrFile},
		{"rtp-llm", one(`{"headwise_config":{"sink_token_num":4,"swa_token_num":8,"seqlen_threshold":9999999999}}`), ErrFile},
		{"moa", one(`{"alphas":[[0,0,0,0]],"betas":[[0,0,0,0]]}`), ErrShape},
		{"moa", one(`{"alphas":[[0,0,0],[0,0,0]],"betas":[[0,0,0],[0,0,0]]}`), ErrShape},
		{"moa", one(`{"alphas":[[0,0,0,0],[0,0,0,0]],"betas":[[0,0,0,0],[0,0,0,2]]}`), ErrFile},
		{"moa", one(`{"alphas":[[0,0,0,0],[0,0,0,1e300]],"betas":[[0,0,0,0],[0,0,0,0]]}`), ErrFile},
		{"moa", one(`{"alphas":[[0,0,0,0],[0,0,0,NaN]],"betas":[[0,0,0,0],[0,0,0,0]]}`), ErrFile},
		{"moa", one(`{"alphas":[[0,0,0,0],[0,0,0,null]],"betas":[[0,0,0,0],[0,0,0,0]]}`), ErrFile},
		{"moa", one(strings.Repeat(`[`, 1<<16)), ErrFile},
		{"minference", one(`[{},{}]`), ErrShape},
		{"minference", one(`[{"0":["stream_llm",1,2,3],"1":["stream_llm",1,2,3],"2":["stream_llm",1,2,3],"03":["stream_llm",1,2,3]},{}]`), ErrShape},
		{"minference", one(minferenceOf(`["a_shape",1,2,3]`)), ErrFile},
		{"minference", one(minferenceOf(`["stream_llm",1,2]`)), ErrFile},
		{"minference", one(minferenceOf(`["stream_llm",1,-2,0.5]`)), ErrFile},
		{"minference", one(minferenceOf(`["stream_llm",1,2,"0.5"]`)), ErrFile},
		{"minference", one(minferenceOf(`["stream_llm",1,2,1e999]`)), ErrFile},
		{"minference", one(minferenceOf(`["stream_llm",1,2.5,1]`)), ErrFile},
		{"dual-chunk", one(`{"dual_chunk_attention_config":{"sparse_attention_enabled":false,"sparse_attention_config":[]}}`), ErrFile},
		{"dual-chunk", one(`{"dual_chunk_attention_config":null}`), ErrFile},
		{"xattention", one(`llama_fuse_16 = [[0.5, 0.5, 0.5, 0.5]]`), ErrShape},
		{"xattention", one(`llama_fuse_16 = [[0.5, 0.5, 0.5], [0.5, 0.5, 0.5]]`), ErrShape},
		{"xattention", one(`llama_fuse_16 = [[0.5, 0.5, 0.5, 0], [0.5, 0.5, 0.5, 1]]`), ErrFile},
		{"xattention", one(`llama_fuse = [[0.5, 0.5, 0.5, 0], [0.5, 0.5, 0.5, 1]]`), ErrFile},
		{"xattention", one(`llama_fuse_16 = [[0.5`), ErrFile},
		{"xattention", one(`llama_fuse_16 = [[open("x")]]`), ErrFile},
		{"xattention", one(`a_8 = [] b_8 = []`), ErrFile},
		{"xattention", one(``), ErrFile},
		{"retrieval-head", one(`{"0-0":[1]}`), ErrShape},
		{"retrieval-head", one(`{"0-0":[1],"0-1":[1],"0-2":[1],"0-3":[],"1-0":[1],"1-1":[1],"1-2":[1],"1-3":[1]}`), ErrFile},
		{"retrieval-head", one(`{"0-0":[1],"0-1":[1],"0-2":[1],"0-3":[1],"1-0":[1],"1-1":[1],"1-2":[1],"1-3":[1],"2-0":[1]}`), ErrShape},
		{"block-sparse", one(`[{"head_mask_type":[1,0,0,0],"streaming_info":[0,0,0,0,0,0,0,0]},{}]`), ErrFile},
		{"block-sparse", one(`[{"head_mask_type":[-1,0,0,0],"streaming_info":[0,0,0,0,0,0,0,0]},{}]`), ErrFile},
		{"block-sparse", one(`[{"head_mask_type":[0,0,0,0],"streaming_info":[0]},{}]`), ErrFile},
		{"block-sparse", one(`[]`), ErrShape},
		{"layer-types", one(`{"layer_types":["full_attention"]}`), ErrShape},
		{"layer-types", one(`{"layer_types":["full_attention","sliding_attention"]}`), ErrFile},
		{"layer-types", one(`{"layer_types":["full_attention","chunked_attention"],"sliding_window":4}`), ErrFile},
		{"layer-types", one(`{"layer_types":["full_attention","sliding_attention"],"sliding_window":0}`), ErrFile},
		{"tensorrt-llm", one(`{"kv_cache_config":{"max_attention_window":[]}}`), ErrShape},
		{"tensorrt-llm", one(`{"kv_cache_config":{"max_attention_window":[1,2,3]}}`), ErrShape},
		{"tensorrt-llm", one(`{"kv_cache_config":{"max_attention_window":[64],"sink_token_length":64}}`), ErrFile},
		{"gguf", one(`[{"key":"a.attention.sliding_window","value":4}]`), ErrFile},
		{"gguf", one(`[{"key":"a.attention.sliding_window","value":0},{"key":"a.attention.sliding_window_pattern","value":2}]`), ErrFile},
		{"gguf", one(`[{"key":"a.attention.sliding_window","value":8},{"key":"a.attention.sliding_window_pattern","value":[true]}]`), ErrShape},
		{"gguf", one(`[{"value":8}]`), ErrFile},
		{"gguf", one(strings.Repeat(" ", MaxImportBytes+1)), ErrFile},
	} {
		in, err := FormatByName(c.format).Import(c.files, model(2, 4, 2), Options{})
		var typed *ImportError
		if !errors.Is(err, c.want) || !errors.As(err, &typed) || in != nil {
			t.Errorf("%s %.100q: %v, want %v", c.format, c.files[0].Data, err, c.want)
		}
	}
}

func minferenceOf(entry string) string {
	layer := `{"0":` + entry + `,"1":` + entry + `,"2":` + entry + `,"3":` + entry + `}`
	return "[" + layer + "," + layer + "]"
}

// No bytes of a file make an importer panic or give a plan with faults.
func FuzzImport(f *testing.F) {
	for _, c := range roundTrips {
		files := example(f, c.files...)
		f.Add(c.format, files[0].Data)
	}
	f.Fuzz(func(t *testing.T, name string, data []byte) {
		format := FormatByName(name)
		if format == nil {
			return
		}
		files := []File{{"full_attention_heads.tsv", data}}
		if format.Dir {
			files = append(files, File{duoConfigFile, []byte(`{"sink_size": 4, "recent_size": 60}`)})
		}
		in, err := format.Import(files, model(4, 8, 2), Options{})
		if err != nil {
			var typed *ImportError
			if !errors.As(err, &typed) && !errors.Is(err, ErrUnfit) {
				t.Fatalf("error without a type: %v", err)
			}
			return
		}
		if _, err := format.Export(in.Plan, Options{Lossy: true}); err != nil {
			t.Fatalf("imported and cannot be exported: %v", err)
		}
	})
}

func TestPyFloat(t *testing.T) { // as Python 3 prints them
	for f, want := range map[float64]string{0: "0.0", 1: "1.0", -1024: "-1024.0", 0.125: "0.125", 1e-5: "1e-05", 0.0001: "0.0001", 1e15: "1000000000000000.0",
		1e16: "1e+16", 1.5e300: "1.5e+300", 0.1: "0.1", 123456789.125: "123456789.125", math.Copysign(0, -1): "-0.0"} {
		if got := pyFloat(f); got != want && !(f == 0 && (got == "0.0" || got == "-0.0")) {
			t.Errorf("%v: %s, want %s", f, got, want)
		}
	}
}

// A training run's config.json has more keys than readers want, some of them null; scores stay as they are beside the clipped ones.
func TestDuoTrainingDirectory(t *testing.T) {
	files := example(t, duoExample[0])
	files = append(files, File{duoConfigFile, []byte(`{"model_name": "models/Llama-3-8B", "config_name": null, "dataset_format": "multiple_passkey", "lr": 0.02,
 "num_steps": 2000, "sink_size": 128, "recent_size": 256, "deploy_sink_size": null, "deploy_recent_size": null, "enable_pp": false, "seed": 42}`)})
	in, err := FormatByName("duo").Import(files, model(32, 32, 8), Options{Sink: 64, Recent: 256})
	if err != nil {
		t.Fatal(err)
	}
	p := in.Plan
	if e := p.Evidence[0]; e.Seed != 42 || e.Scores[0][4] != -9.250640869140625e-05 {
		t.Errorf("seed %d, score %v", e.Seed, e.Scores[0][4])
	}
	if s := *p.Layers[0].KVHeads[4].Score; s != 0 {
		t.Errorf("score %v is not clipped", s)
	}
	if pol := p.Policies["s"]; pol.Sink != 64 || pol.Recent != 256 {
		t.Errorf("sizes %d and %d, want those asked for", pol.Sink, pol.Recent)
	}
	if p.Phases.Prefill.FirstChunk != "dense" || p.Phases.Prefill.ChunkMask != "chunk" {
		t.Errorf("%+v", p.Phases.Prefill)
	}
	full, all := p.FullHeads(99999)
	if full != 128 || all != 256 || p.Selection.TargetFullRatio != 0.5 {
		t.Errorf("%d of %d heads are full", full, all)
	}
}

// What a file may say in a way that exports do not use.
func TestOtherSpellings(t *testing.T) {
	streams := func(format, text string, layers int, o Options) string {
		t.Helper()
		in, err := FormatByName(format).Import([]File{{"x", []byte(text)}}, model(layers, 8, 2), o)
		if err != nil {
			t.Fatalf("%s: %v", format, err)
		}
		var b strings.Builder
		for l := range layers {
			pol, _ := in.Plan.Resolve(l, 0, Decoding, 99999)
			b.WriteByte("fs"[bit(pol.Kind == KindStreaming)])
		}
		return b.String()
	}
	gguf := func(n string) string {
		return `[{"key":"gemma3.attention.sliding_window","value":1024},{"key":"gemma3.attention.sliding_window_pattern","value":` + n + `},{"key":"x","value":"y"}]`
	}
	scores := `{"0-0":[0,1],"0-1":[0],"0-2":[0],"0-3":[0],"0-4":[0],"0-5":[0],"0-6":[0],"0-7":[0],` +
		`"1-0":[0],"1-1":[0.1],"1-2":[0],"1-3":[0],"1-4":[0],"1-5":[0.9],"1-6":[0],"1-7":[0]}`
	for _, c := range []struct {
		format, text string
		layers       int
		o            Options
		want         string
	}{
		{"gguf", gguf("6"), 13, Options{}, "sssssfsssssfs"},
		{"gguf", gguf("0"), 2, Options{}, "ss"},
		{"gguf", gguf("1"), 2, Options{}, "ff"},
		{"tensorrt-llm", `{"kv_cache_config":{"max_attention_window":[512,131072]}}`, 5, Options{}, "sfsfs"},
		{"golden-stick", `{"1":[0,1]}`, 3, Options{}, "sfs"},
		{"rtp-llm", `{"model_type":"qwen2","x":null,"headwise_config":{"sink_token_num":4,"swa_token_num":8,"seqlen_threshold":0}}`, 2, Options{}, "ff"},
		{"layer-types", `{"layer_types":["full_attention","full_attention"],"sliding_window":null,"rope_scaling":null}`, 2, Options{}, "ff"},
		{"retrieval-head", scores, 2, Options{Sparsity: share(0.5)}, "fs"}, // 0.5 and 0.9 are highest, of layer 1 that is head 1
		{"retrieval-head", scores, 2, Options{}, "ff"},
		{"xattention", "a_16=[ [1,1,1,1,1,1,1,1,], ]# b", 1, Options{}, "f"},
	} {
		if got := streams(c.format, c.text, c.layers, c.o); got != c.want {
			t.Errorf("%s %.60s: %s, want %s", c.format, c.text, got, c.want)
		}
	}
}

// Errors name the format and the file.
func TestImportErrorNames(t *testing.T) {
	_, err := FormatByName("moa").Import([]File{{"moa.json", []byte("{}")}}, model(2, 4, 2), Options{})
	if err == nil || err.Error() != "manifest: moa (moa.json): malformed file: alphas is missing" {
		t.Error(err)
	}
	_, err = FormatByName("moa").Import(nil, model(2, 4, 2), Options{})
	if err == nil || err.Error() != "manifest: moa: malformed file: 0 files, want one" {
		t.Error(err)
	}
	if FormatByName("none") != nil {
		t.Error("a format of no name")
	}
	if _, err := FormatByName("duo").Import(example(t, duoExample...), model(32, 32, 8), Options{Sparsity: share(1.5)}); err == nil {
		t.Error("a sparsity of 1.5")
	}
	if _, err := FormatByName("moa").Import(nil, model(1<<16, 1<<16, 1), Options{}); !errors.Is(err, ErrUnfit) {
		t.Error(err)
	}
}
