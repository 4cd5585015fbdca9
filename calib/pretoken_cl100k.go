package calib

import "strings"

// cl100k is the family of patterns that started with OpenAI's cl100k_base:
//
//	(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+
type cl100k struct {
	digits int  // most numbers in a row: 3 (Llama 3) or 1 (Qwen 2)
	marks  bool // \p{M} counts with \p{L} inside words (Qwen 3.5)
}

func (p cl100k) end(s string, i int) int {
	if s[i] == '\'' {
		if n := contraction(s[i:], true); n > 0 {
			return i + n
		}
	}
	inWord := charLetter
	if p.marks {
		inWord |= charMark
	}
	c, n := classAt(s, i)
	if c&(charLetter|charNumber|charNewline) == 0 && i+n < len(s) {
		if c, k := classAt(s, i+n); c&inWord != 0 {
			return skip(s, i+n+k, inWord, 0)
		}
	}
	if c&inWord != 0 {
		return skip(s, i+n, inWord, 0)
	}
	if c&charNumber != 0 {
		return numbers(s, i+n, p.digits-1)
	}
	return symbolsOrSpaces(s, i, charSpace|inWord|charNumber, "\r\n")
}

// numbers extends a match at i by up to most characters of \p{N}.
func numbers(s string, i, most int) int {
	for ; most > 0 && i < len(s); most-- {
		c, n := classAt(s, i)
		if c&charNumber == 0 {
			break
		}
		i += n
	}
	return i
}

// symbolsOrSpaces matches  ?[^…]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+  where not is the excluded set and tail the (ASCII)
// characters that may follow.
func symbolsOrSpaces(s string, i int, not charClass, tail string) int {
	start := i
	if s[i] == ' ' && i+1 < len(s) {
		i++
	}
	if c, n := classAt(s, i); c&not == 0 {
		end := skip(s, i+n, 0, not)
		for end < len(s) && strings.IndexByte(tail, s[end]) >= 0 {
			end++
		}
		return end
	}
	end := start
	for j := start; j < len(s); {
		c, n := classAt(s, j)
		if c&charSpace == 0 {
			break
		}
		j += n
		if c&charNewline != 0 {
			end = j
		}
	}
	if end > start {
		return end
	}
	return spaces(s, start)
}
