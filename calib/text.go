package calib

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"unicode/utf8"

	"modelpress/formats"
)

// The limits on text input where [TextOptions] leaves them 0.
const (
	DefaultMaxLine     = 64 << 20  // bytes of one line of .jsonl
	DefaultMaxDocument = 256 << 20 // bytes of one plain text file
	DefaultMaxTotal    = 16 << 30  // bytes of one input after decompression
)

// TextOptions says how text is read. The zero value is usable.
type TextOptions struct {
	Field       string // the field of .jsonl lines that holds the text; "" for "text"
	MaxLine     int64  // longest line of .jsonl, bytes
	MaxDocument int64  // longest plain text, bytes; longer files of a directory are left out
	MaxTotal    int64  // all of the input after decompression, bytes: the guard against decompression bombs
}

func (o TextOptions) withDefaults() TextOptions {
	if o.Field == "" {
		o.Field = "text"
	}
	if o.MaxLine <= 0 {
		o.MaxLine = DefaultMaxLine
	}
	if o.MaxDocument <= 0 {
		o.MaxDocument = DefaultMaxDocument
	}
	if o.MaxTotal <= 0 {
		o.MaxTotal = DefaultMaxTotal
	}
	return o
}

// Text is an input of documents: a file, or the files of one extension below a directory. It holds no open file; each
// walk over [Text.Docs] opens its own.
type Text struct {
	path, base string
	ext        string // the extension of files below a directory; "" for a file
	opt        TextOptions
}

// OpenText checks that path names readable text and returns it. A name that ends in .jsonl, .ndjson or .json is read as
// one JSON object a line, {"text": "…"} or {"ids": [1, 2]}; any other file is one document of UTF-8 text. A further
// ending .gz or .zst means compression. "DIR:.go" stands for all regular files below DIR whose name ends in .go, in
// lexical order of their paths, each one document.
func OpenText(path string, opt TextOptions) (*Text, error) {
	t := &Text{path: path, base: filepath.Base(path), opt: opt.withDefaults()}
	fi, err := os.Stat(path)
	if err != nil {
		if dir, ext, ok := splitTree(path); ok {
			return &Text{path: dir, base: filepath.Base(dir), ext: ext, opt: t.opt}, nil
		}
		return nil, formats.Errorf(t.base, "", "%w", cause(err))
	}
	switch {
	case fi.IsDir():
		return nil, formats.Errorf(t.base, "", "is a directory; write %s:.ext to read the files of one extension below it", t.base)
	case !fi.Mode().IsRegular():
		return nil, formats.Errorf(t.base, "", "is not a regular file")
	case fi.Size() == 0:
		return nil, formats.Errorf(t.base, "", "is empty")
	}
	return t, nil
}

// Docs yields the documents of the input. Empty ones are left out; an input without any is an error.
func (t *Text) Docs() Docs {
	return func(yield func(Document, error) bool) {
		n, stopped := 0, false
		emit := func(d Document) bool {
			n++
			stopped = !yield(d, nil)
			return !stopped
		}
		var err error
		if t.ext != "" {
			err = t.tree(emit)
		} else {
			err = t.file(emit)
		}
		if err == nil && n == 0 {
			err = formats.Errorf(t.base, "", "holds no documents")
		}
		if err != nil && !stopped {
			yield(Document{}, err)
		}
	}
}

// file reads one file, as lines of JSON or as one text.
func (t *Text) file(emit func(Document) bool) error {
	f, _, err := openRegular(t.path)
	if err != nil {
		return formats.Errorf(t.base, "", "%w", err)
	}
	defer f.Close()
	r, inner, err := decompress(f, t.base, t.opt.MaxTotal)
	if err != nil {
		return formats.Errorf(t.base, "", "%w", err)
	}
	defer r.Close()
	br := bufio.NewReaderSize(r, 64<<10)
	if bom, _ := br.Peek(3); bytes.Equal(bom, utf8BOM) {
		br.Discard(3)
	}
	switch strings.ToLower(filepath.Ext(inner)) {
	case ".jsonl", ".ndjson", ".json":
		return t.lines(br, emit)
	}
	data, err := readCapped(br, t.opt.MaxDocument)
	if err != nil {
		return formats.Errorf(t.base, "", "%w", err)
	}
	if err := checkUTF8(data); err != nil {
		return formats.Errorf(t.base, "", "%w", err)
	}
	if len(data) > 0 {
		emit(Document{Name: t.base, Text: string(data)})
	}
	return nil
}

var utf8BOM = []byte{0xEF, 0xBB, 0xBF}

// errLong says that a document or a line passes its limit.
type errLong struct{ limit int64 }

func (e errLong) Error() string {
	return fmt.Sprintf("is longer than the limit of %d bytes for one document", e.limit)
}

// readCapped reads all of r, at most limit bytes.
func readCapped(r io.Reader, limit int64) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > limit {
		return nil, errLong{limit}
	}
	return data, nil
}

// checkUTF8 returns an error that names the first line that is not UTF-8.
func checkUTF8(data []byte) error {
	for off, line := 0, 1; off < len(data); {
		r, n := utf8.DecodeRune(data[off:])
		if r == utf8.RuneError && n <= 1 {
			return fmt.Errorf("line %d: invalid UTF-8 at byte %d", line, off)
		}
		if r == '\n' {
			line++
		}
		off += n
	}
	return nil
}
