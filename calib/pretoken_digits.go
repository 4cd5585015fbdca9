package calib

import "unicode/utf8"

// digits cuts text into numbers of up to most characters and what lies between them.
type digits struct {
	most    int
	numeric bool // the Digits pre-tokenizer, which asks Rust's char::is_numeric (Unicode 17) instead of \p{N}
}

func (d digits) end(s string, i int) int {
	yes, n := d.isNumber(s, i)
	i += n
	for count := 1; i < len(s) && (!yes || count < d.most); count++ {
		next, n := d.isNumber(s, i)
		if next != yes {
			break
		}
		i += n
	}
	return i
}

func (d digits) isNumber(s string, i int) (bool, int) {
	c, n := classAt(s, i)
	if c&charNumber != 0 || !d.numeric || n < utf8.UTFMax {
		return c&charNumber != 0, n
	}
	r, n := utf8.DecodeRuneInString(s[i:])
	return r >= 0x11DE0 && r <= 0x11DE9 || r >= 0x16FF4 && r <= 0x16FF6, n
}
