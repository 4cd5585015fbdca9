package llamacpp

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"modelpress/formats/gguf"
)

// noScore is the score of tokens that no merge makes: below those of all others, so that text that looks like one is joined last.
const noScore = -1e9

// sentencePiece writes BPE with byte fallback as a SentencePiece model. llama.cpp joins the two neighbours that make the token of the
// highest score; a token's score is minus the rank of the first merge that makes it.
func (w *tokenWriter) sentencePiece(normalizer json.RawMessage) error {
	for b := range 256 {
		if _, ok := w.model.ids[byteToken(b)]; !ok {
			return &Refused{Rule: fmt.Sprintf("a tokenizer that falls back to bytes has all of them as tokens; %s is missing", byteToken(b)),
				Fix: "write the model without a tokenizer"}
		}
	}
	prefix, err := w.spacePrefix(normalizer)
	if err != nil {
		return err
	}
	w.add(keyModel, gguf.String(modelLlama))
	w.add(keyPre, gguf.String(unknownPre))
	w.add(keySpacePrefix, gguf.Bool(prefix))
	kinds := w.kinds(func(token string) int32 {
		switch {
		case isByteToken(token):
			return tokenByte
		case token == w.model.unknown:
			return tokenUnknown
		}
		return tokenNormal
	})
	w.add(keyTokens, gguf.Strings(w.pieces(kinds)))
	w.add(keyScores, gguf.Float32s(w.scores(kinds)))
	w.add(keyTokenType, gguf.Int32s(kinds))
	w.compareMerges(kinds)
	return nil
}

func byteToken(b int) string { return fmt.Sprintf("<0x%02X>", b) }

func isByteToken(t string) bool {
	if len(t) != 6 || !strings.HasPrefix(t, "<0x") || t[5] != '>' {
		return false
	}
	_, err := strconv.ParseUint(t[3:5], 16, 8)
	return err == nil
}

// pieces returns all tokens. What users defined is matched in text as it is written, where spaces are spaces.
func (w *tokenWriter) pieces(kinds []int32) []string {
	out, spaces := w.padded(), map[string]bool{}
	for id, kind := range kinds {
		if kind != tokenUser {
			continue
		}
		spaced := strings.ReplaceAll(out[id], metaSymbol, " ")
		if _, taken := w.model.ids[spaced]; !taken && !spaces[spaced] {
			out[id], spaces[spaced] = spaced, true
		}
	}
	return out
}

func (w *tokenWriter) scores(kinds []int32) []float32 {
	scores := make([]float32, w.vocab)
	for id := range scores {
		scores[id] = noScore
	}
	for rank, m := range w.model.merges {
		if id, ok := w.model.ids[m[0]+m[1]]; ok && kinds[id] == tokenNormal && scores[id] == noScore {
			scores[id] = -float32(rank)
		}
	}
	return scores
}

// spacePrefix reads whether a space is put in front of text, and warns where that is done in other places than llama.cpp does it.
func (w *tokenWriter) spacePrefix(normalizer json.RawMessage) (bool, error) {
	n, err := parseNormalizer(normalizer)
	if err != nil {
		return false, fmt.Errorf("normalizer: %w", err)
	}
	if n.other != "" {
		w.warn("the tokenizer normalizes text first (%s), llama.cpp does not", clip(n.other))
	}
	if !w.pre.metaspace {
		if !n.spaces {
			w.warn("the tokenizer does not write spaces as %s, llama.cpp does", metaSymbol)
		}
		return n.prefix, nil
	}
	switch w.pre.scheme {
	case "first":
		w.warn("the tokenizer puts a space in front of text at its very start, unless it begins with one; llama.cpp always does, and after every special token too")
	case "always":
		w.warn("the tokenizer puts a space in front of text unless it begins with one, llama.cpp always does")
	}
	return w.pre.scheme != "never" || n.prefix, nil
}

// normalizing is what a normalizer section of a SentencePiece-like tokenizer does.
type normalizing struct {
	prefix bool // ▁ is put in front
	spaces bool // spaces become ▁
	other  string
}

func parseNormalizer(raw json.RawMessage) (normalizing, error) {
	var n normalizing
	if len(raw) == 0 || string(raw) == "null" {
		return n, nil
	}
	o, err := parseObject(raw)
	if err != nil {
		return n, err
	}
	list := []json.RawMessage{raw}
	if kind := normalizerType(raw); kind == "Sequence" {
		list = nil
		if err := o.get("normalizers", &list); err != nil {
			return n, err
		}
	}
	for _, item := range list {
		if err := n.stage(item); err != nil {
			return n, err
		}
	}
	return n, nil
}

func (n *normalizing) stage(raw json.RawMessage) error {
	o, err := parseObject(raw)
	if err != nil {
		return err
	}
	kind, prepend, content := "", "", ""
	if err := errors.Join(o.get("type", &kind), o.get("prepend", &prepend), o.get("content", &content)); err != nil {
		return err
	}
	pattern, err := o.child("pattern")
	if err != nil {
		return err
	}
	text := ""
	if err := pattern.get("String", &text); err != nil {
		return err
	}
	switch {
	case kind == "Prepend" && prepend == metaSymbol:
		n.prefix = true
	case kind == "Replace" && text == " " && content == metaSymbol:
		n.spaces = true
	default:
		n.other = kind
	}
	return nil
}

// compareMerges warns where merges are not those of scores: where a token has several ranks with others between them, where two tokens
// make a third without a merge, and where words are cut and a token crosses the border.
func (w *tokenWriter) compareMerges(kinds []int32) {
	normal := func(t string) bool { id, ok := w.model.ids[t]; return ok && kinds[id] == tokenNormal }
	merged := make(map[[2]string]bool, len(w.model.merges))
	seen, last, torn := map[string]bool{}, "", 0
	for _, m := range w.model.merges {
		merged[m] = true
		token := m[0] + m[1]
		if token != last && seen[token] {
			torn++
		}
		seen[token], last = true, token
	}
	absent, crossing := 0, 0
	for id, token := range w.model.tokens {
		if token == "" || kinds[id] != tokenNormal {
			continue
		}
		if w.pre.splits && strings.Contains(strings.TrimPrefix(token, metaSymbol), metaSymbol) {
			crossing++
		}
		for i := range token {
			if i > maxPiece {
				break
			}
			if i > 0 && normal(token[:i]) && normal(token[i:]) && !merged[[2]string{token[:i], token[i:]}] {
				absent++
				break
			}
		}
	}
	if torn+absent+crossing > 0 {
		w.warn("merges are not those of a SentencePiece model: %d tokens have ranks apart, %d can be made in ways that no merge allows, %d cross words; llama.cpp cuts some text otherwise",
			torn, absent, crossing)
	}
	if w.model.ignoreMerges {
		w.warn("the tokenizer takes words that are a token as a whole, llama.cpp merges them")
	}
}
