package device

import (
	"sync"
	"sync/atomic"
)

// Loop runs body(0), …, body(n-1) on up to so many threads, the caller's among them, and waits. Which thread runs which index is left
// open, so bodies must write to places of their own. A panic in a body is raised again in the caller once all threads have stopped.
func Loop(threads, n int, body func(i int)) {
	workers := min(threads, n)
	if workers <= 1 {
		for i := range n {
			body(i)
		}
		return
	}
	run := &loop{n: int64(n), body: body}
	run.wg.Add(workers - 1)
	for range workers - 1 {
		go func() {
			defer run.wg.Done()
			run.work()
		}()
	}
	run.work()
	run.wg.Wait()
	if p := run.failed.Load(); p != nil {
		panic(*p)
	}
}

// loop is one call of Loop: threads take the next index until none is left.
type loop struct {
	n      int64
	next   atomic.Int64
	body   func(i int)
	wg     sync.WaitGroup
	failed atomic.Pointer[any]
}

func (l *loop) work() {
	defer func() {
		if p := recover(); p != nil {
			l.failed.CompareAndSwap(nil, &p)
			l.next.Store(l.n)
		}
	}()
	for {
		i := l.next.Add(1) - 1
		if i >= l.n {
			return
		}
		l.body(int(i))
	}
}
