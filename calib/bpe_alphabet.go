package calib

// byteAlphabet holds the character that stands for each byte in byte-level vocabularies (GPT-2, encoder.py
// bytes_to_unicode): printable Latin-1 bytes stand for themselves, the others for U+0100 and up, in order.
var byteAlphabet, byteOfChar = makeByteAlphabet()

// alphabetEnd is one past the largest character of the alphabet.
const alphabetEnd = 0x144

func makeByteAlphabet() (alphabet [256]string, back [alphabetEnd]int16) {
	for i := range back {
		back[i] = -1
	}
	next := rune(0x100)
	for b := range 256 {
		r := rune(b)
		if !(b >= '!' && b <= '~' || b >= 0xA1 && b <= 0xAC || b >= 0xAE) {
			r = next
			next++
		}
		alphabet[b] = string(r)
		back[r] = int16(b)
	}
	return alphabet, back
}

// alphabetBytes returns the bytes that a stored form stands for; false where a character is not in the alphabet.
func alphabetBytes(token string) ([]byte, bool) {
	out := make([]byte, 0, len(token))
	for _, r := range token {
		if r >= alphabetEnd || byteOfChar[r] < 0 {
			return nil, false
		}
		out = append(out, byte(byteOfChar[r]))
	}
	return out, true
}
