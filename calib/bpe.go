package calib

import (
	"strings"
	"unicode/utf8"
)

// bpe is the byte-pair-encoding model (Sennrich et al., arXiv:1508.07909) as the Hugging Face library runs it: a word is
// cut into its characters (or bytes, in the byte-level alphabet), and the pair with the smallest merge rank is joined
// until no pair is left.
type bpe struct {
	vocab  map[string]int32 // stored form → id
	tokens []string         // id → stored form, "" for a gap
	pairs  pairTable

	byteLevel bool             // words arrive as raw bytes; stored forms are in the byte-level alphabet
	byteIDs   [256]int32       // byteLevel: id of each byte's symbol, -1 where the vocabulary lacks it
	complete  bool             // byteLevel: every byte has a symbol
	words     map[string]int32 // byteLevel && ignoreMerges: raw bytes → id

	ascii        [utf8.RuneSelf]int32 // otherwise: ids of ASCII characters, -1 where there is none
	unk          int32                // -1: unknown characters vanish
	fuseUnk      bool                 // a run of unknown characters gives one unk
	fallback     [256]int32           // byteFallback: ids of <0x00> … <0xFF>, -1 where there is none
	byteFallback bool
	ignoreMerges bool   // a word that is a token as a whole is not merged
	splitAt      string // "▁" where no merge joins a non-▁ to a following ▁, so that words may be merged one by one
}

// metaSymbol is the character that stands for a space in SentencePiece vocabularies.
const metaSymbol = "▁"

func (b *bpe) maxID() int32 { return int32(len(b.tokens) - 1) }

// token returns the stored form of id.
func (b *bpe) token(id int32) (string, bool) {
	if id < 0 || int(id) >= len(b.tokens) || b.tokens[id] == "" {
		return "", false
	}
	return b.tokens[id], true
}

// lookupWord finds a word that is one token.
func (b *bpe) lookupWord(word string) (int32, bool) {
	if b.byteLevel {
		id, ok := b.words[word]
		return id, ok
	}
	id, ok := b.vocab[word]
	return id, ok
}

// symbols appends the ids from which merging starts.
func (b *bpe) symbols(dst []int32, word string) []int32 {
	if b.byteLevel && b.complete {
		for i := 0; i < len(word); i++ {
			dst = append(dst, b.byteIDs[word[i]])
		}
		return dst
	}
	u := unknowns{b: b}
	if b.byteLevel {
		for i := 0; i < len(word); i++ {
			dst = u.add(dst, b.byteIDs[word[i]], byteAlphabet[word[i]])
		}
		return u.flush(dst)
	}
	for i := 0; i < len(word); {
		if c := word[i]; c < utf8.RuneSelf {
			dst = u.add(dst, b.ascii[c], word[i:i+1])
			i++
			continue
		}
		_, n := utf8.DecodeRuneInString(word[i:])
		id, ok := b.vocab[word[i:i+n]]
		if !ok {
			id = -1
		}
		dst = u.add(dst, id, word[i:i+n])
		i += n
	}
	return u.flush(dst)
}

// unknowns follows the treatment of characters without a token: byte fallback when all bytes of the character have a
// token, else the unknown token (a pending one, so that a run can be fused), else nothing.
type unknowns struct {
	b       *bpe
	pending bool
}

func (u *unknowns) add(dst []int32, id int32, char string) []int32 {
	if id >= 0 {
		return append(u.flush(dst), id)
	}
	if u.b.byteFallback {
		if out, ok := u.bytes(dst, char); ok {
			return out // a pending unknown token stays pending: so does the original
		}
	}
	if u.b.unk < 0 {
		return dst
	}
	if !u.b.fuseUnk {
		dst = u.flush(dst)
	}
	u.pending = true
	return dst
}

func (u *unknowns) bytes(dst []int32, char string) ([]int32, bool) {
	out := dst
	for i := 0; i < len(char); i++ {
		id := u.b.fallback[char[i]]
		if id < 0 {
			return dst, false
		}
		out = append(out, id)
	}
	return out, true
}

func (u *unknowns) flush(dst []int32) []int32 {
	if u.pending {
		u.pending = false
		return append(dst, u.b.unk)
	}
	return dst
}

// eachUnit calls f for the stretches of word that start at a ▁ which follows something else. No merge crosses such a
// border (splitAt), so merging the stretches one by one gives what merging the whole gives.
func (b *bpe) eachUnit(word string, f func(unit string)) {
	for len(word) > 0 {
		end := unitEnd(word)
		f(word[:end])
		word = word[end:]
	}
}

// unitEnd returns where the second stretch starts: after leading ▁, at the next ▁.
func unitEnd(word string) int {
	start := 0
	for strings.HasPrefix(word[start:], metaSymbol) {
		start += len(metaSymbol)
	}
	if i := strings.Index(word[start:], metaSymbol); i >= 0 {
		return start + i
	}
	return len(word)
}
