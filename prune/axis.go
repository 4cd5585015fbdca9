package prune

import (
	"fmt"
	"sort"
)

// axis says what stays of one dimension of a tensor, and by what it is multiplied.
type axis struct {
	size  int       // of the source
	kept  int       // what stays
	runs  []run     // where it comes from, ascending
	scale []float64 // [kept]; nil for ones
}

// run is n neighbours that stay neighbours.
type run struct{ from, to, n int }

// wholeAxis keeps everything.
func wholeAxis(size int) *axis {
	return &axis{size: size, kept: size, runs: []run{{0, 0, size}}}
}

// newAxis keeps units of block neighbours each, of n.
func newAxis(u *Units, n, block int) *axis {
	a := &axis{size: n * block}
	if u.Keep == nil {
		a.grow(0, a.size)
	}
	for _, i := range u.Keep {
		a.grow(i*block, block)
	}
	if s := u.scales(); s != nil {
		a.scale = make([]float64, a.kept)
		for i := range a.scale {
			a.scale[i] = float64(s[i/block])
		}
	}
	return a
}

// grow appends n positions of the source.
func (a *axis) grow(from, n int) {
	if last := len(a.runs) - 1; last >= 0 && a.runs[last].from+a.runs[last].n == from {
		a.runs[last].n += n
	} else if n > 0 {
		a.runs = append(a.runs, run{from, a.kept, n})
	}
	a.kept += n
}

// joined puts axes without scales one after the other.
func joined(list ...*axis) *axis {
	a := &axis{}
	for _, b := range list {
		for _, r := range b.runs {
			a.grow(a.size+r.from, r.n)
		}
		a.size += b.size
	}
	return a
}

// plain is the axis without scales.
func (a *axis) plain() *axis {
	if a.scale == nil {
		return a
	}
	return &axis{size: a.size, kept: a.kept, runs: a.runs}
}

// times is the axis with everything multiplied by f.
func (a *axis) times(f float32) *axis {
	if f == 1 {
		return a
	}
	b := *a
	b.scale = make([]float64, a.kept)
	for i := range b.scale {
		b.scale[i] = float64(f)
		if a.scale != nil {
			b.scale[i] *= a.scale[i] // exact: 24 bits by 24
		}
	}
	return &b
}

// whole reports whether everything stays.
func (a *axis) whole() bool { return a.kept == a.size }

// find returns the run of position i of what stays.
func (a *axis) find(i int) int {
	if i < 0 || i >= a.kept {
		panic(fmt.Sprintf("prune: position %d of %d", i, a.kept))
	}
	return sort.Search(len(a.runs), func(r int) bool { return a.runs[r].to > i }) - 1
}

// at returns where position i of what stays comes from, and how many from there on are neighbours in the source.
func (a *axis) at(i int) (from, n int) {
	r := a.runs[a.find(i)]
	return r.from + i - r.to, r.n - (i - r.to)
}

// reach returns the source positions [lo, hi) that hold positions i to end of what stays, with end <= limit as far as hi-lo <= most
// allows, which is at least one.
func (a *axis) reach(i, limit, most int) (lo, hi, end int) {
	lo, _ = a.at(i)
	hi, end = lo, i
	for r := a.find(i); end < limit; r++ {
		from := a.runs[r].from + end - a.runs[r].to
		left := a.runs[r].to + a.runs[r].n - end
		n := min(left, limit-end, most-(from-lo))
		if n > 0 {
			hi, end = from+n, end+n
		}
		if n < left {
			break
		}
	}
	return lo, hi, end
}

// pick copies positions [i, end) of what stays from src, which holds the source from position base on, elements of size bytes each.
func (a *axis) pick(dst, src []byte, i, end, base, size int) {
	for r := a.find(i); i < end; r++ {
		from := a.runs[r].from + i - a.runs[r].to
		n := min(a.runs[r].to+a.runs[r].n, end) - i
		copy(dst[:n*size], src[(from-base)*size:])
		dst, i = dst[n*size:], i+n
	}
}
