package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"modelpress/formats/safetensors"
)

func TestRunWritesACheckpoint(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "m")
	if err := run([]string{"-shape", "tiny", "-dtype", "f16", "-shard", "100KB", "-layers", "3", "-context", "2000", "-length", "40", "-o", dir}); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "model-*.safetensors"))
	if err != nil || len(files) < 2 {
		t.Fatalf("weights in %v, %v", files, err)
	}
	for _, f := range files {
		r, err := safetensors.Open(f)
		if err != nil {
			t.Fatal(err)
		}
		r.Close()
	}
	raw, err := os.ReadFile(filepath.Join(dir, "config.json"))
	if err != nil || !strings.Contains(string(raw), `"max_position_embeddings": 2000`) {
		t.Errorf("%s, %v", raw, err)
	}
	raw, err = os.ReadFile(filepath.Join(dir, "calib.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(raw)), "\n")
	var row struct{ IDs []int32 }
	if err := json.Unmarshal([]byte(lines[7]), &row); err != nil || len(lines) != 8 || len(row.IDs) != 40 {
		t.Errorf("%d rows, the last of %d ids, %v", len(lines), len(row.IDs), err)
	}
}

func TestRunRefuses(t *testing.T) {
	dir := t.TempDir() // exists already
	for _, args := range [][]string{
		{}, {"-o", dir}, {"-o", dir + "/x", "-shape", "none"}, {"-o", dir + "/x", "-dtype", "i3"},
		{"-o", dir + "/x", "-dtype", "i8"}, {"-o", dir + "/x", "-shard", "big"}, {"-bogus"},
	} {
		if err := run(args); err == nil {
			t.Errorf("%v: no error", args)
		}
	}
	if _, err := os.Stat(dir + "/x"); err == nil {
		t.Error("something was written")
	}
}
