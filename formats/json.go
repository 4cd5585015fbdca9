package formats

import (
	"bytes"
	"fmt"
)

// JSONScanner walks a JSON document as RFC 8259 defines it and nothing wider: no duplicate keys (compared after
// unescaping) in any object, no NaN or Infinity, no lone surrogates or invalid UTF-8, bounded depth. encoding/json lets
// these pass, and two readers that settle them differently see two different models in one file.
//
// Each method consumes one value. Errors carry the byte offset. The scanner allocates only the strings that it returns
// and the keys of the objects that are open.
type JSONScanner struct {
	data  []byte
	pos   int
	depth int
}

// NewJSONScanner returns a scanner of data in which arrays and objects nest at most maxDepth deep. The scanner keeps a
// reference to data.
func NewJSONScanner(data []byte, maxDepth int) *JSONScanner {
	return &JSONScanner{data: data, depth: maxDepth}
}

// CheckJSON reports whether data is one JSON value, as [JSONScanner] reads it, with only white space around it.
func CheckJSON(data []byte, maxDepth int) error {
	s := NewJSONScanner(data, maxDepth)
	if err := s.Skip(); err != nil {
		return err
	}
	return s.End()
}

func (s *JSONScanner) errorf(format string, args ...any) error {
	return fmt.Errorf("offset %d: %w", s.pos, fmt.Errorf(format, args...))
}

// Pos returns the offset of the next byte that is neither consumed nor white space.
func (s *JSONScanner) Pos() int {
	for s.pos < len(s.data) {
		switch s.data[s.pos] {
		case ' ', '\t', '\n', '\r':
			s.pos++
		default:
			return s.pos
		}
	}
	return s.pos
}

// Consumed returns the offset after the last byte consumed. White space looked at by Pos or Kind counts as consumed.
func (s *JSONScanner) Consumed() int { return s.pos }

// Kind returns the first byte of the next value, 0 at the end of the data.
func (s *JSONScanner) Kind() byte {
	if s.Pos() == len(s.data) {
		return 0
	}
	return s.data[s.pos]
}

// End returns an error unless only white space is left.
func (s *JSONScanner) End() error {
	if s.Pos() != len(s.data) {
		return s.errorf("data after the JSON value")
	}
	return nil
}

func (s *JSONScanner) expect(c byte, what string) error {
	if s.Pos() == len(s.data) {
		return s.errorf("the JSON text ends where %s is due", what)
	}
	if s.data[s.pos] != c {
		return s.errorf("%q where %s is due", s.data[s.pos], what)
	}
	s.pos++
	return nil
}

// Object consumes an object; f is called after each key and must consume the value.
func (s *JSONScanner) Object(f func(key string) error) error {
	if err := s.open('{', "an object"); err != nil {
		return err
	}
	defer func() { s.depth++ }()
	var seen keySet
	for first := true; ; first = false {
		if s.Kind() == '}' && first {
			s.pos++
			return nil
		}
		start := s.pos
		key, err := s.String()
		if err != nil {
			return err
		}
		if len(seen.many) == maxKeys {
			return s.errorf("object has more than %d keys", maxKeys)
		}
		if !seen.add(key) {
			s.pos = start
			return s.errorf("duplicate key %s", shortQuote(key))
		}
		if err := s.expect(':', "a colon"); err != nil {
			return err
		}
		if err := f(key); err != nil {
			return err
		}
		if done, err := s.next('}'); done || err != nil {
			return err
		}
	}
}

// Array consumes an array; f is called before each element, with its index, and must consume it.
func (s *JSONScanner) Array(f func(i int) error) error {
	if err := s.open('[', "an array"); err != nil {
		return err
	}
	defer func() { s.depth++ }()
	for i := 0; ; i++ {
		if s.Kind() == ']' && i == 0 {
			s.pos++
			return nil
		}
		if err := f(i); err != nil {
			return err
		}
		if done, err := s.next(']'); done || err != nil {
			return err
		}
	}
}

func (s *JSONScanner) open(c byte, what string) error {
	if err := s.expect(c, what); err != nil {
		return err
	}
	if s.depth == 0 {
		return s.errorf("nested too deep")
	}
	s.depth--
	return nil
}

// next consumes a comma, or the bracket that ends the value.
func (s *JSONScanner) next(end byte) (done bool, err error) {
	if s.Kind() == end {
		s.pos++
		return true, nil
	}
	return false, s.expect(',', fmt.Sprintf("a comma or %q", end))
}

// Skip consumes one value of any kind, checked in full.
func (s *JSONScanner) Skip() error {
	switch s.Kind() {
	case '{':
		return s.Object(func(string) error { return s.Skip() })
	case '[':
		return s.Array(func(int) error { return s.Skip() })
	case '"':
		_, err := s.String()
		return err
	case 't':
		return s.literal("true")
	case 'f':
		return s.literal("false")
	case 'n':
		return s.literal("null")
	}
	_, err := s.Number()
	return err
}

func (s *JSONScanner) literal(word string) error {
	if !bytes.HasPrefix(s.data[s.pos:], []byte(word)) {
		return s.errorf("not a JSON value")
	}
	s.pos += len(word)
	return nil
}

// Raw consumes one value of any kind and returns its bytes, which share memory with the data scanned.
func (s *JSONScanner) Raw() ([]byte, error) {
	start := s.Pos()
	if err := s.Skip(); err != nil {
		return nil, err
	}
	return s.data[start:s.pos:s.pos], nil
}

// maxKeys bounds the keys of one object, and with them what the check for duplicates holds in memory. It is above the
// number of tensors that any format here allows.
const maxKeys = 1 << 21

// keySet holds the keys of one object: a slice while there are few, which is the rule, a map past that.
type keySet struct {
	few  [8]string
	n    int
	many map[string]struct{}
}

// add reports whether key is new.
func (k *keySet) add(key string) bool {
	if k.many != nil {
		n := len(k.many)
		k.many[key] = struct{}{}
		return len(k.many) > n
	}
	for _, have := range k.few[:k.n] {
		if have == key {
			return false
		}
	}
	if k.n < len(k.few) {
		k.few[k.n] = key
		k.n++
		return true
	}
	k.many = make(map[string]struct{}, 4*len(k.few))
	for _, have := range k.few {
		k.many[have] = struct{}{}
	}
	k.many[key] = struct{}{}
	return true
}

// shortQuote quotes a string that came from a file, cut so that an error message stays readable.
func shortQuote(v string) string {
	const limit = 80
	if len(v) > limit {
		return fmt.Sprintf("%q… (%d bytes)", v[:limit], len(v))
	}
	return fmt.Sprintf("%q", v)
}
