package calib

import (
	"bytes"
	"compress/gzip"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/klauspost/compress/zstd"

	"modelpress/formats"
)

func writeFile(t *testing.T, name string, data []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func gz(t *testing.T, data []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func zst(t *testing.T, data []byte) []byte {
	t.Helper()
	w, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	return w.EncodeAll(data, nil)
}

func readDocs(t *testing.T, path string, opt TextOptions) ([]Document, error) {
	t.Helper()
	docs, err := OpenDocs(path, opt)
	if err != nil {
		return nil, err
	}
	var all []Document
	for d, err := range docs {
		if err != nil {
			return all, err
		}
		all = append(all, d)
	}
	return all, nil
}

func TestTextPlainAndCompressed(t *testing.T) {
	text := []byte("One line.\nZwei Zeilen, ü.\n")
	lines := []byte("\ufeff{\"text\": \"a\\u00fc\"}\n\n{\"text\": \"\"}\n{\"ids\": [1, 2, 3]}\r\n{\"text\": \"last\", \"x\": 1}")
	for name, data := range map[string][]byte{
		"a.txt": text, "a.txt.gz": gz(t, text), "a.txt.zst": zst(t, text), "a": text, "a.md.ZST": zst(t, text),
	} {
		docs, err := readDocs(t, writeFile(t, name, data), TextOptions{})
		if err != nil || len(docs) != 1 || docs[0].Text != string(text) {
			t.Errorf("%s: %v %v", name, docs, err)
		}
	}
	for name, data := range map[string][]byte{
		"a.jsonl": lines, "a.json": lines, "a.jsonl.gz": gz(t, lines), "a.ndjson.zst": zst(t, lines),
	} {
		docs, err := readDocs(t, writeFile(t, name, data), TextOptions{})
		if err != nil || len(docs) != 3 || docs[0].Text != "aü" || !slices.Equal(docs[1].IDs, []int32{1, 2, 3}) ||
			docs[2].Text != "last" || !strings.HasSuffix(docs[2].Name, ":5") {
			t.Errorf("%s: %v %v", name, docs, err)
		}
	}
	docs, err := readDocs(t, writeFile(t, "a.jsonl", []byte(`{"body": "b"}`)), TextOptions{Field: "body"})
	if err != nil || len(docs) != 1 || docs[0].Text != "b" {
		t.Errorf("field: %v %v", docs, err)
	}
}

// TestTextGzipMembers reads a file that was appended to, and stops early without reading all of it.
func TestTextGzipMembers(t *testing.T) {
	path := writeFile(t, "a.jsonl.gz", append(gz(t, []byte("{\"text\":\"a\"}\n")), gz(t, []byte("{\"text\":\"b\"}\nbroken"))...))
	tx, err := OpenText(path, TextOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for d, err := range tx.Docs() {
		if err != nil {
			t.Fatal(err)
		}
		if got = append(got, d.Text); len(got) == 2 {
			break
		}
	}
	if !slices.Equal(got, []string{"a", "b"}) {
		t.Error(got)
	}
}

func TestTextHostile(t *testing.T) {
	bomb := zst(t, bytes.Repeat([]byte("a"), 1<<20))
	for _, c := range []struct {
		name, want string
		data       []byte
		opt        TextOptions
	}{
		{"empty.txt", "is empty", nil, TextOptions{}},
		{"empty.txt.gz", "holds no documents", gz(t, nil), TextOptions{}},
		{"blank.jsonl", "holds no documents", []byte("\n\n \n"), TextOptions{}},
		{"notutf8.txt", "line 2: invalid UTF-8 at byte 3", []byte("ok\n\xff\n"), TextOptions{}},
		{"notutf8.jsonl", "line 2: invalid UTF-8", []byte("{\"text\":\"a\"}\n{\"text\":\"\xc3\"}\n"), TextOptions{}},
		{"surrogate.jsonl", "half a surrogate pair", []byte(`{"text":"\ud800"}`), TextOptions{}},
		{"array.json", "line 1: is not a JSON object", []byte(`[{"text":"a"}]`), TextOptions{}},
		{"broken.jsonl", "line 1: unexpected end of JSON input", []byte(`{"text":"a"`), TextOptions{}},
		{"nofield.jsonl", `has neither the field "text" nor "ids"`, []byte(`{"body":"a"}`), TextOptions{}},
		{"notstring.jsonl", `field "text" is not a string`, []byte(`{"text":null}`), TextOptions{}},
		{"negative.jsonl", "element 1 is -4, not a token id", []byte(`{"ids":[1,-4]}`), TextOptions{}},
		{"huge.jsonl", "element 0 is 2147483648, not a token id", []byte(`{"ids":[2147483648]}`), TextOptions{}},
		{"float.jsonl", "is not a list of token ids", []byte(`{"ids":[1.5]}`), TextOptions{}},
		{"long.jsonl", "line 2: is longer than the limit of 100 bytes", []byte("{\"text\":\"a\"}\n{\"text\":\"" + strings.Repeat("a", 100) + "\"}"), TextOptions{MaxLine: 100}},
		{"long.txt", "is longer than the limit of 10 bytes", []byte("0123456789a"), TextOptions{MaxDocument: 10}},
		{"bomb.txt.zst", "grows past the limit of 1000 bytes", bomb, TextOptions{MaxTotal: 1000}},
		{"bomb.jsonl.zst", "grows past the limit of 1000 bytes", bomb, TextOptions{MaxTotal: 1000}},
		{"not.gz", "gzip", []byte("not gzip at all"), TextOptions{}},
		{"not.zst", "magic", []byte("not zstd at all"), TextOptions{}},
		{"cut.txt.gz", "unexpected EOF", gz(t, []byte("some text"))[:20], TextOptions{}},
		{"cut.txt.zst", "unexpected EOF", bomb[:len(bomb)/2], TextOptions{}},
	} {
		_, err := readDocs(t, writeFile(t, c.name, c.data), c.opt)
		var fe *formats.Error
		if !errors.As(err, &fe) || fe.File != c.name || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", c.name, err, c.want)
		}
	}
	pipe := filepath.Join(t.TempDir(), "pipe.npy")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := ReadIDs(pipe)
	_, err2 := ReadPrompts(pipe)
	for _, err := range [...]error{err, err2} {
		if err == nil || err.Error() != "pipe.npy: is not a regular file" {
			t.Error(err)
		}
	}
	for path, want := range map[string]string{
		t.TempDir():                          "is a directory; write",
		filepath.Join(t.TempDir(), "absent"): "no such file",
		"absent:.go":                         "no such file",
		os.DevNull:                           "not a regular file",
	} {
		if _, err := OpenText(path, TextOptions{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", path, err)
		}
	}
}

func TestTextTree(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"b.go": "package b", "a/z.go": "package z", "a/y.go": "package y", "a/n.txt": "no", "bad.go": "\xff",
		"empty.go": "", "long.go": strings.Repeat("x", 101),
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(filepath.Join(dir, "b.go"), filepath.Join(dir, "link.go")); err != nil {
		t.Fatal(err)
	}
	for _, ext := range []string{":.go", ":go"} {
		docs, err := readDocs(t, dir+ext, TextOptions{MaxDocument: 100})
		var names []string
		for _, d := range docs {
			names = append(names, filepath.ToSlash(d.Name))
		}
		if err != nil || !slices.Equal(names, []string{"a/y.go", "a/z.go", "b.go"}) {
			t.Errorf("%s: %v %v", ext, names, err)
		}
	}
	if _, err := readDocs(t, dir+":.py", TextOptions{}); err == nil || !strings.Contains(err.Error(), "holds no documents") {
		t.Error(err)
	}
	if _, err := readDocs(t, dir+":.go", TextOptions{MaxTotal: 10}); err == nil || !strings.Contains(err.Error(), "limit of 10 bytes") {
		t.Error(err)
	}
}
