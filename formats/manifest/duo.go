package manifest

import (
	"encoding/json"
	"fmt"
	"math"
	"sort"
	"strconv"
	"strings"
)

// The files of a DuoAttention directory (duo-attention, attn_patterns/<model>/<run>).
const (
	duoScoresFile = "full_attention_heads.tsv" // a row of scores for each layer, as numpy.savetxt writes them
	duoConfigFile = "config.json"              // of the training run; readers want sink_size and recent_size
	methodDuo     = "duo"
)

var duoFormat = &Format{
	Name: "duo", Readers: "DuoAttention, kvpress", Files: duoScoresFile + ", " + duoConfigFile, Dir: true,
	Condition: "decoding is full or one streaming pair, prefill the same, no min_seq; every layer has as many KV heads",
	write:     writeDuo, read: readDuo,
}

func writeDuo(x *export) error {
	_, err := x.duo()
	return err
}

// duo writes both files and returns which heads stream.
func (x *export) duo() (streams, error) {
	if _, err := x.oneWidth(x.kvHeads); err != nil {
		return streams{}, err
	}
	decode := x.decoding()
	s := x.streams(decode)
	x.prefillAsDecoding(decode)
	x.saving("heads that are written as full", s.span)
	streaming, all := s.counts()
	if streaming == 0 {
		s.sink, s.recent = x.unusedSizes()
	}
	scores := x.gates(s.full)
	if n := separate(scores, s.full); n > 0 {
		x.note("%d scores were moved so that a quantile parts full heads from the others without a tie", n)
	}
	x.note("give readers the sparsity %s (kvpress: compression_ratio); at another one they choose other heads", sparsity(streaming, all))
	if streaming == all {
		x.note("a reader that takes the plain quantile keeps one head full at sparsity 1")
	}
	if ph := x.p.Phases.Prefill; streaming > 0 && (ph.FirstChunk != "dense" || ph.ChunkMask != "chunk") {
		x.note("readers prefill the first chunk dense and hold masks for whole chunks; the plan has first_chunk %s, chunk_mask %s", ph.FirstChunk, ph.ChunkMask)
	}
	x.file(duoScoresFile, tsv(scores))
	x.file(duoConfigFile, fmt.Appendf(nil, "{\"sink_size\": %d, \"recent_size\": %d}\n", s.sink, s.recent))
	return s, nil
}

// unusedSizes returns the sizes of the first streaming policy of the document, for files that have sizes whatever heads do.
func (x *export) unusedSizes() (sink, recent int) {
	for _, id := range sortedKeys(x.p.Policies) {
		if pol := x.p.Policies[id]; pol.Kind == KindStreaming {
			return pol.Sink, pol.Recent
		}
	}
	return 0, 1
}

// sparsity writes the share of heads that stream. numpy.quantile at k of n falls between the k-th and the next score of n, and so
// parts k heads from the others.
func sparsity(streaming, all int) string {
	return strconv.FormatFloat(float64(streaming)/float64(all), 'g', -1, 64)
}

func tsv(scores [][]float64) []byte {
	var b []byte
	for _, row := range scores {
		for g, v := range row {
			if g > 0 {
				b = append(b, '\t')
			}
			b = strconv.AppendFloat(b, v, 'e', 18, 64) // numpy.savetxt's "%.18e"
		}
		b = append(b, '\n')
	}
	return b
}

// gates returns the score to write for each KV head: as measured by DuoAttention, else the plan's, brought into [0, 1] in their
// order, else 1 for a full head and 0 for others.
func (x *export) gates(full [][]bool) [][]float64 {
	out := make([][]float64, len(full))
	raw := x.evidence(PerKVHead, methodDuo)
	lo, hi, scored := math.Inf(1), math.Inf(-1), true
	for l, row := range full {
		out[l] = make([]float64, len(row))
		for g, isFull := range row {
			h := x.entries[l][g]
			switch {
			case raw != nil:
				out[l][g] = raw.Scores[l][g]
				continue
			case h == nil || h.Score == nil:
				scored = false
			default:
				lo, hi = math.Min(lo, *h.Score), math.Max(hi, *h.Score)
			}
			if isFull {
				out[l][g] = 1
			}
		}
	}
	if raw != nil || !scored {
		return out
	}
	scale := 0.5 // halves, so that no difference overflows
	if lo >= 0 && hi <= 1 {
		lo = 0
	} else {
		x.note("scores of %v to %v are brought into 0 to 1", lo, hi)
		scale = math.Max(hi/2-lo/2, math.SmallestNonzeroFloat64)
	}
	for l := range out {
		for g := range out[l] {
			out[l][g] = (*x.entries[l][g].Score/2 - lo/2) / scale
		}
	}
	return out
}

// evidence returns the scores of the first of the methods that every head of every layer has one of, nil where none is.
func (x *export) evidence(per string, methods ...string) *Evidence {
	counts := x.kvHeads
	if per == PerQHead {
		counts = x.qHeads
	}
	for _, m := range methods {
		for i := range x.p.Evidence {
			e := &x.p.Evidence[i]
			ok := e.Method == m && e.per() == per && len(e.Scores) == len(counts)
			for l := 0; ok && l < len(counts); l++ {
				ok = len(e.Scores[l]) == counts[l]
			}
			if ok {
				return e
			}
		}
	}
	return nil
}

// separate moves scores, as little as it takes, so that every full head is above every other by more than the noise of up to
// 1e-6 that readers add, once they are clipped to [0, 1]. It returns how many were moved: none where they part already.
func separate(scores [][]float64, full [][]bool) int {
	const gap = 1e-5
	least, most := math.Inf(1), math.Inf(-1) // of full heads, of the others
	for l, row := range scores {
		for g, v := range row {
			if full[l][g] {
				least = math.Min(least, clip01(v))
			} else {
				most = math.Max(most, clip01(v))
			}
		}
	}
	if math.IsInf(least, 1) || math.IsInf(most, -1) || least-most >= gap {
		return 0
	}
	cut := math.Min(math.Max((least+most)/2, gap), 1-gap)
	moved := 0
	for l, row := range scores {
		for g, v := range row {
			if full[l][g] && v < cut+gap {
				row[g] = cut + gap
				moved++
			} else if !full[l][g] && v > cut-gap {
				row[g] = cut - gap
				moved++
			}
		}
	}
	return moved
}

func clip01(v float64) float64 { return math.Min(math.Max(v, 0), 1) }

func readDuo(r *reader) error {
	f, err := r.named(duoConfigFile)
	if err != nil {
		return err
	}
	config, err := r.object(f)
	if err != nil {
		return err
	}
	sink, err := r.tokens(f, config, "sink_size", 0)
	if err != nil {
		return err
	}
	recent, err := r.tokens(f, config, "recent_size", 1)
	if err != nil {
		return err
	}
	if f, err = r.named(duoScoresFile); err != nil {
		return err
	}
	raw, err := r.matrix(f, "\t")
	if err != nil {
		return err
	}
	share := 0.5
	if r.o.Sparsity != nil {
		share = *r.o.Sparsity
	} else {
		r.note("no sparsity is given: half of the heads stream")
	}
	clipped := make([][]float64, len(raw))
	for l, row := range raw {
		clipped[l] = make([]float64, len(row))
		for g, v := range row {
			clipped[l][g] = clip01(v)
		}
	}
	full, err := r.cut(clipped, share, methodDuo)
	if err != nil {
		return err
	}
	sink, recent = r.sizes(sink, recent)
	r.stream(full, sink, recent)
	r.p.Phases.Prefill.FirstChunk, r.p.Phases.Prefill.ChunkMask = "dense", "chunk"
	e := Evidence{Method: methodDuo, Unit: "gate", Scores: raw}
	if seed := config["seed"]; json.Unmarshal(orNull(seed), &e.Seed) != nil {
		e.Seed = 0
	}
	r.p.Evidence = []Evidence{e}
	return nil
}

// matrix reads a line of numbers for each layer, one for each KV head.
func (r *reader) matrix(f File, sep string) ([][]float64, error) {
	text := strings.TrimSuffix(string(f.Data), "\n")
	if n := strings.Count(text, "\n") + 1; n != len(r.kvHeads) {
		return nil, r.layers(f.Name, n)
	}
	out := make([][]float64, len(r.kvHeads))
	for l, line := range strings.Split(text, "\n") {
		if err := r.width(f.Name, l, strings.Count(line, sep)+1, r.kvHeads); err != nil {
			return nil, err
		}
		for _, word := range strings.Split(line, sep) {
			v, err := plainNumber(word)
			if err != nil {
				return nil, r.bad(f.Name, "line %d: %w", l+1, err)
			}
			out[l] = append(out[l], v)
		}
	}
	return out, nil
}

// plainNumber reads a finite decimal number. strconv would read more.
func plainNumber(word string) (float64, error) {
	v, err := strconv.ParseFloat(word, 64)
	if err != nil || strings.Trim(word, "0123456789+-.eE") != "" {
		return 0, fmt.Errorf("%.40q is no number", word)
	}
	return v, nil
}

// cut makes the heads with the lowest scores stream, as many as numpy.quantile at this sparsity parts from the others where no
// two scores are equal. Among equals, earlier layers and then earlier heads stay full.
func (r *reader) cut(scores [][]float64, share float64, method string) ([][]bool, error) {
	if math.IsNaN(share) || share < 0 || share > 1 {
		return nil, fmt.Errorf("manifest: %s: sparsity %v is not in [0, 1]", r.format, share)
	}
	type place struct{ l, g int }
	var order []place
	full := make([][]bool, len(scores))
	for l, row := range scores {
		full[l] = make([]bool, len(row))
		for g := range row {
			order = append(order, place{l, g})
			r.p.Layers[l].KVHeads[g].Score = &scores[l][g]
		}
	}
	score := func(i int) float64 { return scores[order[i].l][order[i].g] }
	sort.SliceStable(order, func(i, j int) bool { return score(i) > score(j) })
	streaming := len(order)
	if share < 1 {
		streaming = int(math.Ceil(float64(len(order)-1) * share))
	}
	kept := len(order) - streaming
	for _, at := range order[:kept] {
		full[at.l][at.g] = true
	}
	s := &Selection{Method: method, TargetFullRatio: 1 - share, TieBreak: "score desc, layer asc, head asc"}
	if kept > 0 && streaming > 0 {
		least := score(kept - 1)
		s.CutScore = &least
		for i := kept; i < len(order) && score(i) == least; i++ {
			s.TiesAtCut++
		}
	}
	r.p.Selection = s
	return full, nil
}
