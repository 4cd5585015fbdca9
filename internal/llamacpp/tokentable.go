package llamacpp

import (
	"fmt"
	"strings"
)

// kinds returns the type of every token; own, where it is not nil, says which type a token of the model's has.
func (w *tokenWriter) kinds(own func(token string) int32) []int32 {
	kinds := make([]int32, w.vocab)
	for id, token := range w.model.tokens {
		switch {
		case token == "":
			kinds[id] = tokenUnused
		case own != nil:
			kinds[id] = own(token)
		default:
			kinds[id] = tokenNormal
		}
	}
	spaced := 0
	for _, t := range w.added {
		if t.spaced {
			spaced++
		}
		switch {
		case kinds[t.id] == tokenUnknown: // stays what the model takes it for
		case t.special || looksSpecial(t.content):
			kinds[t.id] = tokenControl
		default:
			kinds[t.id] = tokenUser
		}
	}
	if spaced > 0 {
		w.warn("%d added tokens take white space beside them or stand between words alone, in llama.cpp none does", spaced)
	}
	return kinds
}

// missingBytes counts the bytes that the byte-level alphabet of the vocabulary lacks (GPT-2, encoder.py, bytes_to_unicode: printable
// Latin-1 stands for itself, the others for U+0100 and up, in order).
func (w *tokenWriter) missingBytes() int {
	missing, next := 0, rune(0x100)
	for b := range 256 {
		r := rune(b)
		if !(b >= '!' && b <= '~' || b >= 0xA1 && b <= 0xAC || b >= 0xAE) {
			r = next
			next++
		}
		if _, ok := w.model.ids[string(r)]; !ok {
			missing++
		}
	}
	return missing
}

// looksSpecial follows llama.cpp's converter, which takes some added tokens for control tokens although they are not marked as such
// (conversion/base.py, does_token_look_special).
func looksSpecial(token string) bool {
	switch token {
	case "<pad>", "<mask>", "<2mass>", "[@BOS@]":
		return true
	}
	return strings.HasPrefix(token, "<|") && strings.HasSuffix(token, "|>") ||
		strings.HasPrefix(token, "<｜") && strings.HasSuffix(token, "｜>") ||
		strings.HasPrefix(token, "<unused") && strings.HasSuffix(token, ">")
}

// padded returns all tokens; rows of the embedding without one get a name that no other has.
func (w *tokenWriter) padded() []string {
	out := make([]string, w.vocab)
	for id, token := range w.model.tokens {
		if token == "" {
			token = fmt.Sprintf("[PAD%d]", id)
			for taken := true; taken; {
				if _, taken = w.model.ids[token]; taken {
					token += "_"
				}
			}
		}
		out[id] = token
	}
	return out
}
