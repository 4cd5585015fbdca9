package calib

import (
	"slices"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// nfc composes characters canonically (Unicode TR 15) as of Unicode 9, which is what the reference library has: younger
// characters are left alone. Unlike golang.org/x/text it never inserts U+034F into long runs of marks.
type nfc struct{}

func (nfc) apply(s string) string {
	i := 0
	for i < len(s) && s[i] < utf8.RuneSelf {
		i++
	}
	if i == len(s) {
		return s
	}
	return nfcParts(s)
}

// nfcParts normalizes the stretches between inert characters, which neither move nor compose.
func nfcParts(s string) string {
	var out []byte // nil: nothing but one stretch so far
	from := 0
	for i := 0; i < len(s); {
		c, n := classAt(s, i)
		i += n
		if c&charInert != 0 {
			out = append(out, compose(s[from:i-n])...)
			out = append(out, s[i-n:i]...)
			from = i
		}
	}
	last := compose(s[from:])
	if out == nil {
		return last
	}
	return string(append(out, last...))
}

// joiner is U+034F, which x/text puts into runs of more than 30 characters that are not starters.
const joiner = "\u034f"

func compose(s string) string {
	out := norm.NFC.String(s)
	if strings.Count(out, joiner) == strings.Count(s, joiner) {
		return out
	}
	return composeLong(s)
}

// composeLong is the algorithm of the standard (section 3.11: D109, D117) with x/text as its table: decompose, order the
// marks, then combine each character with the last starter unless something between them blocks it.
func composeLong(s string) string {
	var runes []rune
	var decomposed []byte
	for i := 0; i < len(s); {
		_, n := utf8.DecodeRuneInString(s[i:])
		decomposed = norm.NFD.AppendString(decomposed[:0], s[i:i+n])
		runes = append(runes, []rune(string(decomposed))...)
		i += n
	}
	order := make([]marked, len(runes))
	for i, r := range runes {
		order[i] = marked{r, norm.NFD.PropertiesString(string(r)).CCC()}
	}
	for i := 0; i < len(order); {
		j := i
		for j < len(order) && order[j].ccc != 0 {
			j++
		}
		slices.SortStableFunc(order[i:j], func(a, b marked) int { return int(a.ccc) - int(b.ccc) })
		i = j + 1
	}
	return combine(order)
}

// marked is a character with its canonical combining class.
type marked struct {
	r   rune
	ccc uint8
}

func combine(in []marked) string {
	out := in[:0]
	starter := -1
	for _, m := range in {
		if starter >= 0 {
			last := out[len(out)-1]
			adjacent := len(out)-1 == starter
			if adjacent || last.ccc != 0 && last.ccc < m.ccc {
				if c, ok := composePair(out[starter].r, m.r); ok {
					out[starter].r = c
					continue
				}
			}
		}
		if m.ccc == 0 {
			starter = len(out)
		}
		out = append(out, m)
	}
	runes := make([]rune, len(out))
	for i, m := range out {
		runes[i] = m.r
	}
	return string(runes)
}

// composePair returns the primary composite of two characters.
func composePair(a, b rune) (rune, bool) {
	r := []rune(norm.NFC.String(string(a) + string(b)))
	return r[0], len(r) == 1
}
