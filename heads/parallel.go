package heads

import "fmt"

// RankLoad tells how evenly a plan's full heads lie on the ranks of tensor parallelism.
type RankLoad struct {
	Ranks   int
	PerRank []int // full KV heads of each rank, summed over layers
	// Busiest is the sum over layers of the busiest rank's full heads: layers are synchronised one by one, so this is
	// what decode waits for. Ideal is what a perfect balance would give.
	Busiest int
	Ideal   float64
}

// TensorParallel counts full heads per rank. KV heads are split in contiguous blocks; where there are fewer KV heads
// than ranks, each is held by several. The number of one must divide the other in every layer.
func TensorParallel(full [][]bool, ranks int) (RankLoad, error) {
	if ranks <= 0 {
		return RankLoad{}, fmt.Errorf("heads: %d ranks", ranks)
	}
	load := RankLoad{Ranks: ranks, PerRank: make([]int, ranks)}
	for l, row := range full {
		g := len(row)
		if g == 0 {
			continue
		}
		if g%ranks != 0 && ranks%g != 0 {
			return RankLoad{}, fmt.Errorf("heads: layer %d: %d KV heads do not split over %d ranks", l, g, ranks)
		}
		layer := layerLoad(row, ranks)
		busiest, sum := 0, 0
		for r, n := range layer {
			load.PerRank[r] += n
			busiest = max(busiest, n)
			sum += n
		}
		load.Busiest += busiest
		load.Ideal += float64(sum) / float64(ranks)
	}
	return load, nil
}

// layerLoad counts the full heads of each rank in one layer.
func layerLoad(row []bool, ranks int) []int {
	out := make([]int, ranks)
	for r := range out {
		lo, hi := r*len(row)/ranks, (r+1)*len(row)/ranks
		if hi == lo { // fewer heads than ranks: rank r holds a copy of head r*G/ranks
			hi = lo + 1
		}
		for _, f := range row[lo:hi] {
			if f {
				out[r]++
			}
		}
	}
	return out
}
