package calib

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

// decoder turns the stored forms of tokens into text; the strings that come out are joined.
type decoder interface {
	decode(tokens []string) []string
}

func (t *Tokenizer) decodeIDs(ids []int32, skipSpecial bool) string {
	tokens := make([]string, 0, len(ids))
	for _, id := range ids {
		if a, ok := t.added.byID[id]; ok {
			if !(skipSpecial && a.special) {
				tokens = append(tokens, t.added.decoded[id])
			}
		} else if s, ok := t.model.token(id); ok {
			tokens = append(tokens, s)
		}
	}
	if t.decode == nil {
		return strings.Join(tokens, " ")
	}
	return strings.Join(t.decode.decode(tokens), "")
}

// byteLevelDecoder maps the byte-level alphabet back to bytes; a token with other characters stands for its UTF-8 bytes.
type byteLevelDecoder struct{}

func (byteLevelDecoder) decode(tokens []string) []string {
	var out []byte
	for _, t := range tokens {
		if raw, ok := alphabetBytes(t); ok {
			out = append(out, raw...)
		} else {
			out = append(out, t...)
		}
	}
	return []string{lossy(out)}
}

// lossy returns b with each maximal ill-formed subsequence replaced by U+FFFD (Unicode 15, section 3.9, table 3-8), as
// Rust does it; Go's own conversion would give one U+FFFD for each byte.
func lossy(b []byte) string {
	if utf8.Valid(b) {
		return string(b)
	}
	var out strings.Builder
	for len(b) > 0 {
		r, n := utf8.DecodeRune(b)
		if r == utf8.RuneError && n == 1 {
			n = illFormed(b)
		}
		out.WriteRune(r)
		b = b[n:]
	}
	return out.String()
}

// illFormed returns the length of the longest start of b that a well-formed sequence could begin with, at least 1.
func illFormed(b []byte) int {
	lo, hi, most := byte(0x80), byte(0xBF), 1
	switch c := b[0]; {
	case c >= 0xC2 && c <= 0xDF:
		most = 2
	case c >= 0xE0 && c <= 0xEF:
		most = 3
		if c == 0xE0 {
			lo = 0xA0
		} else if c == 0xED {
			hi = 0x9F
		}
	case c >= 0xF0 && c <= 0xF4:
		most = 4
		if c == 0xF0 {
			lo = 0x90
		} else if c == 0xF4 {
			hi = 0x8F
		}
	}
	n := 1
	for n < most && n < len(b) && b[n] >= lo && b[n] <= hi {
		lo, hi = 0x80, 0xBF
		n++
	}
	return n
}

// metaspaceDecoder turns ▁ into spaces and drops those of the first token, unless none was put in front.
type metaspaceDecoder struct {
	symbol string
	prefix bool
}

func (m metaspaceDecoder) decode(tokens []string) []string {
	out := make([]string, len(tokens))
	for i, t := range tokens {
		with := " "
		if i == 0 && m.prefix {
			with = ""
		}
		out[i] = strings.ReplaceAll(t, m.symbol, with)
	}
	return out
}

// byteFallbackDecoder joins runs of <0xNN> tokens into text; bytes that are not UTF-8 together give U+FFFD each.
type byteFallbackDecoder struct{}

func (byteFallbackDecoder) decode(tokens []string) []string {
	var out []string
	var run []byte
	flush := func() {
		if utf8.Valid(run) {
			out = append(out, string(run))
		} else {
			for range run {
				out = append(out, "\uFFFD")
			}
		}
		run = run[:0]
	}
	for _, t := range tokens {
		if b, ok := fallbackByte(t); ok {
			run = append(run, b)
			continue
		}
		flush()
		out = append(out, t)
	}
	flush()
	return out
}

// fallbackByte reads <0xNN>.
func fallbackByte(t string) (byte, bool) {
	if len(t) != 6 || !strings.HasPrefix(t, "<0x") || t[5] != '>' {
		return 0, false
	}
	v, err := strconv.ParseUint(t[3:5], 16, 8)
	return byte(v), err == nil
}

// fuseDecoder joins all tokens into one, for what comes after it.
type fuseDecoder struct{}

func (fuseDecoder) decode(tokens []string) []string { return []string{strings.Join(tokens, "")} }

// stripDecoder removes up to start and stop copies of a character from the ends of every token.
type stripDecoder struct {
	char        string
	start, stop int
}

func (d stripDecoder) decode(tokens []string) []string {
	out := make([]string, len(tokens))
	for i, t := range tokens {
		for n := 0; n < d.start && strings.HasPrefix(t, d.char); n++ {
			t = t[len(d.char):]
		}
		for n := 0; n < d.stop && strings.HasSuffix(t, d.char); n++ {
			t = t[:len(t)-len(d.char)]
		}
		out[i] = t
	}
	return out
}

// replaceDecoder replaces a string in every token.
type replaceDecoder struct{ replace }

func (d replaceDecoder) decode(tokens []string) []string {
	out := make([]string, len(tokens))
	for i, t := range tokens {
		out[i] = d.apply(t)
	}
	return out
}

// decodeSequence applies decoders in order.
type decodeSequence []decoder

func (s decodeSequence) decode(tokens []string) []string {
	for _, d := range s {
		tokens = d.decode(tokens)
	}
	return tokens
}
