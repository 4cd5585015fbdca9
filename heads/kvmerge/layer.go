package kvmerge

import (
	"fmt"

	"modelpress/internal/arch"
)

// Layer says how a layer's KV heads are merged. The zero value leaves the layer as it is, and so do groups that are
// [Groups.Trivial] with no repetition.
type Layer struct {
	Groups Groups
	// Repeat: each merged head is written this many times in a row, 1 where it is 0, for loaders that know one number of KV
	// heads only. It divides the query heads of a merged head, which its copies share out evenly.
	Repeat int
}

// Written returns the KV heads that the layer is written with, for a layer of g before.
func (l Layer) Written(g int) int {
	if len(l.Groups) > 0 {
		g = len(l.Groups)
	}
	return g * l.copies()
}

// copies is how often each merged head is written.
func (l Layer) copies() int { return max(1, l.Repeat) }

// merges reports whether heads share or change places: maps are needed then.
func (l Layer) merges() bool { return !l.Groups.Trivial() }

// roles lists the projections of attention that change. Repetition alone leaves queries and outputs as they are: query head h
// reads KV head h/(H/G), which is a copy of the one that it read.
func (l Layer) roles() []arch.Role {
	switch {
	case l.merges():
		return []arch.Role{arch.Q, arch.K, arch.V, arch.O}
	case l.copies() > 1:
		return []arch.Role{arch.K, arch.V}
	}
	return nil
}

// check returns an error where l cannot be done to a.
func (l Layer) check(a *arch.Layer) error {
	if l.Repeat < 0 {
		return fmt.Errorf("each head written %d times", l.Repeat)
	}
	if !a.HasAttention() {
		if len(l.Groups) > 0 || l.copies() > 1 {
			return fmt.Errorf("the layer has no attention whose heads could share")
		}
		return nil
	}
	q, k, v, o := &a.Linears[arch.Q], &a.Linears[arch.K], &a.Linears[arch.V], &a.Linears[arch.O]
	if a.G < 1 || a.H%a.G != 0 || a.K < 1 || q.Out != a.H*a.K || k.Out != a.G*a.K || v.Out != k.Out || o.In != q.Out {
		return fmt.Errorf("%d query heads, %d KV heads, head dim %d do not fit projections of %d, %d, %d to %d", a.H, a.G, a.K, q.Out, k.Out, v.Out, o.In)
	}
	merged := a.G
	if len(l.Groups) > 0 {
		if err := l.Groups.Check(a.G); err != nil {
			return err
		}
		merged = len(l.Groups)
	}
	if each := a.H / merged; each%l.copies() != 0 {
		return fmt.Errorf("%d copies do not share out the %d query heads of a merged head", l.copies(), each)
	}
	if w := l.Written(a.G); k.StoredOut != k.Out && w != a.G {
		return fmt.Errorf("keys share their tensor with queries, so that the model has one number of heads, %d, and cannot be written with %d KV heads; repeat each merged head", a.H, w)
	}
	return nil
}
