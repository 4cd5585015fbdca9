package hf

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"modelpress/formats"
)

// weights returns a safetensors file of U8 tensors, two bytes each, that hold the first letters of their names.
func weights(names ...string) string {
	var head []string
	var data []byte
	for i, n := range names {
		head = append(head, fmt.Sprintf(`%q:{"dtype":"U8","shape":[2],"data_offsets":[%d,%d]}`, n, 2*i, 2*i+2))
		data = append(data, n[0], n[0]+1)
	}
	text := "{" + strings.Join(head, ",") + "}"
	return string(binary.LittleEndian.AppendUint64(nil, uint64(len(text)))) + text + string(data)
}

// tree is the files of a checkpoint; a value that starts with "->" is the target of a symbolic link.
type tree map[string]string

func (f tree) write(t testing.TB, dir string) string {
	t.Helper()
	for name, text := range f {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		var err error
		if target, ok := strings.CutPrefix(text, "->"); ok {
			err = os.Symlink(target, path)
		} else {
			err = os.WriteFile(path, []byte(text), 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// with returns the files of f and more; an empty text removes the file.
func (f tree) with(more tree) tree {
	out := tree{}
	for _, m := range []tree{f, more} {
		for name, text := range m {
			out[name] = text
			if text == "" {
				delete(out, name)
			}
		}
	}
	return out
}

const (
	shard1 = "model-00001-of-00002.safetensors"
	shard2 = "model-00002-of-00002.safetensors"
)

var (
	single = tree{"config.json": `{"model_type":"llama"}`, "model.safetensors": weights("b", "a")}

	sharded = tree{
		"config.json": `{}`, shard1: weights("c", "a"), shard2: weights("b"),
		indexName: `{"metadata":{"total_size":6},"weight_map":{"a":"` + shard1 + `","b":"` + shard2 + `","c":"` + shard1 + `"}}`,
	}
)

func openTree(t testing.TB, f tree, opts ...Option) *Checkpoint {
	t.Helper()
	c, err := Open(f.write(t, t.TempDir()), opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func names(list []formats.TensorInfo) string {
	var out []string
	for _, t := range list {
		out = append(out, t.Name)
	}
	return strings.Join(out, " ")
}

func TestOpenSingleAndSharded(t *testing.T) {
	for _, x := range []struct {
		files                  tree
		tensors, order, shards string
	}{
		{single, "a b", "b a", "model.safetensors"},
		{sharded, "a b c", "c a b", shard1 + " " + shard2},
		{single.with(tree{indexName: `{"weight_map":{"a":"model.safetensors","b":"model.safetensors"}}`}), "a b", "b a", "model.safetensors"},
		{sharded.with(tree{indexName: strings.Replace(sharded[indexName], "6", "6.0", 1)}), "a b c", "c a b", shard1 + " " + shard2},
	} {
		c := openTree(t, x.files)
		if names(c.Tensors()) != x.tensors || names(c.DataOrder()) != x.order {
			t.Errorf("tensors %s, order %s", names(c.Tensors()), names(c.DataOrder()))
		}
		var shards []string
		for _, s := range c.Shards() {
			shards = append(shards, s.Name())
		}
		if strings.Join(shards, " ") != x.shards || len(c.Warnings()) != 0 {
			t.Errorf("shards %v, warnings %v", shards, c.Warnings())
		}
		for _, ti := range c.Tensors() {
			p := make([]byte, 2)
			if err := c.ReadAt(ti.Name, p, 0); err != nil || p[0] != ti.Name[0] || p[1] != ti.Name[0]+1 {
				t.Errorf("%s: %v, %v", ti.Name, p, err)
			}
			if got, ok := c.Lookup(ti.Name); !ok || got.Name != ti.Name || !strings.Contains(x.shards, c.Shard(ti.Name)) {
				t.Errorf("lookup %v", got)
			}
		}
		if _, ok := c.Lookup("none"); ok || c.ReadAt("none", nil, 0) == nil || c.Shard("none") != "" {
			t.Error("a tensor that is not there")
		}
		if string(c.Config()) != x.files["config.json"] {
			t.Errorf("config %q", c.Config())
		}
		if err := c.CheckUnchanged(); err != nil {
			t.Error(err)
		}
	}
}

func indexOf(pairs ...string) string {
	var list []string
	for i := 0; i < len(pairs); i += 2 {
		list = append(list, fmt.Sprintf("%q:%q", pairs[i], pairs[i+1]))
	}
	return `{"weight_map":{` + strings.Join(list, ",") + `}}`
}

// TestHostileDirectories has one checkpoint for each way to be bad: the file and the tensor to be named, and part of the
// error.
func TestHostileDirectories(t *testing.T) {
	outside := filepath.Join(t.TempDir(), "model.safetensors")
	if err := os.WriteFile(outside, []byte(weights("a", "b")), 0o600); err != nil {
		t.Fatal(err)
	}
	relative := "../" + filepath.Base(filepath.Dir(outside)) + "/model.safetensors"
	for _, x := range []struct {
		name, file, tensor, want string
		files                    tree
	}{
		{"no config", "config.json", "", "not exist", single.with(tree{"config.json": ""})},
		{"no weights", "x", "", "neither", single.with(tree{"model.safetensors": ""})},
		{"shards and no index", indexName, "", "2 weight files (the first is \"model-00001-of-00002.safetensors\")", single.with(tree{"model.safetensors": "", "model-00001-of-00002.safetensors": "x", "model-00002-of-00002.safetensors": "x"})},
		{"pickled weights", "x", "", "neither", single.with(tree{"model.safetensors": "", "pytorch_model.bin": "x"})},
		{"damaged weights", "model.safetensors", "", "too few", single.with(tree{"model.safetensors": "x"})},
		{"two sets of weights", indexName, "", "unclear", sharded.with(tree{"model.safetensors": weights("a", "b", "c")})},
		{"weights are a directory", "model.safetensors", "", "regular", tree{"config.json": "{}", "model.safetensors/x": "x"}},
		{"link out, absolute", "model.safetensors", "", "out of the checkpoint", single.with(tree{"model.safetensors": "->" + outside})},
		{"link out, relative", "model.safetensors", "", "out of the checkpoint", single.with(tree{"model.safetensors": "->" + relative})},
		{"link to nothing", "model.safetensors", "", "does not exist", single.with(tree{"model.safetensors": "->gone"})},
		{"link to itself", "model.safetensors", "", "model.safetensors", single.with(tree{"model.safetensors": "->model.safetensors"})},
		{"config link out", "config.json", "", "out of the checkpoint", single.with(tree{"config.json": "->" + outside})},
		{"tokenizer link out", "tokenizer.json", "", "out of the checkpoint", single.with(tree{"tokenizer.json": "->/etc/passwd"})},
		{"index link out", indexName, "", "out of the checkpoint", sharded.with(tree{indexName: "->" + outside})},
		{"shard link out", shard1, "", "out of the checkpoint", sharded.with(tree{shard1: "->" + outside})},
		{"snapshots without blobs", "model.safetensors", "", "out of the checkpoint", nil},

		{"index ../", indexName, "a", "shard name", sharded.with(tree{indexName: indexOf("a", "../x.safetensors")})},
		{"index inner ..", indexName, "a", "shard name", sharded.with(tree{indexName: indexOf("a", "x/../"+shard1)})},
		{"index absolute", indexName, "a", "shard name", sharded.with(tree{indexName: indexOf("a", "/abs.safetensors")})},
		{"index drive", indexName, "a", "shard name", sharded.with(tree{indexName: indexOf("a", "C:x.safetensors")})},
		{"index drive path", indexName, "a", "shard name", sharded.with(tree{indexName: indexOf("a", `C:\x.safetensors`)})},
		{"index backslash", indexName, "a", "shard name", sharded.with(tree{indexName: indexOf("a", `..\x.safetensors`)})},
		{"index directory", indexName, "a", "shard name", sharded.with(tree{indexName: indexOf("a", "sub/x.safetensors")})},
		{"index extension", indexName, "a", "shard name", sharded.with(tree{indexName: indexOf("a", "model.bin")})},
		{"index extension only", indexName, "a", "shard name", sharded.with(tree{indexName: indexOf("a", ".safetensors/")})},
		{"index newline", indexName, "a", "shard name", sharded.with(tree{indexName: indexOf("a", "x.safetensors\n")})},
		{"index empty name", indexName, "a", "shard name", sharded.with(tree{indexName: indexOf("a", "")})},
		{"index NUL", indexName, "a", "shard name", sharded.with(tree{indexName: `{"weight_map":{"a":"x\u0000.safetensors"}}`})},
		{"missing shard", shard2, "", "not exist", sharded.with(tree{shard2: ""})},
		{"extra tensor", shard2, "d", "not in " + indexName, sharded.with(tree{shard2: weights("b", "d")})},
		{"wrong shard", shard1, "a", "into " + shard2, sharded.with(tree{indexName: indexOf("a", shard2, "b", shard2, "c", shard1)})},
		{"tensor in two shards", shard2, "a", "into " + shard1, sharded.with(tree{shard2: weights("b", "a")})},
		{"missing tensors", shard1, "a2", "missing (as are 1 others)", sharded.with(tree{indexName: indexOf("a", shard1, "b", shard2, "c", shard1, "z", shard2, "a2", shard1)})},
		{"shard twice by link", shard2, "a", "into " + shard1, sharded.with(tree{shard2: "->" + shard1})},
		{"index not JSON", indexName, "", "object is due", sharded.with(tree{indexName: `{"weight_map":x}`})},
		{"index a list", indexName, "", "object is due", sharded.with(tree{indexName: `[]`})},
		{"index without map", indexName, "", "no weight_map", sharded.with(tree{indexName: `{"metadata":{}}`})},
		{"index empty map", indexName, "", "no weight_map", sharded.with(tree{indexName: `{"weight_map":{}}`})},
		{"index map a list", indexName, "", "object is due", sharded.with(tree{indexName: `{"weight_map":[]}`})},
		{"index shard a number", indexName, "", "string is due", sharded.with(tree{indexName: `{"weight_map":{"a":1}}`})},
		{"index duplicate tensor", indexName, "", "duplicate key", sharded.with(tree{indexName: indexOf("a", shard1, "a", shard2)})},
		{"index two maps", indexName, "", "duplicate key", sharded.with(tree{indexName: `{"weight_map":{},"weight_map":{}}`})},
		{"index trailing", indexName, "", "data after", sharded.with(tree{indexName: sharded[indexName] + "{}"})},
		{"index deep", indexName, "", "too deep", sharded.with(tree{indexName: strings.Repeat(`{"x":`, 1000)})},
		{"many shards", indexName, "", "4096 shards", sharded.with(tree{indexName: manyShards(maxShards + 1)})},
	} {
		t.Run(x.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "x")
			if x.files == nil {
				base := t.TempDir()
				tree{"secret/w": weights("a")}.write(t, base)
				dir = filepath.Join(base, "snapshots", "x")
				x.files = tree{"config.json": "{}", "model.safetensors": "->../../secret/w"}
			}
			_, err := Open(x.files.write(t, dir))
			var e *formats.Error
			if !errors.As(err, &e) {
				t.Fatalf("error %v is no formats.Error", err)
			}
			if e.File != x.file || e.Tensor != x.tensor || !strings.Contains(err.Error(), x.want) {
				t.Errorf("%v (file %q, tensor %q), want %q, %q, %q", err, e.File, e.Tensor, x.file, x.tensor, x.want)
			}
			if strings.Contains(err.Error(), filepath.Dir(dir)) {
				t.Errorf("the error names directories: %v", err)
			}
		})
	}
}

func manyShards(n int) string {
	var pairs []string
	for i := range n {
		pairs = append(pairs, fmt.Sprint(i), fmt.Sprintf("x%d.safetensors", i))
	}
	return indexOf(pairs...)
}

func TestOpenMissingDirectory(t *testing.T) {
	if _, err := Open(filepath.Join(t.TempDir(), "none")); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
	dir := single.write(t, t.TempDir())
	if _, err := Open(filepath.Join(dir, "config.json")); err == nil {
		t.Error("a file opened as a directory")
	}
}

// TestCacheLayout opens what the Hugging Face cache makes of a repository: links into a directory two levels up.
func TestCacheLayout(t *testing.T) {
	for _, files := range []tree{single, sharded} {
		base := filepath.Join(t.TempDir(), "models--a--b")
		cache := tree{"blobs/unused": "x"}
		for name, text := range files {
			cache["blobs/"+name] = text
			cache["snapshots/rev1/"+name] = "->../../blobs/" + name
		}
		cache["snapshots/rev1/.gitattributes"] = "->../../blobs/unused"
		cache.write(t, base)
		for _, dir := range []string{filepath.Join(base, "snapshots", "rev1"), filepath.Join(base, "snapshots", "rev1") + "/"} {
			c, err := Open(dir)
			if err != nil {
				t.Fatal(err)
			}
			p := make([]byte, 2)
			if err := c.ReadAt("a", p, 0); err != nil || string(p) != "ab" {
				t.Errorf("%q, %v", p, err)
			}
			if c.Name() != "rev1" || c.CheckUnchanged() != nil {
				t.Errorf("name %s, %v", c.Name(), c.CheckUnchanged())
			}
			c.Close()
		}
		// Out of the repository's directory is still out.
		tree{"secret": weights("a", "b")}.write(t, filepath.Dir(base))
		tree{"snapshots/rev2/config.json": "{}", "snapshots/rev2/model.safetensors": "->../../../secret"}.write(t, base)
		if _, err := Open(filepath.Join(base, "snapshots", "rev2")); err == nil || !strings.Contains(err.Error(), "out of") {
			t.Errorf("link out of the repository: %v", err)
		}
	}
}

func TestLinksInsideAreFine(t *testing.T) {
	c := openTree(t, single.with(tree{"model.safetensors": "->sub/weights", "sub/weights": weights("a")}))
	if names(c.Tensors()) != "a" {
		t.Errorf("tensors %s", names(c.Tensors()))
	}
	// The directory itself may be reached by a link.
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(single.write(t, t.TempDir()), link); err != nil {
		t.Fatal(err)
	}
	c, err := Open(link)
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
}

func TestWrongTotalSizeIsAWarning(t *testing.T) {
	c := openTree(t, sharded.with(tree{indexName: strings.Replace(sharded[indexName], "6", "7", 1)}))
	if w := c.Warnings(); len(w) != 1 || !strings.Contains(w[0], "total_size is 7, but the tensors have 6 bytes") {
		t.Errorf("warnings %q", w)
	}
}

func TestCheckUnchanged(t *testing.T) {
	past := time.Unix(1, 0)
	for name, change := range map[string]func(dir string) error{
		"touched shard":  func(dir string) error { return os.Chtimes(filepath.Join(dir, shard2), past, past) },
		"touched config": func(dir string) error { return os.Chtimes(filepath.Join(dir, configName), past, past) },
		"index removed":  func(dir string) error { return os.Remove(filepath.Join(dir, indexName)) },
		"shard removed":  func(dir string) error { return os.Remove(filepath.Join(dir, shard1)) },
		"same bytes and time, other file": func(dir string) error {
			path := filepath.Join(dir, shard2)
			info, err := os.Stat(path)
			b, err2 := os.ReadFile(path)
			tmp := filepath.Join(dir, "tmp")
			return errors.Join(err, err2, os.WriteFile(tmp, b, 0o600), os.Chtimes(tmp, info.ModTime(), info.ModTime()), os.Rename(tmp, path))
		},
		"tokenizer grown": func(dir string) error {
			return os.WriteFile(filepath.Join(dir, "tokenizer.json"), []byte("{} "), 0o600)
		},
	} {
		dir := sharded.with(tree{"tokenizer.json": "{}"}).write(t, t.TempDir())
		c, err := Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.CheckUnchanged(); err != nil {
			t.Errorf("%s: before: %v", name, err)
		}
		if err := change(dir); err != nil {
			t.Fatal(err)
		}
		if err := c.CheckUnchanged(); err == nil {
			t.Errorf("%s: not noticed", name)
		}
		c.Close()
	}
}

// FuzzIndex checks that whatever parses has only names that cannot lead out of the directory.
func FuzzIndex(f *testing.F) {
	f.Add([]byte(sharded[indexName]))
	for _, shard := range []string{"../x.safetensors", "/a.safetensors", `C:\x.safetensors`, `..\x.safetensors`, "..safetensors", shard1} {
		f.Add([]byte(indexOf("a", shard)))
	}
	f.Add([]byte(`{"metadata":{"total_size":1e3},"weight_map":{"a":"x.safetensors","a":"y.safetensors"},"x":[]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		x, err := parseIndex(data, "index")
		if err != nil {
			return
		}
		for tensor, shard := range x.shardOf {
			if filepath.Base(shard) != shard || strings.ContainsAny(shard, "/\\:\x00\n") || !strings.HasSuffix(shard, ".safetensors") || !filepath.IsLocal(shard) {
				t.Fatalf("tensor %q in shard %q", tensor, shard)
			}
			if !slices.Contains(x.shards, shard) {
				t.Fatalf("shard %q is not listed", shard)
			}
		}
		if !slices.IsSorted(x.shards) || x.totalSize < -1 || bytes.IndexByte(data, '{') < 0 {
			t.Fatalf("index %+v", x)
		}
	})
}
