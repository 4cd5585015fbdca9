package heads

import (
	"math"
	"slices"
)

// tieShare is the share of each other objective, relative to their sizes, that is added to the one that is minimised: more than the
// least gain of a knapsack's local search, and little enough to decide between equals alone.
const tieShare = 1e-5

// aims returns what is minimised for each length: its loss and a share of the others.
func (f *Frontier) aims() [][][][]float64 {
	if len(f.Loss) == 1 {
		return f.Loss
	}
	sizes := make([]float64, len(f.Loss))
	for o, table := range f.Loss {
		for _, layer := range table {
			for _, row := range layer {
				most := 0.0
				for _, v := range row {
					most = math.Max(most, math.Abs(v))
				}
				sizes[o] += most
			}
		}
	}
	aims := make([][][][]float64, len(f.Loss))
	for o, table := range f.Loss {
		for l, layer := range table {
			aims[o] = append(aims[o], make([][]float64, len(layer)))
			for g, row := range layer {
				aim := slices.Clone(row)
				for other, t := range f.Loss {
					if other == o || sizes[other] == 0 || l >= len(t) || g >= len(t[l]) || len(t[l][g]) != len(row) {
						continue // another shape is an error of the knapsacks that minimise it
					}
					share := tieShare * sizes[o] / sizes[other]
					for r, v := range t[l][g] {
						aim[r] += float64(share * v)
					}
				}
				aims[o][l][g] = aim
			}
		}
	}
	return aims
}
