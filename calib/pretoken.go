package calib

import (
	"strings"
)

// preTokenizer cuts a piece of text into words, which the model then merges one by one. first tells whether the piece
// (and, in the call back, the word) stands at the very start of the input. Words are never empty.
type preTokenizer interface {
	split(piece string, first bool, emit func(word string, first bool))
}

// wordEnd is a hand-written regular expression: it returns the end of the match that starts at i, which is always beyond i.
type wordEnd func(s string, i int) int

// patternSplit cuts a piece into the matches of a pattern that matches at every position.
type patternSplit struct{ end wordEnd }

func (p patternSplit) split(piece string, first bool, emit func(string, bool)) {
	for i := 0; i < len(piece); {
		j := p.end(piece, i)
		emit(piece[i:j], first && i == 0)
		i = j
	}
}

// byteLevel is the ByteLevel pre-tokenizer without its change of alphabet: words stay raw bytes, which the model knows.
type byteLevel struct {
	prefixSpace bool
	words       wordEnd // nil: use_regex is false
}

func (b byteLevel) split(piece string, first bool, emit func(string, bool)) {
	if b.prefixSpace && !strings.HasPrefix(piece, " ") {
		piece = " " + piece
	}
	if b.words == nil {
		emit(piece, first)
		return
	}
	patternSplit{b.words}.split(piece, first, emit)
}

// metaspace is the Metaspace pre-tokenizer: spaces become ▁, one ▁ may be put in front, and words start at each ▁.
type metaspace struct {
	symbol string
	scheme string // "first", "always" or "never": where a ▁ is put in front
	cut    bool
}

func (m metaspace) split(piece string, first bool, emit func(string, bool)) {
	piece = strings.ReplaceAll(piece, " ", m.symbol)
	if (m.scheme == "always" || m.scheme == "first" && first) && !strings.HasPrefix(piece, m.symbol) {
		piece = m.symbol + piece
	}
	if !m.cut {
		emit(piece, first)
		return
	}
	for len(piece) > 0 {
		end := len(piece)
		if i := strings.Index(piece[1:], m.symbol); i >= 0 {
			end = 1 + i
		}
		emit(piece[:end], first)
		piece, first = piece[end:], false
	}
}

// preSequence applies pre-tokenizers in order, each to the words of the one before.
type preSequence []preTokenizer

func (s preSequence) split(piece string, first bool, emit func(string, bool)) {
	switch len(s) {
	case 0:
		emit(piece, first)
	case 1:
		s[0].split(piece, first, emit)
	default:
		s[0].split(piece, first, func(word string, first bool) { s[1:].split(word, first, emit) })
	}
}
