package calib

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"unicode/utf8"

	"modelpress/formats"
)

// lines reads one JSON object a line. Blank lines are skipped.
func (t *Text) lines(r *bufio.Reader, emit func(Document) bool) error {
	var buf []byte
	for n := 1; ; n++ {
		line, err := readLine(r, buf[:0], t.opt.MaxLine)
		buf = line
		if err != nil && err != io.EOF {
			return formats.Errorf(t.base, "", "line %d: %w", n, err)
		}
		if b := bytes.TrimSpace(line); len(b) > 0 {
			d, derr := parseLine(b, t.opt.Field)
			if derr != nil {
				return formats.Errorf(t.base, "", "line %d: %w", n, derr)
			}
			d.Name = fmt.Sprintf("%s:%d", t.base, n)
			if (d.Text != "" || len(d.IDs) > 0) && !emit(d) {
				return nil
			}
		}
		if err == io.EOF {
			return nil
		}
	}
}

// readLine appends a line without its end to buf, or fails where it is longer than limit. io.EOF comes with the last line.
func readLine(r *bufio.Reader, buf []byte, limit int64) ([]byte, error) {
	for {
		part, err := r.ReadSlice('\n')
		if int64(len(buf)+len(part)) > limit+1 {
			return buf, fmt.Errorf("is longer than the limit of %d bytes for one line", limit)
		}
		buf = append(buf, part...)
		if err == bufio.ErrBufferFull {
			continue
		}
		return bytes.TrimSuffix(buf, []byte{'\n'}), err
	}
}

// parseLine reads one JSON object with a text or with token ids.
func parseLine(b []byte, field string) (Document, error) {
	if !utf8.Valid(b) {
		return Document{}, errors.New("invalid UTF-8")
	}
	if b[0] != '{' {
		return Document{}, fmt.Errorf("is not a JSON object such as {%q: \"…\"}", field)
	}
	var obj map[string]json.RawMessage
	if err := json.Unmarshal(b, &obj); err != nil {
		return Document{}, err
	}
	if raw, ok := obj[field]; ok {
		return parseText(raw, field)
	}
	for _, key := range [...]string{"ids", "input_ids"} {
		if raw, ok := obj[key]; ok {
			return parseIDs(raw, key)
		}
	}
	return Document{}, fmt.Errorf("has neither the field %q nor \"ids\"", field)
}

func parseText(raw json.RawMessage, field string) (Document, error) {
	if raw[0] != '"' {
		return Document{}, fmt.Errorf("field %q is not a string", field)
	}
	var s string
	if err := json.Unmarshal(raw, &s); err != nil {
		return Document{}, fmt.Errorf("field %q: %w", field, err)
	}
	// encoding/json turns half a surrogate pair into U+FFFD without a word.
	if strings.ContainsRune(s, utf8.RuneError) && !bytes.ContainsRune(raw, utf8.RuneError) &&
		!bytes.Contains(bytes.ToLower(raw), []byte(`\ufffd`)) {
		return Document{}, fmt.Errorf("field %q: an escape stands for half a surrogate pair", field)
	}
	return Document{Text: s}, nil
}

func parseIDs(raw json.RawMessage, key string) (Document, error) {
	var wide []int64
	if err := json.Unmarshal(raw, &wide); err != nil {
		return Document{}, fmt.Errorf("field %q is not a list of token ids: %w", key, err)
	}
	ids := make([]int32, len(wide))
	for i, v := range wide {
		if v < 0 || v > math.MaxInt32 {
			return Document{}, fmt.Errorf("field %q: element %d is %d, not a token id", key, i, v)
		}
		ids[i] = int32(v)
	}
	return Document{IDs: ids}, nil
}
