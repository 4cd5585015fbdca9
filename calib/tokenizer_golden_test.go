package calib

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// variant is an entry of testdata/tokenizers/variants.json: a vocabulary and the sections that replace its own.
type variant struct {
	Name        string
	Base        string
	Set         map[string]any
	Model       map[string]any
	ExtraMerges [][2]string `json:"extra_merges"`
}

func readJSON(t testing.TB, name string, v any) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", "tokenizers", name))
	if err != nil {
		t.Fatal(err)
	}
	if strings.HasSuffix(name, ".gz") {
		r, err := gzip.NewReader(bytes.NewReader(data))
		if err != nil {
			t.Fatal(err)
		}
		if data, err = io.ReadAll(r); err != nil {
			t.Fatal(err)
		}
	}
	if err := json.Unmarshal(data, v); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
}

// assemble builds the tokenizer.json of a variant by the rules of golden.js.
func assemble(t testing.TB, v variant) []byte {
	t.Helper()
	doc := map[string]any{"model": map[string]any{}}
	if v.Base != "" {
		readJSON(t, v.Base+".json.gz", &doc)
	}
	for key, value := range v.Set {
		doc[key] = value
	}
	doc["version"] = "1.0"
	model := doc["model"].(map[string]any)
	for key, value := range v.Model {
		model[key] = value
	}
	ids := map[string]int{}
	vocab := model["vocab"].(map[string]any)
	for token, id := range vocab {
		ids[token] = int(id.(float64))
	}
	for _, m := range v.ExtraMerges {
		merges := model["merges"].([]any)
		token := m[0] + m[1]
		if _, ok := ids[token]; !ok {
			ids[token] = len(ids)
			vocab[token] = ids[token]
		}
		if _, ok := merges[0].(string); ok {
			model["merges"] = append(merges, m[0]+" "+m[1])
		} else {
			model["merges"] = append(merges, []any{m[0], m[1]})
		}
	}
	added, _ := doc["added_tokens"].([]any)
	for _, a := range added {
		tok := a.(map[string]any)
		content := tok["content"].(string)
		if _, ok := ids[content]; !ok {
			ids[content] = len(ids)
		}
		tok["id"] = ids[content]
	}
	out, err := json.Marshal(fillIDs(doc, ids))
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// fillIDs replaces every string "ID:token" by the id of token.
func fillIDs(v any, ids map[string]int) any {
	switch v := v.(type) {
	case string:
		if name, ok := strings.CutPrefix(v, "ID:"); ok {
			return ids[name]
		}
	case []any:
		for i := range v {
			v[i] = fillIDs(v[i], ids)
		}
	case map[string]any:
		for k := range v {
			v[k] = fillIDs(v[k], ids)
		}
	}
	return v
}

func variants(t testing.TB) []variant {
	var all []variant
	readJSON(t, "variants.json", &all)
	return all
}

func loadVariant(t testing.TB, v variant) *Tokenizer {
	t.Helper()
	tok, err := LoadTokenizer(assemble(t, v))
	if err != nil {
		t.Fatalf("%s: %v", v.Name, err)
	}
	return tok
}

func idBytes(ids []int32) []byte {
	var out []byte
	for _, id := range ids {
		out = binary.LittleEndian.AppendUint32(out, uint32(id))
	}
	return out
}

// TestTokenizerGolden compares ids, decoded text and post-processed ids of every variant with what the Hugging Face
// library gave (testdata/tokenizers/README.md). With TOKENIZER_TEXTS=file it writes the texts for golden.js instead.
func TestTokenizerGolden(t *testing.T) {
	texts := makeTexts(goldenSeed, goldenTexts)
	if name := os.Getenv("TOKENIZER_TEXTS"); name != "" {
		data, err := json.Marshal(texts)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, data, 0o666); err != nil {
			t.Fatal(err)
		}
		return
	}
	var digests map[string]struct{ Special, Skipped string }
	readJSON(t, "goldens.json", &digests)
	for _, v := range variants(t) {
		t.Run(v.Name, func(t *testing.T) {
			tok := loadVariant(t, v)
			compareGolden(t, v.Name, tok, texts)
			special, skipped := sha256.New(), sha256.New()
			for _, text := range texts {
				special.Write(idBytes(tok.EncodeSpecial(text)))
				skipped.Write([]byte(tok.DecodeSkipSpecial(tok.Encode(text)) + "\n"))
			}
			if got := hex.EncodeToString(special.Sum(nil)); got != digests[v.Name].Special {
				t.Errorf("post-processed ids differ: digest %s, want %s", got, digests[v.Name].Special)
			}
			if got := hex.EncodeToString(skipped.Sum(nil)); got != digests[v.Name].Skipped {
				t.Errorf("texts without special tokens differ: digest %s, want %s", got, digests[v.Name].Skipped)
			}
		})
	}
}

func compareGolden(t *testing.T, name string, tok *Tokenizer, texts []string) {
	sums, err := os.ReadFile(filepath.Join("testdata", "tokenizers", name+".sum"))
	if err != nil {
		t.Fatal(err)
	}
	var full [][]int32
	readJSON(t, name+".ids.json", &full)
	if len(sums) != 8*len(texts) {
		t.Fatalf("%d bytes of goldens for %d texts", len(sums), len(texts))
	}
	tokens, wrongIDs, wrongText := 0, 0, 0
	for i, text := range texts {
		ids := tok.Encode(text)
		tokens += len(ids)
		want := sums[8*i : 8*i+8]
		if sum := sha256.Sum256(idBytes(ids)); !bytes.Equal(sum[:6], want[:6]) {
			if wrongIDs++; wrongIDs <= 5 {
				t.Errorf("text %d: Encode(%+q) = %v", i, clip(text), ids[:min(len(ids), 60)])
				if i < len(full) {
					t.Errorf("text %d: want %v", i, full[i])
				}
			}
			continue
		}
		if sum := sha256.Sum256([]byte(tok.Decode(ids))); !bytes.Equal(sum[:2], want[6:]) {
			if wrongText++; wrongText <= 5 {
				t.Errorf("text %d: Decode(Encode(%+q)) = %+q", i, clip(text), clip(tok.Decode(ids)))
			}
		}
	}
	t.Logf("%d texts, %d tokens: %d with other ids, %d with other decoded text", len(texts), tokens, wrongIDs, wrongText)
	if wrongIDs+wrongText > 0 {
		t.Errorf("%d texts with other ids, %d with other decoded text", wrongIDs, wrongText)
	}
}
