//go:build cuda

package cuda

import (
	"errors"
	"math/rand/v2"
	"testing"
)

// shelf is a source without a device: addresses count up, and it has room for so many bytes.
type shelf struct {
	room, taken int64
	next        ptr
	out         map[ptr]int64
	calls       int
}

func (s *shelf) alloc(bytes int64) (ptr, error) {
	s.calls++
	if s.taken+bytes > s.room {
		return 0, &Error{Op: "cuMemAlloc", Code: codeNoMemory}
	}
	s.taken += bytes
	s.next += 1 << 40
	s.out[s.next] = bytes
	return s.next, nil
}

func (s *shelf) free(p ptr) error {
	if s.out[p] == 0 {
		return errors.New("freed what was not out")
	}
	s.taken -= s.out[p]
	delete(s.out, p)
	return nil
}

func newShelf(room int64) *shelf { return &shelf{room: room, out: map[ptr]int64{}} }

// check compares the arena with what is in use: pieces lie in slabs, apart, and the sums are right.
func check(t *testing.T, a *arena, in map[*block]bool) {
	t.Helper()
	var held, used int64
	free := 0
	for _, s := range a.slabs {
		held += s.bytes
		at := s.addr
		for b := s.first; b != nil; b = b.next {
			if b.addr != at || b.slab != s || b.next != nil && b.next.prev != b {
				t.Fatalf("piece at %#x where %#x is next", b.addr, at)
			}
			if b.used != in[b] {
				t.Fatalf("piece at %#x: in use %t, want %t", b.addr, b.used, in[b])
			}
			if b.used {
				used += b.bytes
			} else if free++; b.next != nil && !b.next.used {
				t.Fatalf("two free neighbours at %#x", b.addr)
			}
			at += ptr(b.bytes)
		}
		if at != s.addr+ptr(s.bytes) {
			t.Fatalf("pieces end at %#x in a slab up to %#x", at, s.addr+ptr(s.bytes))
		}
	}
	if held != a.held || used != a.used || free != len(a.free) || a.held > a.budget {
		t.Fatalf("held %d (%d), used %d (%d), free %d (%d), budget %d", a.held, held, a.used, used, len(a.free), free, a.budget)
	}
}

// Any sequence of requests leaves whole slabs, and all memory can be had again at its end.
func TestArenaRandom(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	src := newShelf(6 << 30)
	a := newArena(src, 4<<30)
	in := map[*block]bool{}
	var list []*block
	refused := 0
	for step := range 4000 {
		if len(list) > 0 && rng.IntN(100) < 48 {
			i := rng.IntN(len(list))
			b := list[i]
			list[i] = list[len(list)-1]
			list = list[:len(list)-1]
			delete(in, b)
			a.release(b, int64(step))
		} else {
			n := int64(rng.Float64() * float64(int64(1)<<(8+rng.IntN(22))))
			b, err := a.alloc(n)
			if err != nil {
				if !errors.Is(err, ErrMemory) || a.used+n <= a.budget/8 {
					t.Fatalf("%d of %d bytes in use, %d asked for: %v", a.used, a.budget, n, err)
				}
				refused++
				continue
			}
			if b.bytes < n || b.addr%blockBytes != 0 {
				t.Fatalf("%d bytes at %#x for %d", b.bytes, b.addr, n)
			}
			in[b] = true
			list = append(list, b)
		}
		if step%16 == 0 {
			check(t, a, in)
		}
	}
	if a.peak <= 1<<30 || a.peak > a.budget {
		t.Errorf("peak %d", a.peak)
	}
	for _, b := range list {
		a.release(b, 5000)
	}
	if b, err := a.alloc(a.budget); err != nil || b.bytes != a.budget {
		t.Errorf("the whole budget: %v", err)
	}
	if len(src.out) != 1 {
		t.Errorf("%d slabs remain", len(src.out))
	}
	a.close()
	if src.taken != 0 {
		t.Errorf("%d bytes are not back", src.taken)
	}
}

// The same requests over and over get nothing new from the source, and of equals that which has been free for longest.
func TestArenaReuse(t *testing.T) {
	src := newShelf(1 << 40)
	a := newArena(src, 1<<40)
	var first []ptr
	for round := range 5 {
		var list []*block
		for i := range 9 {
			b, err := a.alloc(int64(i+1) * 30 << 20)
			if err != nil {
				t.Fatal(err)
			}
			list = append(list, b)
		}
		for i, b := range list {
			a.release(b, int64(100*round+i))
		}
		if round == 0 {
			for _, b := range list {
				first = append(first, b.addr)
			}
		}
	}
	if src.calls > 9 || len(first) != 9 {
		t.Errorf("%d calls of the source for %d pieces", src.calls, len(first))
	}
	x, _ := a.alloc(4096)
	y, _ := a.alloc(4096)
	z, _ := a.alloc(4096)
	_, _ = a.alloc(4096)
	a.release(z, 7)
	a.release(x, 8)
	if b, _ := a.alloc(4096); b.addr != z.addr || b.stamp != 7 {
		t.Errorf("piece at %#x, want the older at %#x", b.addr, z.addr)
	}
	a.release(y, 9) // beside x: one piece of both, over when both are
	if b, _ := a.alloc(8192); b.addr != x.addr || b.stamp != 9 {
		t.Errorf("piece at %#x of tick %d, want %#x of 9", b.addr, b.stamp, x.addr)
	}
}

// Where the driver has less than the budget, cached slabs go back first and a free piece of another class is the last resort.
func TestArenaShortage(t *testing.T) {
	src := newShelf(600 << 20)
	a := newArena(src, 1<<40)
	b, err := a.alloc(500 << 20)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.alloc(200 << 20); !errors.Is(err, ErrMemory) {
		t.Fatalf("more than there is: %v", err)
	}
	a.release(b, 1)
	middle, err := a.alloc(16 << 20) // takes a slab of 512 MiB for itself
	if err != nil || src.taken != 512<<20 {
		t.Fatalf("%d bytes held: %v", src.taken, err)
	}
	large, err := a.alloc(200 << 20) // no room for a slab: from that of the middle class
	if err != nil || large.slab != middle.slab {
		t.Fatalf("piece %+v: %v", large, err)
	}
	if _, err := a.alloc(-1); err == nil {
		t.Error("a negative size passes")
	}
	var e *Error
	small := newArena(newShelf(1<<40), 8<<20)
	if _, err := small.alloc(9 << 20); !errors.As(err, &e) || e.Code != codeNoMemory {
		t.Errorf("over the budget: %v", err)
	}
	if b, err := small.alloc(100); err != nil || b.slab.bytes != 2<<20 {
		t.Errorf("a small piece of a small budget: %v", err)
	}
}
