package calib

// Parts that several patterns share.
const (
	reContractions = `(?i:'s|'t|'re|'ve|'m|'ll|'d)`
	reTail         = `|\s*[\r\n]+|\s+(?!\S)|\s+`
)

// knownPatterns maps the exact text of a Split pattern to a matcher written by hand: Go's regexp has no look-ahead, and
// a backtracking engine would be slow and open to hostile patterns.
var knownPatterns = map[string]wordEnd{
	// GPT-2.
	`'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`: nextGPT2,
	// cl100k_base as in Llama 3.
	reContractions + `|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*` + reTail: cl100k{digits: 3}.wordEnd,
	// Qwen 2, 2.5 and 3.
	reContractions + `|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*` + reTail: cl100k{digits: 1}.wordEnd,
	// Qwen 3.5: combining marks belong to words.
	reContractions + `|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*` + reTail: cl100k{digits: 1, marks: true}.wordEnd,
}

// digits is the Digits pre-tokenizer: runs of numbers (or each number, with each) stand alone.
type digits struct{ each bool }

func (d digits) wordEnd(s string, i int) int {
	c, n := classAt(s, i)
	switch {
	case c&charNumber == 0:
		return skip(s, i+n, 0, charNumber)
	case d.each:
		return i + n
	}
	return skip(s, i+n, charNumber, 0)
}
