package manifest

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const vectors = "schema/vectors"

// expectation is an entry of schema/vectors/invalid.json.
type expectation struct {
	Error      string `json:"error"`       // "malformed", "schema" or "invalid"
	Path       string `json:"path"`        // of a fault that must be among those found
	JSONSchema string `json:"json_schema"` // "fails", "passes" (only Validate can tell) or "no_json"
}

func documents(t testing.TB, dir string) map[string][]byte {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(vectors, dir, "*.json"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no vectors in %s: %v", dir, err)
	}
	docs := map[string][]byte{}
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		docs[strings.TrimSuffix(filepath.Base(f), ".json")] = data
	}
	return docs
}

func TestValidVectors(t *testing.T) {
	for name, data := range documents(t, "valid") {
		p, err := Decode(data)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		first, err := Encode(p)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		q, err := Decode(first)
		if err != nil {
			t.Errorf("%s, encoded: %v\n%s", name, err, first)
			continue
		}
		if second, err := Encode(q); err != nil || !bytes.Equal(first, second) {
			t.Errorf("%s: encoding is not stable: %v\n%s\n%s", name, err, first, second)
		}
		for l := range p.Model.Layers {
			_, g := p.Counts(l)
			for h := range g {
				if _, id := p.Resolve(l, h, Decoding, 1<<20); id == "" {
					t.Errorf("%s: layer %d head %d decodes under nothing", name, l, h)
				}
			}
		}
	}
}

func TestInvalidVectors(t *testing.T) {
	data, err := os.ReadFile(filepath.Join(vectors, "invalid.json"))
	if err != nil {
		t.Fatal(err)
	}
	var index map[string]expectation
	if err := json.Unmarshal(data, &index); err != nil {
		t.Fatal(err)
	}
	docs := documents(t, "invalid")
	if len(docs) != len(index) {
		t.Errorf("%d documents, %d expectations", len(docs), len(index))
	}
	sentinel := map[string]error{"malformed": ErrMalformed, "schema": ErrSchema, "invalid": ErrInvalid}
	for name, want := range index {
		_, err := Decode(docs[name])
		if want.Error == "" || !errors.Is(err, sentinel[want.Error]) {
			t.Errorf("%s: %v, want %s", name, err, want.Error)
			continue
		}
		var faults *FaultsError
		if !errors.As(err, &faults) {
			continue
		}
		if !slices.ContainsFunc(faults.Faults, func(f Fault) bool { return f.Path == want.Path }) {
			t.Errorf("%s: no fault at %s in %v", name, want.Path, faults.Faults)
		}
	}
}

func TestVectorsAgainstJSONSchema(t *testing.T) {
	data, err := os.ReadFile("schema/attention-plan-v1.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	var root map[string]any
	if err := json.Unmarshal(data, &root); err != nil {
		t.Fatal(err)
	}
	check := schemaChecker{t, root}
	for name, doc := range documents(t, "valid") {
		if msg := check.bytes(doc); msg != "" {
			t.Errorf("valid/%s: %s", name, msg)
		}
		p, err := Decode(doc)
		if err != nil {
			t.Fatal(err)
		}
		if out, err := Encode(p); err != nil || check.bytes(out) != "" {
			t.Errorf("valid/%s, encoded: %v %s", name, err, check.bytes(out))
		}
	}
	data, err = os.ReadFile(filepath.Join(vectors, "invalid.json"))
	if err != nil {
		t.Fatal(err)
	}
	var index map[string]expectation
	if err := json.Unmarshal(data, &index); err != nil {
		t.Fatal(err)
	}
	for name, doc := range documents(t, "invalid") {
		if index[name].JSONSchema == "no_json" {
			continue
		}
		if fails := check.bytes(doc) != ""; fails != (index[name].JSONSchema == "fails") {
			t.Errorf("invalid/%s: the JSON Schema fails is %t: %s", name, fails, check.bytes(doc))
		}
	}
}

func TestValidateFindsEveryFault(t *testing.T) {
	p := small()
	p.Granularity, p.Fallback, p.Model.WeightsDigest = "head", "hope", ""
	p.Defaults.Decode = "nope"
	faults := p.Validate()
	var paths []string
	for _, f := range faults {
		paths = append(paths, f.Path)
	}
	if want := []string{"defaults.decode", "fallback", "granularity", "model.weights_digest"}; !slices.Equal(paths, want) {
		t.Errorf("%v, want %v", paths, want)
	}
	if _, err := Encode(p); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), "4 faults") {
		t.Error(err)
	}
}

func TestPointer(t *testing.T) {
	doc, err := Encode(small())
	if err != nil {
		t.Fatal(err)
	}
	p := NewPointer(doc)
	if p.Schema != Schema || p.File != FileName || p.Check(doc) != nil {
		t.Errorf("%+v: %v", p, p.Check(doc))
	}
	if p.Check(append(doc, ' ')) == nil {
		t.Error("another document passes")
	}
}

func FuzzDecode(f *testing.F) {
	for _, dir := range []string{"valid", "invalid"} {
		for _, doc := range documents(f, dir) {
			f.Add(doc)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := Decode(data)
		if err != nil {
			return
		}
		first, err := Encode(p)
		if err != nil {
			t.Fatalf("decoded and cannot be encoded: %v", err)
		}
		q, err := Decode(first)
		if err != nil {
			t.Fatalf("encoded and cannot be decoded: %v\n%s", err, first)
		}
		if second, err := Encode(q); err != nil || !bytes.Equal(first, second) {
			t.Fatalf("not stable: %v\n%s\n%s", err, first, second)
		}
		if p.Model.Layers <= 64 && p.Model.KVHeads <= 64 {
			p.KVBytes(1<<20, 2)
		}
	})
}

// The canonical bytes of a document are part of the format: producers on different machines must agree on its digest.
func TestEncodeGolden(t *testing.T) {
	p, err := Decode(documents(t, "valid")["everything"])
	if err != nil {
		t.Fatal(err)
	}
	got, err := Encode(p)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join("testdata", "everything.golden.json")
	if os.Getenv("UPDATE_GOLDEN") != "" {
		if err := os.WriteFile(path, got, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("canonical bytes changed:\n%s", got)
	}
}
