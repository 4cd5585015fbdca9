package main

import (
	"bytes"
	"encoding/binary"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"modelpress/formats/ggml"
	"modelpress/formats/gguf"
	"modelpress/internal/testmodel"
)

// ggufFile is a GGUF file to be damaged.
type ggufFile struct {
	*damaged
	path    string
	raw     []byte
	kv      []gguf.KV
	tensors []gguf.Tensor
	data    map[string][]byte
}

// openGood reads a good file into memory.
func openGood(d *damaged, path string) *ggufFile {
	g := &ggufFile{damaged: d, path: path, data: map[string][]byte{}}
	var err error
	g.raw, err = os.ReadFile(path)
	d.check(err)
	f, err := gguf.Open(path)
	d.check(err)
	defer f.Close()
	g.kv, g.tensors = slices.Clone(f.Metadata()), slices.Clone(f.Tensors())
	for _, t := range g.tensors {
		n, err := t.Bytes()
		d.check(err)
		g.data[t.Name] = make([]byte, n)
		d.check(f.ReadAt(t.Name, g.data[t.Name], 0))
	}
	return g
}

func (g *ggufFile) set(key string, v gguf.Value) {
	i := slices.IndexFunc(g.kv, func(kv gguf.KV) bool { return kv.Key == key })
	if i < 0 {
		g.kv = append(g.kv, gguf.KV{Key: key, Value: v})
		return
	}
	g.kv[i].Value = v
}

func (g *ggufFile) drop(key string) {
	g.kv = slices.DeleteFunc(g.kv, func(kv gguf.KV) bool { return kv.Key == key })
}

func (g *ggufFile) tensor(name string) *gguf.Tensor {
	return &g.tensors[slices.IndexFunc(g.tensors, func(t gguf.Tensor) bool { return t.Name == name })]
}

// rewrite makes the file anew from metadata and tensors; data that does not fit is zero.
func (g *ggufFile) rewrite() {
	d := g.damaged
	d.check(os.Remove(g.path))
	w, err := gguf.Create(g.path, g.kv, g.tensors, gguf.Options{})
	d.check(err)
	for _, t := range g.tensors {
		n, err := t.Bytes()
		d.check(err)
		b := make([]byte, n)
		copy(b, g.data[t.Name])
		d.check(w.WriteAt(t.Name, b, 0))
	}
	d.check(w.Commit())
}

// bytes makes the file what edit returns.
func (g *ggufFile) bytes(edit func(raw []byte) []byte) {
	g.check(os.WriteFile(g.path, edit(slices.Clone(g.raw)), 0o644))
}

// patch overwrites bytes some way behind the first occurrence of text.
func (g *ggufFile) patch(text string, behind int, b []byte) {
	g.bytes(func(raw []byte) []byte {
		i := bytes.Index(raw, []byte(text))
		if i < 0 {
			g.t.Fatalf("the file does not hold %q", text)
		}
		copy(raw[i+len(text)+behind:], b)
		return raw
	})
}

func u64(v uint64) []byte { return binary.LittleEndian.AppendUint64(nil, v) }
func u32(v uint32) []byte { return binary.LittleEndian.AppendUint32(nil, v) }

// at overwrites bytes at an offset.
func at(off int, b []byte) func(g *ggufFile) {
	return func(g *ggufFile) { g.bytes(func(raw []byte) []byte { copy(raw[off:], b); return raw }) }
}

const (
	ggufQ     = "blk.0.attn_q.weight"
	ggufEmbed = "token_embd.weight"
	ggufNorm  = "output_norm.weight"
)

// hostileGGUF are damaged files: those of formats/gguf and internal/llamacpp, as a command meets them.
var hostileGGUF = []struct {
	name   string
	damage func(g *ggufFile)
	want   string // in the error; "" where the file is read
}{
	{"good", func(*ggufFile) {}, ""},
	{"empty", func(g *ggufFile) { g.bytes(func([]byte) []byte { return nil }) }, "past the end"},
	{"short magic", func(g *ggufFile) { g.bytes(func(r []byte) []byte { return r[:3] }) }, "past the end"},
	{"magic", at(0, []byte("GGML")), "not a GGUF file"},
	{"version 1", at(4, u32(1)), "version 1"},
	{"version 4", at(4, u32(4)), "version 4"},
	{"big-endian", at(4, []byte{0, 0, 0, 3}), "big-endian"},
	{"tensors past any", at(8, u64(math.MaxUint64)), "tensors are over the limit"},
	{"tensors past the file", at(8, u64(60000)), "tensors"},
	{"keys past any", at(16, u64(math.MaxUint64)), "keys are over the limit"},
	{"fewer tensors than there are", at(8, u64(1)), "x.gguf"},
	{"key past any", at(24, u64(math.MaxUint64)), "over the limit"},
	{"kind of a value", func(g *ggufFile) { g.patch("llama.block_count", 0, u32(77)) }, "kind 77"},
	{"dimensions past any", func(g *ggufFile) { g.patch(ggufQ, 0, u32(math.MaxUint32)) }, ggufQ},
	{"values overflow", func(g *ggufFile) { g.patch(ggufQ, 4, slices.Concat(u64(1<<62), u64(1<<62))) }, ggufQ},
	{"a shape that is larger", func(g *ggufFile) { g.patch(ggufQ, 4, u64(1<<40)) }, ggufQ},
	{"type unknown", func(g *ggufFile) { g.patch(ggufQ, 20, u32(1000)) }, "type 1000"},
	{"another type", func(g *ggufFile) { g.patch(ggufQ, 20, u32(uint32(ggml.F32))) }, "blk.0"},
	{"offset past the file", func(g *ggufFile) { g.patch(ggufQ, 24, u64(1<<40)) }, ggufQ},
	{"overlap", func(g *ggufFile) { g.patch(ggufQ, 24, u64(0)) }, ggufQ},
	{"name twice", func(g *ggufFile) {
		g.bytes(func(r []byte) []byte { return bytes.Replace(r, []byte("blk.1.attn_q.weight"), []byte(ggufQ), 1) })
	}, "was there before"},
	{"name no UTF-8", func(g *ggufFile) {
		g.bytes(func(r []byte) []byte {
			return bytes.Replace(r, []byte("blk.1.attn_q.weight"), []byte("blk.1.attn_q.weigh\xff"), 1)
		})
	}, "UTF-8"},
	{"cut by a byte", func(g *ggufFile) { g.bytes(func(r []byte) []byte { return r[:len(r)-1] }) }, "truncated"},
	{"cut in half", func(g *ggufFile) { g.bytes(func(r []byte) []byte { return r[:len(r)/2] }) }, "past the end of the file"},
	{"cut in the header", func(g *ggufFile) { g.bytes(func(r []byte) []byte { return r[:200] }) }, "x.gguf"},
	{"bytes too many", func(g *ggufFile) { g.bytes(func(r []byte) []byte { return append(r, make([]byte, 64)...) }) }, "belong to no tensor"},
	{"one terabyte of nothing", func(g *ggufFile) { g.check(os.Truncate(g.path, 1<<40)) }, "belong to no tensor"},
	{"a directory", func(g *ggufFile) { g.check(os.Remove(g.path)); g.check(os.Mkdir(g.path, 0o755)) }, "config.json"},
	{"a link to itself", func(g *ggufFile) { g.check(os.Remove(g.path)); g.check(os.Symlink("x.gguf", g.path)) }, "x.gguf"},

	{"no architecture", func(g *ggufFile) { g.drop("general.architecture"); g.rewrite() }, "general.architecture"},
	{"another architecture", func(g *ggufFile) { g.set("general.architecture", gguf.String("mamba")); g.rewrite() }, "supported are llama"},
	{"a thousand million layers", func(g *ggufFile) { g.set("llama.block_count", gguf.Uint32(1e9)); g.rewrite() }, "block_count"},
	{"one layer more", func(g *ggufFile) { g.set("llama.block_count", gguf.Uint32(3)); g.rewrite() }, "is missing"},
	{"one layer less", func(g *ggufFile) { g.set("llama.block_count", gguf.Uint32(1)); g.rewrite() }, "not one that the architecture has"},
	{"heads 0", func(g *ggufFile) { g.set("llama.attention.head_count", gguf.Uint32(0)); g.rewrite() }, "head_count"},
	{"heads that do not divide", func(g *ggufFile) { g.set("llama.attention.head_count_kv", gguf.Uint32(3)); g.rewrite() }, "x.gguf"},
	{"a width past all", func(g *ggufFile) { g.set("llama.embedding_length", gguf.Uint64(1<<40)); g.rewrite() }, "embedding_length"},
	{"epsilon no number", func(g *ggufFile) {
		g.set("llama.attention.layer_norm_rms_epsilon", gguf.Float32(float32(math.NaN())))
		g.rewrite()
	}, "epsilon"},
	{"rope scaling unknown", func(g *ggufFile) { g.set("llama.rope.scaling.type", gguf.String("longrope")); g.rewrite() }, "longrope"},
	{"tensor missing", func(g *ggufFile) {
		g.tensors = slices.DeleteFunc(g.tensors, func(t gguf.Tensor) bool { return t.Name == ggufQ })
		g.rewrite()
	}, ggufQ},
	{"tensor too many", func(g *ggufFile) {
		g.tensors = append(g.tensors, gguf.Tensor{Name: "blk.0.ffn_gate_exps.weight", Type: ggml.F32, Shape: []int64{64}})
		g.rewrite()
	}, "ffn_gate_exps"},
	{"shape of another model", func(g *ggufFile) { g.tensor(ggufQ).Shape = []int64{32, 64}; g.rewrite() }, ggufQ},
	{"vocabulary of one row", func(g *ggufFile) { g.tensor(ggufEmbed).Shape = []int64{1, 64}; g.rewrite() }, "x.gguf"},
	{"norm in blocks", func(g *ggufFile) { g.tensor(ggufNorm).Type = ggml.Q8_0; g.rewrite() }, ""}, // odd, and its values are those
	{"type that is not read", func(g *ggufFile) {
		g.tensor(ggufQ).Type, g.tensor(ggufQ).Shape = ggml.I32, []int64{64, 64}
		g.rewrite()
	}, ggufQ},
	{"a scale that is no number", func(g *ggufFile) { copy(g.data[ggufQ], []byte{0, 0x7e}); g.rewrite() }, "q_proj"},
	{"a scale that is infinite", func(g *ggufFile) { copy(g.data[ggufQ], []byte{0, 0x7c}); g.rewrite() }, "q_proj"},
	{"a norm that is no number", func(g *ggufFile) { copy(g.data[ggufNorm], u32(0x7fc00000)); g.rewrite() }, "model.norm"},
}

// TestHostileGGUF: files that are damaged are refused by every command that reads them, within a few MiB, and nothing is written of them.
func TestHostileGGUF(t *testing.T) {
	dir := t.TempDir()
	src, good := filepath.Join(dir, "src"), filepath.Join(dir, "x.gguf")
	if err := writeModel(src, testmodel.New(hostileBase), 0); err != nil {
		t.Fatal(err)
	}
	mustRun(t, exitOK, "convert", src, "--to", "gguf", "--type", "q8_0", "-o", good)
	data := write(t, dir, "data.npy", string(npy(testmodel.Windows(2, 16, 128, 3))))
	for _, c := range hostileGGUF {
		t.Run(strings.ReplaceAll(c.name, " ", "_"), func(t *testing.T) {
			d := &damaged{t: t, base: t.TempDir()}
			d.dir = d.base
			d.put("x.gguf", string(must(os.ReadFile(good))))
			path := filepath.Join(d.base, "x.gguf")
			c.damage(openGood(d, path))
			for _, to := range [][]string{{"safetensors", "--dtype", "bf16"}, {"compressed-tensors", "--scheme", "w8a8"}, {"gguf", "--type", "f16"}} {
				want := exitInput
				if c.want == "" {
					want = exitOK
				}
				code, stderr := d.convert(path, to...)
				if copied := strings.HasPrefix(c.name, "a norm") && to[0] == "compressed-tensors"; copied { // its bytes stay
					want = exitOK
				}
				if code != want || want != exitOK && !strings.Contains(stderr, c.want) {
					t.Errorf("convert --to %s: exit code %d, want %d: %s", to[0], code, want, stderr)
				}
			}
			for _, args := range [][]string{{"inspect", path}, {"eval", path, "--data", data, "--length", "16"}} {
				code, _, stderr := runProgram(args...)
				looks := args[0] == "eval" || !strings.HasPrefix(c.name, "a scale") && !strings.HasPrefix(c.name, "a norm") // inspect reads no weights
				if want := c.want != "" && looks; (code == exitInput) != want || code != exitInput && code != exitOK {
					t.Errorf("%s: exit code %d: %s", args[0], code, stderr)
				}
			}
		})
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
