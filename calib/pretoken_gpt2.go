package calib

import "unicode/utf8"

// endGPT2 matches
//
//	's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
//
// (GPT-2, encoder.py; the ByteLevel pre-tokenizer with use_regex).
func endGPT2(s string, i int) int {
	if s[i] == '\'' {
		if n := contraction(s[i:], false); n > 0 {
			return i + n
		}
	}
	start := i
	if s[i] == ' ' && i+1 < len(s) {
		i++
	}
	switch c, n := classAt(s, i); {
	case c&charLetter != 0:
		return skip(s, i+n, charLetter, 0)
	case c&charNumber != 0:
		return skip(s, i+n, charNumber, 0)
	case c&charSpace == 0:
		return skip(s, i+n, 0, charSpace|charLetter|charNumber)
	}
	return spaces(s, start)
}

// spaces matches \s+(?!\S)|\s+ at white space: a run up to the end of the text, or else all but its last character, which
// is left for the word that follows; a single character is taken as it is.
func spaces(s string, i int) int {
	last, end := i, i
	for end < len(s) {
		c, n := classAt(s, end)
		if c&charSpace == 0 {
			break
		}
		last, end = end, end+n
	}
	if end < len(s) && last > i {
		return last
	}
	return end
}

// contraction returns the length of 's, 't, 're, 've, 'm, 'll or 'd at the start of s, 0 where there is none. With fold
// the letters may be of either case, which includes ſ (U+017F) for s.
func contraction(s string, fold bool) int {
	if len(s) < 2 {
		return 0
	}
	a, n := letterAt(s, 1, fold)
	switch a {
	case 's', 't', 'm', 'd':
		return n
	case 'r', 'v', 'l':
		want := byte('e')
		if a == 'l' {
			want = 'l'
		}
		if n < len(s) {
			if b, n := letterAt(s, n, fold); b == want {
				return n
			}
		}
	}
	return 0
}

// letterAt returns the ASCII letter at s[i:], in lower case where fold is set, and the index after it.
func letterAt(s string, i int, fold bool) (byte, int) {
	c := s[i]
	switch {
	case fold && c >= 'A' && c <= 'Z':
		return c + 'a' - 'A', i + 1
	case fold && c >= utf8.RuneSelf:
		if r, n := utf8.DecodeRuneInString(s[i:]); r == 'ſ' {
			return 's', i + n
		}
	}
	return c, i + 1
}
