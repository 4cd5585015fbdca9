package calib

import "math"

// Parts that several patterns share.
const (
	reContractions = `(?i:'s|'t|'re|'ve|'m|'ll|'d)`
	reTail         = `|\s*[\r\n]+|\s+(?!\S)|\s+`
	reLead         = `[^\r\n\p{L}\p{N}]?`
	reUpper        = `[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]`
	reLower        = `[\p{Ll}\p{Lm}\p{Lo}\p{M}]`
)

// totalPatterns maps the exact text of a Split pattern to a matcher written by hand: Go's regexp has no look-ahead, and
// a backtracking engine would be slow and open to hostile patterns. These patterns match at every position.
var totalPatterns = map[string]wordEnd{
	// GPT-2.
	`'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`: endGPT2,
	// cl100k_base as in Llama 3.
	reContractions + `|` + reLead + `\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*` + reTail: cl100k{digits: 3}.end,
	// Qwen 2, 2.5 and 3.
	reContractions + `|` + reLead + `\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*` + reTail: cl100k{digits: 1}.end,
	// Qwen 3.5: combining marks belong to words.
	reContractions + `|` + reLead + `[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*` + reTail: cl100k{digits: 1, marks: true}.end,
	// o200k_base as in Llama 4 and gpt-oss: words are cut where lower case turns into upper case.
	reLead + reUpper + `*` + reLower + `+` + reContractions + `?|` + reLead + reUpper + `+` + reLower + `*` + reContractions +
		`?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*` + reTail: o200k{digits: 3, contractions: true}.end,
	// Tekken (Mistral Nemo and later).
	reLead + reUpper + `*` + reLower + `+|` + reLead + reUpper + `+` + reLower + `*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*` +
		reTail: o200k{digits: 1}.end,
}

// partialPatterns are those that leave text between their matches.
var partialPatterns = map[string]wordEnd{
	`\p{N}`:      digits{most: 1}.end,
	`\p{N}{1,3}`: digits{most: 3}.end,
	`\p{N}+`:     digits{most: math.MaxInt}.end,
}
