package calib

import (
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"unicode"
)

// form is the wording of facts and questions, split at the code.
type form struct {
	tok      Encoder
	lead     string // of a fact, before the code and the blanks in front of it
	blank    string // blanks in front of the code: they belong to its first token in most vocabularies
	tail     string // after the code
	question string // without blanks at its end
}

func newForm(tok Encoder, fact, question string) (form, error) {
	before, after, ok := strings.Cut(fact, "{code}")
	switch {
	case tok == nil:
		return form{}, errors.New("made of text, and the checkpoint has no tokenizer.json; give a file of prompts")
	case !ok || strings.Contains(after, "{code}"):
		return form{}, errors.New("the fact must hold {code} once")
	case !strings.Contains(fact, "{name}") || !strings.Contains(question, "{name}"):
		return form{}, errors.New("fact and question must hold {name}")
	case strings.Contains(question, "{code}"):
		return form{}, errors.New("the question must not hold {code}")
	}
	lead := strings.TrimRightFunc(before, unicode.IsSpace)
	return form{tok: tok, lead: lead, blank: before[len(lead):], tail: after,
		question: strings.TrimRightFunc(question, unicode.IsSpace)}, nil
}

// fact is one filled-in fact as tokens.
type fact struct {
	name   string
	ids    []int32
	lo, hi int     // ids[lo:hi] is the code
	code   []int32 // the same tokens
	asked  []int32 // the question about it
}

// fill makes the tokens of a fact and of its question. Where the code has the same tokens in the fact, in the answer and
// in running text, they are those of the running text; else every piece is made into tokens on its own, which makes
// them the same.
func (f form) fill(name, code string) fact {
	lead := strings.ReplaceAll(f.lead, "{name}", name)
	tail := strings.ReplaceAll(f.tail, "{name}", name)
	question := strings.ReplaceAll(f.question, "{name}", name)
	code = f.blank + code

	before, upto, all := f.tok.Encode(lead), f.tok.Encode(lead+code), f.tok.Encode(lead+code+tail)
	asked, answered := f.tok.Encode(question), f.tok.Encode(question+code)
	r := fact{name: name, ids: all, lo: len(before), hi: len(upto), asked: asked}
	if startsWith(upto, before) && startsWith(all, upto) && startsWith(answered, asked) && len(upto) > len(before) &&
		slices.Equal(upto[len(before):], answered[len(asked):]) {
		r.code = upto[len(before):]
		return r
	}
	r.code = f.tok.Encode(code)
	r.ids = slices.Concat(before, r.code, f.tok.Encode(tail))
	r.hi = r.lo + len(r.code)
	return r
}

func startsWith(ids, prefix []int32) bool {
	return len(ids) >= len(prefix) && slices.Equal(ids[:len(prefix)], prefix)
}

// facts makes facts of one prompt whose names and codes all differ.
type facts struct {
	form form
	rng  *rand.Rand
	used map[string]bool
}

func (f form) newFacts(rng *rand.Rand) *facts {
	return &facts{form: f, rng: rng, used: map[string]bool{}}
}

func (s *facts) next() fact {
	return s.form.fill(s.fresh(newName), s.fresh(newCode))
}

// fresh draws until the word is new in this prompt.
func (s *facts) fresh(draw func(*rand.Rand) string) string {
	for {
		if w := draw(s.rng); !s.used[w] {
			s.used[w] = true
			return w
		}
	}
}

// newName draws two or three open syllables: pronounceable, and rare as words.
func newName(rng *rand.Rand) string {
	const consonants, vowels = "bdfgklmnprstvwz", "aeiou"
	var b strings.Builder
	for range 2 + rng.IntN(2) {
		b.WriteByte(consonants[rng.IntN(len(consonants))])
		b.WriteByte(vowels[rng.IntN(len(vowels))])
	}
	return b.String()
}

// newCode draws four to six digits.
func newCode(rng *rand.Rand) string {
	b := make([]byte, 4+rng.IntN(3))
	for i := range b {
		b[i] = byte('0' + rng.IntN(10))
	}
	return string(b)
}
