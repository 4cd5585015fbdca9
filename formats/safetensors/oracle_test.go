package safetensors

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"testing"

	nlp "github.com/nlpodyssey/safetensors"

	"modelpress/formats"
)

// TestOtherLibraryReadsUs reads what our writer wrote with nlpodyssey/safetensors.
func TestOtherLibraryReadsUs(t *testing.T) {
	for _, limit := range []int64{0, 40, 1} {
		dir, l := writeSample(t, limit)
		found := 0
		for _, s := range l.Shards {
			raw, err := os.ReadFile(filepath.Join(dir, s.Name))
			if err != nil {
				t.Fatal(err)
			}
			st, err := nlp.Deserialize(raw)
			if err != nil {
				t.Fatalf("%s: %v", s.Name, err)
			}
			for _, ti := range s.Tensors {
				n, _ := ti.Bytes()
				v, ok := st.Tensor(ti.Name)
				same := ok && v.DType().String() == ti.DType.String() && bytes.Equal(v.Data(), sampleData(ti.Name, n)) &&
					slices.EqualFunc(v.Shape(), ti.Shape, func(a uint64, b int64) bool { return a == uint64(b) })
				if !same {
					t.Errorf("%s: read %v", ti.Name, v)
				}
				found++
			}
			if st.Len() != len(s.Tensors) {
				t.Errorf("%s: %d tensors, want %d", s.Name, st.Len(), len(s.Tensors))
			}
		}
		if found != len(sample) {
			t.Errorf("%d tensors of %d", found, len(sample))
		}
	}
}

// TestWeReadOtherLibrary reads what nlpodyssey/safetensors serialized.
func TestWeReadOtherLibrary(t *testing.T) {
	views := map[string]nlp.TensorView{}
	for _, ti := range sample {
		if len(ti.Shape) == 0 { // its constructor refuses scalars
			continue
		}
		dt, err := nlp.ParseDType(ti.DType.String())
		if err != nil {
			t.Fatal(err)
		}
		shape := make([]uint64, len(ti.Shape))
		for i, d := range ti.Shape {
			shape[i] = uint64(d)
		}
		n, _ := ti.Bytes()
		if views[ti.Name], err = nlp.NewTensorView(dt, shape, sampleData(ti.Name, n)); err != nil {
			t.Fatal(err)
		}
	}
	raw, err := nlp.Serialize(views, map[string]string{"format": "pt", "é": "\"\n"})
	if err != nil {
		t.Fatal(err)
	}
	f, err := Open(writeTemp(t, raw))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if len(f.Tensors()) != len(views) || f.Metadata()["é"] != "\"\n" {
		t.Errorf("%d tensors, metadata %q", len(f.Tensors()), f.Metadata())
	}
	for _, ti := range sample {
		if _, ok := views[ti.Name]; !ok {
			continue
		}
		n, _ := ti.Bytes()
		p := make([]byte, n)
		got, _ := f.Lookup(ti.Name)
		if err := f.ReadAt(ti.Name, p, 0); err != nil || !bytes.Equal(p, sampleData(ti.Name, n)) || got.DType != ti.DType || !slices.Equal(got.Shape, ti.Shape) {
			t.Errorf("%s: %v, %v", ti.Name, got, err)
		}
	}
}

// TestStricterThanOtherLibrary pins why our own check goes first: these get past the other one.
func TestStricterThanOtherLibrary(t *testing.T) {
	accepted := 0
	for _, c := range hostile {
		if _, err := nlp.Deserialize(c.data); err == nil {
			accepted++
		}
	}
	if accepted < 8 {
		t.Errorf("the other library accepts %d of the hostile files: is our check still needed?", accepted)
	}
	t.Logf("the other library accepts %d of %d hostile files", accepted, len(hostile))
}

func TestCrossCheckFindsDifferences(t *testing.T) {
	raw := []byte("{" + tensorA + `,"__metadata__":{"x":"1"}}`)
	good := func() *header {
		h, err := parseHeader(raw, "f", 8)
		if err != nil {
			t.Fatal(err)
		}
		return h
	}
	if err := crossCheck(raw, "f", good()); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(h *header){
		"name":     func(h *header) { h.entries[0].Name = "b" },
		"dtype":    func(h *header) { h.entries[0].DType = formats.I32 },
		"shape":    func(h *header) { h.entries[0].Shape[0] = 3 },
		"offset":   func(h *header) { h.entries[0].end++ },
		"count":    func(h *header) { h.entries = append(h.entries, h.entries[0]) },
		"metadata": func(h *header) { h.metadata["x"] = "2" },
	} {
		h := good()
		change(h)
		if err := crossCheck(raw, "f", h); err == nil {
			t.Errorf("%s: not noticed", name)
		}
	}
}

// FuzzHeader checks on arbitrary files that opening neither panics nor accepts what nlpodyssey/safetensors refuses, and
// that all that is promised of an open file can be read.
func FuzzHeader(f *testing.F) {
	for _, c := range hostile {
		if len(c.data) < 4096 {
			f.Add(c.data)
		}
	}
	f.Add(build("{"+tensorA+`,"__metadata__":{"format":"pt"}}`, 8))
	f.Add(build(`{"a":{"dtype":"F8_E4M3","shape":[0,2],"data_offsets":[0,0]},"b":{"dtype":"C64","shape":[],"data_offsets":[0,8]}}  `, 8))
	f.Add(everyType())
	f.Fuzz(func(t *testing.T, data []byte) {
		raw, err := readHeader(bytes.NewReader(data), "f", int64(len(data)))
		if err != nil {
			return
		}
		start := 8 + len(raw)
		h, err := parseHeader(raw, "f", int64(len(data)-start))
		if err != nil {
			return
		}
		if err := crossCheck(raw, "f", h); err != nil {
			t.Fatalf("accepted %q, but %v", raw, err)
		}
		sum := int64(0)
		for i := range h.entries {
			e := &h.entries[i]
			_ = data[start+int(e.begin) : start+int(e.end)]
			sum += e.end - e.begin
		}
		if sum != int64(len(data)-start) {
			t.Fatalf("tensors have %d bytes of %d", sum, len(data)-start)
		}
	})
}
