package calib

import (
	"sync"
	"unicode"
	"unicode/utf8"
)

// charClass is a set of the properties that pre-tokenizer patterns ask for.
type charClass uint8

const (
	charLetter  charClass = 1 << iota // \p{L}
	charNumber                        // \p{N}
	charSpace                         // \s, which is White_Space
	charMark                          // \p{M}
	charUpper                         // [\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]
	charLower                         // [\p{Ll}\p{Lm}\p{Lo}\p{M}]
	charNewline                       // [\r\n]
	charInert                         // not known to the reference's NFC (after9)
)

// asciiClass holds the classes of ASCII apart, so that the table of all is only made for other text.
var asciiClass = func() (t [utf8.RuneSelf]charClass) {
	for i := range t {
		switch r := rune(i); {
		case unicode.IsUpper(r):
			t[i] = charLetter | charUpper
		case unicode.IsLower(r):
			t[i] = charLetter | charLower
		case unicode.IsDigit(r):
			t[i] = charNumber
		case r == '\r' || r == '\n':
			t[i] = charSpace | charNewline
		case unicode.IsSpace(r):
			t[i] = charSpace
		}
	}
	return t
}()

// classTable holds the class of every code point; it is filled on first use (1.1 MB).
var classTable = sync.OnceValue(func() *[unicode.MaxRune + 1]charClass {
	t := new([unicode.MaxRune + 1]charClass)
	for _, e := range []struct {
		table *unicode.RangeTable
		class charClass
	}{
		{unicode.L, charLetter}, {unicode.N, charNumber}, {unicode.White_Space, charSpace}, {unicode.M, charMark | charUpper | charLower},
		{unicode.Lu, charUpper}, {unicode.Lt, charUpper}, {unicode.Ll, charLower}, {unicode.Lm, charUpper | charLower}, {unicode.Lo, charUpper | charLower},
	} {
		for _, r := range e.table.R16 {
			for c := uint32(r.Lo); c <= uint32(r.Hi); c += uint32(r.Stride) {
				t[c] |= e.class
			}
		}
		for _, r := range e.table.R32 {
			for c := r.Lo; c <= r.Hi; c += r.Stride {
				t[c] |= e.class
			}
		}
	}
	for _, r := range after16 {
		clear(t[r.lo : r.hi+1])
	}
	t[changed17] = charLetter | charLower
	for _, e := range []struct {
		ranges []charRange
		class  charClass
	}{
		{upper16, charLetter | charUpper}, {lower16, charLetter | charLower}, {letters16, charLetter | charUpper | charLower},
		{numbers16, charNumber}, {marks16, charMark | charUpper | charLower}, {after9, charInert},
	} {
		for _, r := range e.ranges {
			for c := r.lo; c <= r.hi; c++ {
				t[c] |= e.class
			}
		}
	}
	t['\r'] |= charNewline
	t['\n'] |= charNewline
	return t
})

func classOf(r rune) charClass { return classTable()[r] }

// classAt returns the class and the length of the character at s[i:].
func classAt(s string, i int) (charClass, int) {
	if c := s[i]; c < utf8.RuneSelf {
		return asciiClass[c], 1
	}
	r, n := utf8.DecodeRuneInString(s[i:])
	return classOf(r), n
}

// skip returns the end of the run of characters from i that are in any of the classes want and in none of the classes
// not; want 0 stands for every character.
func skip(s string, i int, want, not charClass) int {
	for i < len(s) {
		c, n := classAt(s, i)
		if c&not != 0 || want != 0 && c&want == 0 {
			break
		}
		i += n
	}
	return i
}
