package calib

// o200k is the family of patterns that started with OpenAI's o200k_base (contractions as in cl100k, U and L for
// [\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}] and [\p{Ll}\p{Lm}\p{Lo}\p{M}]):
//
//	[^\r\n\p{L}\p{N}]?U*L+(contraction)?|[^\r\n\p{L}\p{N}]?U+L*(contraction)?|
//	\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+
type o200k struct {
	digits       int  // most numbers in a row
	contractions bool // words take a contraction with them
}

func (p o200k) end(s string, i int) int {
	c, n := classAt(s, i)
	lead := 0
	if c&(charLetter|charNumber|charNewline) == 0 {
		lead = n
	}
	for _, word := range []func(string, int) int{endsLower, startsUpper} {
		for _, from := range []int{i + lead, i} {
			if j := word(s, from); j > from {
				return p.contraction(s, j)
			}
		}
	}
	if c&charNumber != 0 {
		return numbers(s, i+n, p.digits-1)
	}
	return symbolsOrSpaces(s, i, charSpace|charLetter|charNumber, "\r\n/")
}

func (p o200k) contraction(s string, i int) int {
	if p.contractions && i < len(s) && s[i] == '\'' {
		return i + contraction(s[i:], true)
	}
	return i
}

// endsLower matches U*L+ at i and returns its end, i where it does not match. Where no lower-case letter follows the run
// of U, the run gives back characters down to the last that is in L as well.
func endsLower(s string, i int) int {
	both := i
	for i < len(s) {
		c, n := classAt(s, i)
		if c&charUpper == 0 {
			if c&charLower != 0 {
				return skip(s, i+n, charLower, 0)
			}
			break
		}
		i += n
		if c&charLower != 0 {
			both = i
		}
	}
	return both
}

// startsUpper matches U+L* at i.
func startsUpper(s string, i int) int {
	j := skip(s, i, charUpper, 0)
	if j == i {
		return i
	}
	return skip(s, j, charLower, 0)
}
