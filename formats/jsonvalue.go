package formats

import (
	"bytes"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// String consumes a string and returns it unescaped.
func (s *JSONScanner) String() (string, error) {
	if err := s.expect('"', "a string"); err != nil {
		return "", err
	}
	start := s.pos
	for s.pos < len(s.data) {
		switch c := s.data[s.pos]; {
		case c == '"':
			v := s.data[start:s.pos]
			if !utf8.Valid(v) {
				s.pos = start
				return "", s.errorf("string is not valid UTF-8")
			}
			s.pos++
			return string(v), nil
		case c == '\\':
			return s.escaped(start)
		case c < 0x20:
			return "", s.errorf("control character %#02x in a string", c)
		}
		s.pos++
	}
	return "", s.errorf("the JSON text ends inside a string")
}

// escaped continues a string, begun at start, at its first backslash.
func (s *JSONScanner) escaped(start int) (string, error) {
	buf := append([]byte(nil), s.data[start:s.pos]...)
	for s.pos < len(s.data) {
		c := s.data[s.pos]
		switch {
		case c == '"':
			if !utf8.Valid(buf) {
				s.pos = start
				return "", s.errorf("string is not valid UTF-8")
			}
			s.pos++
			return string(buf), nil
		case c < 0x20:
			return "", s.errorf("control character %#02x in a string", c)
		case c != '\\':
			buf = append(buf, c)
			s.pos++
		default:
			r, err := s.escape()
			if err != nil {
				return "", err
			}
			buf = utf8.AppendRune(buf, r)
		}
	}
	return "", s.errorf("the JSON text ends inside a string")
}

// escape consumes a backslash escape, both halves of a surrogate pair included.
func (s *JSONScanner) escape() (rune, error) {
	if s.pos+1 >= len(s.data) {
		return 0, s.errorf("the JSON text ends inside a string")
	}
	c := s.data[s.pos+1]
	switch c {
	case '"', '\\', '/':
	case 'b':
		c = '\b'
	case 'f':
		c = '\f'
	case 'n':
		c = '\n'
	case 'r':
		c = '\r'
	case 't':
		c = '\t'
	case 'u':
		return s.unicodeEscape()
	default:
		return 0, s.errorf("unknown escape \\%c", c)
	}
	s.pos += 2
	return rune(c), nil
}

func (s *JSONScanner) unicodeEscape() (rune, error) {
	r, ok := s.hex4(s.pos)
	if !ok {
		return 0, s.errorf("\\u without four hexadecimal digits")
	}
	if !utf16.IsSurrogate(r) {
		s.pos += 6
		return r, nil
	}
	low, ok := s.hex4(s.pos + 6)
	pair := utf16.DecodeRune(r, low)
	if !ok || pair == utf8.RuneError {
		return 0, s.errorf("lone surrogate in a string")
	}
	s.pos += 12
	return pair, nil
}

// hex4 reads \uXXXX at offset i.
func (s *JSONScanner) hex4(i int) (rune, bool) {
	if i+6 > len(s.data) || s.data[i] != '\\' || s.data[i+1] != 'u' {
		return 0, false
	}
	v, err := strconv.ParseUint(string(s.data[i+2:i+6]), 16, 16)
	return rune(v), err == nil
}

// Number consumes a number and returns its text.
func (s *JSONScanner) Number() (string, error) {
	start := s.Pos()
	fail := func() (string, error) {
		s.pos = start
		return "", s.errorf("not a JSON value")
	}
	s.take('-')
	if !s.take('0') && s.digits() == 0 {
		return fail()
	}
	if s.take('.') && s.digits() == 0 {
		return fail()
	}
	if s.take('e') || s.take('E') {
		if !s.take('+') {
			s.take('-')
		}
		if s.digits() == 0 {
			return fail()
		}
	}
	return string(s.data[start:s.pos]), nil
}

// Natural consumes a number that must be a whole number of at least 0 written in plain digits, and below 2^63.
func (s *JSONScanner) Natural() (int64, error) {
	start := s.Pos()
	n := int64(0)
	for s.pos < len(s.data) && s.data[s.pos]-'0' <= 9 {
		d := int64(s.data[s.pos] - '0')
		if n > (1<<63-1-d)/10 {
			s.pos = start
			return 0, s.errorf("number of 2^63 or more")
		}
		n = n*10 + d
		s.pos++
	}
	digits := s.pos - start
	more := s.pos < len(s.data) && bytes.IndexByte([]byte(".eE"), s.data[s.pos]) >= 0
	if digits == 0 || more || digits > 1 && s.data[start] == '0' {
		s.pos = start
		return 0, s.errorf("not a whole number of at least 0")
	}
	return n, nil
}

func (s *JSONScanner) take(c byte) bool {
	if s.pos < len(s.data) && s.data[s.pos] == c {
		s.pos++
		return true
	}
	return false
}

func (s *JSONScanner) digits() int {
	start := s.pos
	for s.pos < len(s.data) && s.data[s.pos]-'0' <= 9 {
		s.pos++
	}
	return s.pos - start
}
