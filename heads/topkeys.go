package heads

import (
	"math"
	"slices"

	"modelpress/internal/num"
)

// row writes A[h, i, j] to dst[j] for all j ≤ i, dst having i+1 places.
func (r rows) row(dst []float64, h, i int) {
	q, lse := r.query(h, i), float64(r.LSE[h*r.Shape.T+i])
	clear(dst[:r.low(i)])
	for j := r.low(i); j <= i; j++ {
		dst[j] = math.Exp(float64(float64(r.Shape.Scale)*float64(num.Dot(q, r.key(h, j)))) - lse)
	}
}

// topKeys appends to ids the k places of the largest weights, all where there are fewer, ascending; of equals the first.
// It takes O(n·log k).
func topKeys(ids []int32, w []float64, k int) []int32 {
	at := len(ids)
	if k <= 0 {
		return ids
	}
	// ids[at:] is a heap whose root is the least of those kept: the smallest weight, of equals the last place.
	less := func(a, b int32) bool { return w[a] < w[b] || w[a] == w[b] && a > b }
	for j := range w {
		h := ids[at:]
		if len(h) < k {
			ids = append(ids, int32(j))
			siftUp(ids[at:], less)
		} else if less(h[0], int32(j)) {
			h[0] = int32(j)
			siftDown(h, less)
		}
	}
	slices.Sort(ids[at:])
	return ids
}

func siftUp(h []int32, less func(a, b int32) bool) {
	for i := len(h) - 1; i > 0 && less(h[i], h[(i-1)/2]); i = (i - 1) / 2 {
		h[i], h[(i-1)/2] = h[(i-1)/2], h[i]
	}
}

func siftDown(h []int32, less func(a, b int32) bool) {
	for i := 0; ; {
		c := 2*i + 1
		if c+1 < len(h) && less(h[c+1], h[c]) {
			c++
		}
		if c >= len(h) || !less(h[c], h[i]) {
			return
		}
		h[i], h[c] = h[c], h[i]
		i = c
	}
}
