package manifest

import (
	"fmt"
	"strconv"
	"strings"
)

// Files of Retrieval_Head (Wu et al., arXiv:2404.15574) and HeadKV (arXiv:2410.19258): scores, and no policy.
const (
	retrievalFile = "head_score.json"
	methodWu      = "wu"
	unitWu        = "share of answer steps" // as package heads calls it
)

var retrievalFormat = &Format{
	Name: "retrieval-head", Readers: "Retrieval_Head, HeadKV", Files: retrievalFile,
	Condition: "every head is full: the file has scores and no policy; the plan has evidence by wu for query heads",
	write:     writeRetrieval, read: readRetrieval,
}

func writeRetrieval(x *export) error {
	e := x.evidence(PerQHead, methodWu)
	group := x.evidence(PerKVHead, methodWu)
	if e == nil && group == nil {
		return fmt.Errorf("manifest: %s: the plan has no evidence by %s: %w", x.format, methodWu, ErrUnfit)
	}
	if e == nil {
		x.lose("scores of query heads: each gets that of its KV head")
	}
	x.denseDecoding()
	var heads []string
	for l, row := range x.prefill() {
		for q, id := range row {
			if pol := x.p.Policies[id]; pol.Kind != KindFull {
				x.loseAt(l, x.group(l, q), "prefill under %s", pol.Kind)
			}
			var score float64
			if e != nil {
				score = e.Scores[l][q]
			} else {
				score = group.Scores[l][x.group(l, q)]
			}
			heads = append(heads, fmt.Sprintf(`"%d-%d": [%s]`, l, q, pyFloat(score)))
		}
	}
	x.file(retrievalFile, []byte("{"+strings.Join(heads, ", ")+"}"))
	return nil
}

// readRetrieval takes a head's score as the mean over its samples, and a KV head's as the largest of its group. With
// Options.Sparsity, the KV heads with the lowest scores stream; else all are full.
func readRetrieval(r *reader) error {
	f, err := r.only()
	if err != nil {
		return err
	}
	var lists map[string][]float64
	if err := r.decode(f, &lists); err != nil {
		return err
	}
	e := Evidence{Method: methodWu, Unit: unitWu, Per: PerQHead, Scores: make([][]float64, len(r.qHeads))}
	total := 0
	for l, n := range r.qHeads {
		total += n
		e.Scores[l] = make([]float64, n)
		for q := range e.Scores[l] {
			list, ok := lists[strconv.Itoa(l)+"-"+strconv.Itoa(q)]
			if !ok {
				return r.shape(f.Name, "no head %d-%d", l, q)
			}
			if len(list) == 0 {
				return r.bad(f.Name, "head %d-%d has no score", l, q)
			}
			e.Samples = max(e.Samples, len(list))
			for _, v := range list {
				e.Scores[l][q] += v / float64(len(list))
			}
		}
	}
	if len(lists) != total {
		return r.shape(f.Name, "%d heads, the model has %d", len(lists), total)
	}
	if e.Samples > 1 {
		r.lose("the scores of single samples: their mean is kept")
	}
	r.p.Evidence = []Evidence{e}
	scores := r.groupMax(e.Scores)
	if r.o.Sparsity == nil {
		for l, row := range scores {
			for g := range row {
				r.p.Layers[l].KVHeads[g].Score = &row[g]
			}
		}
		return nil
	}
	full, err := r.cut(scores, *r.o.Sparsity, methodWu)
	if err != nil {
		return err
	}
	sink, recent := r.sizes(goldenSink, goldenRecent)
	r.stream(full, sink, recent)
	return nil
}

// groupMax returns the largest score of each KV head's query heads.
func (r *reader) groupMax(query [][]float64) [][]float64 {
	out := make([][]float64, len(query))
	for l, row := range query {
		out[l] = make([]float64, r.kvHeads[l])
		for q, v := range row {
			n := r.qHeads[l] / r.kvHeads[l]
			if g := q / n; q%n == 0 || v > out[l][g] {
				out[l][g] = v
			}
		}
	}
	return out
}
