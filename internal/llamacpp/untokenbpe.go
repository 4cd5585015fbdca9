package llamacpp

import (
	"slices"
	"strings"
)

// byteLevel writes byte-level BPE.
func (r *tokenReader) byteLevel() {
	name := r.text(keyPre)
	pre, ok := named(name)
	if !ok {
		r.warn("the tokenizer is left out: the pre-tokenizer %q has no counterpart", clip(name))
		return
	}
	v, _ := r.file.Lookup(keyMerges)
	lines, ok := v.Strs()
	if !ok || len(lines) > 4*maxTokens {
		r.warn("the tokenizer is left out: %s is no list of merges", keyMerges)
		return
	}
	vocab := r.vocab()
	lost := 0
	for _, line := range lines {
		left, right, ok := cutMerge(line)
		if !ok || !vocab[left] || !vocab[right] || !vocab[left+right] {
			lost++
			continue
		}
		r.merges = append(r.merges, [2]string{left, right})
	}
	if lost > 0 {
		r.warn("%d merges of tokens that do not exist are left out of the tokenizer", lost)
	}
	// Builds of llama.cpp put a token in front of text by the name of the pre-tokenizer where no key says whether to.
	bos := slices.Contains(pre.names, "llama-bpe") || slices.Contains(pre.names, "tekken")
	d := tokenDocument{r: r, ignoreMerges: pre.ignoreMerges, bos: r.flag(keyAddBOS, bos), eos: r.flag(keyAddEOS, false)}
	d.byteLevel(pre, r.flag(keySpacePrefix, false))
}

// vocab returns the tokens that text can become.
func (r *tokenReader) vocab() map[string]bool {
	out := make(map[string]bool, len(r.tokens))
	for id, t := range r.tokens {
		if r.kinds[id] != tokenUnused {
			out[t] = true
		}
	}
	return out
}

// cutMerge cuts at the first space that is not the first byte, as llama.cpp does.
func cutMerge(line string) (left, right string, ok bool) {
	if line == "" {
		return "", "", false
	}
	i := strings.IndexByte(line[1:], ' ')
	if i < 0 {
		return "", "", false
	}
	left, right = line[:i+1], line[i+2:]
	return left, right, right != "" && !strings.Contains(left, " ") && !strings.Contains(right, " ")
}
