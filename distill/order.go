package distill

import "fmt"

// Order is the order in which a run sees its windows: epoch after epoch, each a shuffle of all windows (Fisher and Yates, by
// Durstenfeld's algorithm) that is a pure function of the seed and the number of the epoch. It is not safe for concurrent use.
//
// Memory: 4 bytes a window.
type Order struct {
	n       int
	seed    uint64
	epoch   int64 // of perm
	perm    []int32
	ordered bool
}

// maxWindows bounds the windows of an order.
const maxWindows = 1<<31 - 1

// NewOrder returns the order of n windows.
func NewOrder(n int, seed uint64) (*Order, error) {
	if n < 1 || n > maxWindows {
		return nil, fmt.Errorf("distill: order: %d windows", n)
	}
	return &Order{n: n, seed: seed, epoch: -1, perm: make([]int32, n)}, nil
}

// InOrder returns the order that leaves windows as they are, epoch after epoch.
func InOrder(n int) (*Order, error) {
	o, err := NewOrder(n, 0)
	if err == nil {
		o.ordered, o.perm = true, nil
	}
	return o, err
}

// Window returns which window is the i-th that the run sees, i from 0: position i mod n of epoch i/n.
func (o *Order) Window(i int64) int {
	if i < 0 {
		panic(fmt.Sprintf("distill: window %d of an order", i))
	}
	at := int(i % int64(o.n))
	if o.ordered {
		return at
	}
	if e := i / int64(o.n); e != o.epoch {
		o.shuffle(e)
	}
	return int(o.perm[at])
}

func (o *Order) shuffle(epoch int64) {
	for i := range o.perm {
		o.perm[i] = int32(i)
	}
	s, next := newStream(o.seed, uint64(epoch)), uint64(0)
	for i := len(o.perm) - 1; i > 0; i-- {
		j := s.below(uint64(i+1), &next)
		o.perm[i], o.perm[j] = o.perm[j], o.perm[i]
	}
	o.epoch = epoch
}
