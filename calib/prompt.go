package calib

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"path/filepath"

	"modelpress/formats"
)

// Prompt asks for something that stands earlier in it.
type Prompt struct {
	IDs                []int32 // the prompt; the answer's first token is predicted at its last position
	Answer             []int32 // the tokens that must follow
	NeedleLo, NeedleHi int     // IDs[NeedleLo:NeedleHi] is where the answer stands in the prompt, or one part of it (MultiValue)

	Length int     // nominal tokens of prompt and answer together: the row of the grid
	Depth  float64 // nominal place of the needle, 0 first to 1 last: the column of the grid
	Extra  int     // other facts in the prompt that do not answer the question
}

// Sequence returns the prompt followed by all of its answer but the last token: what a model is fed to predict every
// token of the answer in one pass.
func (p Prompt) Sequence() []int32 {
	seq := make([]int32, 0, len(p.IDs)+len(p.Answer)-1)
	return append(append(seq, p.IDs...), p.Answer[:len(p.Answer)-1]...)
}

// promptJSON is a prompt in a file. Length and depth may be missing; they then follow from the ids.
type promptJSON struct {
	IDs    []int32  `json:"ids"`
	Answer []int32  `json:"answer"`
	Needle []int    `json:"needle"`
	Length int      `json:"length,omitempty"`
	Depth  *float64 `json:"depth,omitempty"`
	Extra  int      `json:"extra,omitempty"`
	Dist   int      `json:"dist,omitempty"`
}

// Limits on a file of prompts.
const (
	maxPromptFile   = 1 << 30
	maxPromptTokens = 1 << 24
	lengthStep      = 64 // lengths of prompts without a nominal one are rounded up to a multiple
)

// ReadPrompts reads a JSON list of objects with the fields ids, answer and needle ([lo, hi): the span of the answer's
// tokens in ids), and optionally length, depth, extra.
func ReadPrompts(path string) ([]Prompt, error) {
	base := filepath.Base(path)
	f, _, err := openRegular(path)
	if err != nil {
		return nil, formats.Errorf(base, "", "%w", err)
	}
	defer f.Close()
	r := &capped{r: f, left: maxPromptFile, limit: maxPromptFile}
	prompts, err := decodePrompts(json.NewDecoder(bufio.NewReader(r)))
	if err != nil {
		return nil, formats.Errorf(base, "", "%w", err)
	}
	return prompts, nil
}

func decodePrompts(dec *json.Decoder) ([]Prompt, error) {
	if t, err := dec.Token(); err != nil || t != json.Delim('[') {
		return nil, errors.New("is not a JSON list of prompts")
	}
	var prompts []Prompt
	for dec.More() {
		var j promptJSON
		if err := dec.Decode(&j); err != nil {
			return nil, fmt.Errorf("prompt %d: %w", len(prompts), err)
		}
		p, err := j.prompt()
		if err != nil {
			return nil, fmt.Errorf("prompt %d: %w", len(prompts), err)
		}
		prompts = append(prompts, p)
	}
	if _, err := dec.Token(); err != nil {
		return nil, fmt.Errorf("the list of prompts does not end: %w", err)
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, errors.New("something follows the list of prompts")
	}
	if len(prompts) == 0 {
		return nil, errors.New("holds no prompts")
	}
	return prompts, nil
}

// prompt checks what was read.
func (j promptJSON) prompt() (Prompt, error) {
	p := Prompt{IDs: j.IDs, Answer: j.Answer, Length: j.Length, Extra: j.Extra}
	switch {
	case len(j.IDs) == 0 || len(j.IDs) > maxPromptTokens:
		return p, fmt.Errorf("%d ids", len(j.IDs))
	case len(j.Answer) == 0 || len(j.Answer) > len(j.IDs):
		return p, fmt.Errorf("an answer of %d tokens", len(j.Answer))
	case len(j.Needle) != 2 || j.Needle[0] < 0 || j.Needle[0] >= j.Needle[1] || j.Needle[1] > len(j.IDs):
		return p, fmt.Errorf("needle %v is no span of %d ids", j.Needle, len(j.IDs))
	case j.Length < 0 || j.Extra < 0:
		return p, errors.New("a negative length or number of extra facts")
	case j.Depth != nil && !(*j.Depth >= 0 && *j.Depth <= 1):
		return p, fmt.Errorf("depth %g lies outside 0 to 1", *j.Depth)
	}
	for _, ids := range [...][]int32{j.IDs, j.Answer} {
		if err := checkVocab(ids, math.MaxInt32); err != nil {
			return p, err
		}
	}
	p.NeedleLo, p.NeedleHi = j.Needle[0], j.Needle[1]
	if p.Length == 0 {
		n := len(j.IDs) + len(j.Answer)
		p.Length = (n + lengthStep - 1) / lengthStep * lengthStep
	}
	if j.Depth != nil {
		p.Depth = *j.Depth
	} else {
		p.Depth = math.Round(10*float64(p.NeedleLo)/float64(len(p.IDs))) / 10
	}
	return p, nil
}

// WritePrompts writes prompts in the form that [ReadPrompts] reads, one a line.
func WritePrompts(w io.Writer, prompts []Prompt) error {
	b := bufio.NewWriter(w)
	for i, p := range prompts {
		lead := "[\n"
		if i > 0 {
			lead = ",\n"
		}
		line, err := json.Marshal(promptJSON{IDs: p.IDs, Answer: p.Answer, Needle: []int{p.NeedleLo, p.NeedleHi},
			Length: p.Length, Depth: &p.Depth, Extra: p.Extra})
		if err != nil {
			return err
		}
		b.WriteString(lead)
		b.Write(line)
	}
	if len(prompts) == 0 {
		b.WriteString("[")
	}
	b.WriteString("\n]\n")
	return b.Flush()
}

// PromptsDigest is "sha256:" and the hex hash of the number of prompts and, for each, ids, answer and needle span, in the
// manner of [Windows]. It names the evaluation data in a plan or a report.
func PromptsDigest(prompts []Prompt) string {
	h := sha256.New()
	writeCount(h, len(prompts))
	for _, p := range prompts {
		writeIDs(h, p.IDs)
		writeIDs(h, p.Answer)
		writeCount(h, p.NeedleLo)
		writeCount(h, p.NeedleHi)
	}
	return "sha256:" + hex.EncodeToString(h.Sum(nil))
}
