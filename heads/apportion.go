package heads

import (
	"container/heap"
	"math"
)

// apportion returns whole numbers near want whose sum is total, each at least low and at most its most (which goes before
// low): the floor of each, then one unit at a time where most is missing or, where there are too many, where least is missing. Equal
// wants are served in order. It returns nil where total does not lie within the bounds.
func apportion(want []float64, total, low int, most []int) []int {
	got := make([]int, len(want))
	least, largest, sum := 0, 0, 0
	for i, v := range want {
		least += min(low, most[i])
		largest += most[i]
		got[i] = min(most[i], max(low, int(math.Floor(Round(v)))))
		sum += got[i]
	}
	if total < least || total > largest {
		return nil
	}
	step, end := 1, func(i int) bool { return got[i] == most[i] }
	if sum > total {
		step, end = -1, func(i int) bool { return got[i] == min(low, most[i]) }
	}
	queue := &needs{}
	for i := range want {
		if !end(i) {
			queue.list = append(queue.list, need{float64(step) * Round(want[i]-float64(got[i])), i})
		}
	}
	heap.Init(queue)
	for ; sum != total; sum += step {
		top := &queue.list[0]
		got[top.at] += step
		top.size--
		if end(top.at) {
			heap.Pop(queue)
		} else {
			heap.Fix(queue, 0)
		}
	}
	return got
}

// need is how far a place is from what it should get.
type need struct {
	size float64
	at   int
}

// needs is a heap of the largest needs first, of equals the first place.
type needs struct{ list []need }

func (n *needs) Len() int      { return len(n.list) }
func (n *needs) Swap(i, j int) { n.list[i], n.list[j] = n.list[j], n.list[i] }
func (n *needs) Push(x any)    { n.list = append(n.list, x.(need)) }
func (n *needs) Less(i, j int) bool {
	a, b := n.list[i], n.list[j]
	return a.size > b.size || a.size == b.size && a.at < b.at
}

func (n *needs) Pop() any {
	last := n.list[len(n.list)-1]
	n.list = n.list[:len(n.list)-1]
	return last
}
