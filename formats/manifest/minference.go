package manifest

import (
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// What MInference's runtime has fixed (minference/modules/minference_forward.py).
const (
	minferenceLastQ         = 64
	minferenceForceVertical = 30
	minferenceForceSlash    = 100
	minferenceBlock         = 64
	minferenceBlocks        = 100 // of block_sparse, whatever its two numbers say
	minferenceFile          = "best_pattern.json"
	methodMInference        = "minference"
	unitOpaque              = "opaque"
	unitOpaqueCount         = "opaque count" // written without a point
)

// blockSparseSizes are the two numbers that MInference's search writes beside block_sparse; nothing reads them.
var blockSparseSizes = [2]int{1000, 6096}

var minferenceFormat = &Format{
	Name: "minference", Readers: "MInference", Files: minferenceFile,
	Condition: "prefill is vertical_slash (last_q 64, forced 30 and 100), streaming, block_topk by mean_pool (100 blocks of 64) or full; decoding is full; no min_seq",
	write:     writeMInference, read: readMInference,
}

func writeMInference(x *export) error {
	text := x.patterns(minferenceLastQ)
	x.minSeq(true)
	x.file(minferenceFile, []byte(text))
	return nil
}

// patterns writes the pattern of each query head, with the score of the search where the plan has it.
func (x *export) patterns(lastQ int) string {
	scores := x.evidence(PerQHead, methodMInference)
	x.denseDecoding()
	number := pyFloat
	if scores != nil && scores.Unit == unitOpaqueCount {
		number = func(v float64) string { return strconv.FormatFloat(v, 'f', -1, 64) }
	}
	full := false
	layers := make([]string, len(x.entries))
	for l, row := range x.prefill() {
		heads := make([]string, len(row))
		for q, id := range row {
			pol := x.p.Policies[id]
			name, a, b, loss := x.pattern(pol, lastQ)
			if loss != "" {
				x.loseAt(l, x.group(l, q), "%s", loss)
			}
			full = full || pol.Kind == KindFull
			score := 0.0
			if scores != nil {
				score = scores.Scores[l][q]
			}
			heads[q] = fmt.Sprintf(`"%d": ["%s", %d, %d, %s]`, q, name, a, b, number(score))
		}
		layers[l] = "{" + strings.Join(heads, ", ") + "}"
	}
	if full {
		x.note("full heads have a budget of the whole context, %d columns and diagonals", x.p.Model.MaxPosition)
	}
	return "[" + strings.Join(layers, ", ") + "]"
}

// pattern returns a policy as a type and two numbers, and why that is not the same.
func (x *export) pattern(p Policy, lastQ int) (name string, a, b int, loss string) {
	whole := x.p.Model.MaxPosition
	switch {
	case p.Kind == KindFull:
		return verticalAndSlash, whole, whole, ""
	case p.Kind == KindVerticalSlash:
		if p.LastQ != lastQ || p.ForceVertical != minferenceForceVertical || p.ForceSlash != minferenceForceSlash {
			loss = fmt.Sprintf("last_q %d, force_vertical %d, force_slash %d: readers have %d, %d, %d", p.LastQ, p.ForceVertical, p.ForceSlash,
				lastQ, minferenceForceVertical, minferenceForceSlash)
		}
		return verticalAndSlash, p.Vertical, p.Slash, loss
	case p.Kind == KindStreaming:
		if p.Compensation {
			loss = "the compensation token"
		}
		return "stream_llm", p.Sink, p.Recent, loss
	case p.Kind == KindBlockTopK && p.Selector == SelectMeanPool:
		if p.Block != minferenceBlock || p.Blocks != minferenceBlocks {
			loss = fmt.Sprintf("%d blocks of %d: readers take %d of %d", p.Blocks, p.Block, minferenceBlocks, minferenceBlock)
		}
		return "block_sparse", blockSparseSizes[0], blockSparseSizes[1], loss
	}
	return verticalAndSlash, whole, whole, "kind " + p.Kind + ": written with a budget of the whole context"
}

// verticalAndSlash is MInference's name for vertical_slash.
const verticalAndSlash = "vertical_and_slash"

func readMInference(r *reader) error {
	f, err := r.only()
	if err != nil {
		return err
	}
	var list []map[string][]json.RawMessage
	if err := r.decode(f, &list); err != nil {
		return err
	}
	return r.readPatterns(f, list, minferenceLastQ)
}

// readPatterns gives each query head its pattern in prefill and keeps the fourth number of each, whose meaning differs by file.
func (r *reader) readPatterns(f File, list []map[string][]json.RawMessage, lastQ int) error {
	if err := r.layers(f.Name, len(list)); err != nil {
		return err
	}
	e := Evidence{Method: methodMInference, Unit: unitOpaqueCount, Per: PerQHead, Scores: make([][]float64, len(list))}
	whole, decimal := 0, 0
	for l, layer := range list {
		if err := r.width(f.Name, l, len(layer), r.qHeads); err != nil {
			return err
		}
		ids := make([]string, len(layer))
		e.Scores[l] = make([]float64, len(layer))
		for q := range ids {
			entry, ok := layer[strconv.Itoa(q)]
			if !ok {
				return r.shape(f.Name, "layer %d has no head %d", l, q)
			}
			pol, score, err := r.readPattern(entry, lastQ)
			if err != nil {
				return r.bad(f.Name, "layer %d head %d: %w", l, q, err)
			}
			if ids[q], err = r.patternID(pol); err != nil {
				return err
			}
			if e.Scores[l][q], err = plainNumber(score); err != nil {
				return r.bad(f.Name, "layer %d head %d: %w", l, q, err)
			}
			if strings.Trim(score, "-0123456789") == "" && math.Abs(e.Scores[l][q]) < 1<<53 {
				whole++
			} else {
				decimal++
			}
		}
		r.prefill(l, ids)
	}
	if decimal > 0 {
		e.Unit = unitOpaque
		if whole > 0 {
			r.lose("%d scores are whole numbers among %d decimals, and are written with a point", whole, decimal)
		}
	}
	r.p.Evidence = []Evidence{e}
	return nil
}

func (r *reader) patternID(pol Policy) (string, error) {
	switch pol.Kind {
	case KindFull:
		return "full", nil
	case KindStreaming:
		return r.policy("s", pol)
	case KindBlockTopK:
		return r.policy("bs", pol)
	}
	return r.policy("vs", pol)
}

// readPattern reads [type, number, number, score].
func (r *reader) readPattern(entry []json.RawMessage, lastQ int) (pol Policy, score string, err error) {
	if len(entry) != 4 {
		return pol, "", fmt.Errorf("%d values, want 4", len(entry))
	}
	var name string
	var size [2]int
	if err := json.Unmarshal(entry[0], &name); err != nil {
		return pol, "", err
	}
	for i := range size {
		if err := json.Unmarshal(entry[i+1], &size[i]); err != nil {
			return pol, "", err
		}
		if size[i] < 0 || size[i] > maxTokens {
			return pol, "", fmt.Errorf("%d is not in 0..%d", size[i], maxTokens)
		}
	}
	switch name {
	case verticalAndSlash:
		pol = Policy{Kind: KindVerticalSlash, Vertical: size[0], Slash: size[1], LastQ: lastQ, ForceVertical: minferenceForceVertical, ForceSlash: minferenceForceSlash}
		if whole := r.p.Model.MaxPosition; size == [2]int{whole, whole} {
			pol = Full()
		}
	case "stream_llm":
		if size[1] < 1 {
			return pol, "", fmt.Errorf("stream_llm with a window of %d", size[1])
		}
		pol = Streaming(size[0], size[1])
	case "block_sparse":
		pol = Policy{Kind: KindBlockTopK, Selector: SelectMeanPool, Block: minferenceBlock, Blocks: minferenceBlocks}
		if size != blockSparseSizes {
			r.lose("the numbers %d and %d of block_sparse, which nothing reads", size[0], size[1])
		}
	default:
		return pol, "", fmt.Errorf("pattern %.40q is not known", name)
	}
	return pol, string(entry[3]), nil
}
