package kvmerge

import (
	"errors"
	"slices"
	"sync"
)

// recent keeps the last few values asked for. A value is made once, however many ask for it at the same time, and again
// after an error.
type recent[K comparable, V any] struct {
	limit int
	mu    sync.Mutex
	kept  []*recentValue[K, V] // the one asked for last stands last
}

type recentValue[K comparable, V any] struct {
	key  K
	once sync.Once
	v    V
	err  error
}

var errUnmade = errors.New("kvmerge: an earlier read of the same values failed")

// get returns the value of a key, made where it is not there.
func (r *recent[K, V]) get(key K, make func() (V, error)) (V, error) {
	e := r.entry(key)
	e.once.Do(func() {
		e.err = errUnmade // what the next reader finds where make panics
		e.v, e.err = make()
	})
	if e.err != nil {
		r.drop(key, e)
	}
	return e.v, e.err
}

func (r *recent[K, V]) entry(key K) *recentValue[K, V] {
	r.mu.Lock()
	defer r.mu.Unlock()
	var e *recentValue[K, V]
	if i := r.index(key); i >= 0 {
		e = r.kept[i]
		r.kept = slices.Delete(r.kept, i, i+1)
	} else {
		e = &recentValue[K, V]{key: key}
		if len(r.kept) == r.limit {
			r.kept = slices.Delete(r.kept, 0, 1)
		}
	}
	r.kept = append(r.kept, e)
	return e
}

// drop lets the value of a key go; with only set, no other value than that one.
func (r *recent[K, V]) drop(key K, only *recentValue[K, V]) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if i := r.index(key); i >= 0 && (only == nil || r.kept[i] == only) {
		r.kept = slices.Delete(r.kept, i, i+1)
	}
}

func (r *recent[K, V]) index(key K) int {
	return slices.IndexFunc(r.kept, func(e *recentValue[K, V]) bool { return e.key == key })
}
