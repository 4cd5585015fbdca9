package heads

import (
	"math"

	"modelpress/internal/arch"
)

// Scores holds one number per head, as a single method gave it. Scores of different methods have different units and are
// never compared with each other.
type Scores struct {
	Method string      // such as "wu"
	Unit   string      // what a value is, such as "share of answer steps"
	KV     [][]float64 // [layer][KV head]; a layer without attention has an empty row
	Query  [][]float64 // [layer][query head]; nil where the method has no value per query head
	// Samples is the number of prompts, windows or draws that the values are means over.
	Samples int
}

// table collects a value per sample, layer and query head. Samples are summed in their own order, whatever the order
// in which they came.
type table struct {
	layers []arch.Layer
	v      [][][]float64 // [sample][layer][head]
}

func newTable(layers []arch.Layer, samples int) *table {
	t := &table{layers: layers, v: make([][][]float64, samples)}
	for s := range t.v {
		t.v[s] = make([][]float64, len(layers))
		for l := range layers {
			t.v[s][l] = make([]float64, layers[l].H)
		}
	}
	return t
}

// sum returns the sum over the samples that keep names (nil: all), [layer][head], and their number.
func (t *table) sum(keep []bool) ([][]float64, int) {
	out := rowsOf(t.layers, func(l arch.Layer) int { return l.H })
	n := 0
	for s, sample := range t.v {
		if keep != nil && !keep[s] {
			continue
		}
		n++
		for l, row := range sample {
			for h, v := range row {
				out[l][h] += v
			}
		}
	}
	return out, n
}

// mean returns the mean over the kept samples.
func (t *table) mean(keep []bool) ([][]float64, int) {
	out, n := t.sum(keep)
	for _, row := range out {
		for h := range row {
			row[h] /= float64(n)
		}
	}
	return out, n
}

// scores wraps per-query-head means; the score of a group is the maximum over its query heads.
func (t *table) scores(method, unit string, query [][]float64, samples int) *Scores {
	return &Scores{Method: method, Unit: unit, Query: query, KV: groupMax(t.layers, query), Samples: samples}
}

func rowsOf(layers []arch.Layer, width func(arch.Layer) int) [][]float64 {
	out := make([][]float64, len(layers))
	for l := range layers {
		out[l] = make([]float64, width(layers[l]))
	}
	return out
}

func kvHeads(l arch.Layer) int {
	if l.H == 0 {
		return 0
	}
	return l.G
}

// groupMax reduces query heads to KV heads: g takes the maximum over heads g*(H/G) … (g+1)*(H/G)-1.
func groupMax(layers []arch.Layer, query [][]float64) [][]float64 {
	out := rowsOf(layers, kvHeads)
	for l := range out {
		for g := range out[l] {
			r := layers[l].H / layers[l].G
			best := math.Inf(-1)
			for _, v := range query[l][g*r : (g+1)*r] {
				best = math.Max(best, v)
			}
			out[l][g] = best
		}
	}
	return out
}
