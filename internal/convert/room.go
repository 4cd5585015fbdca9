package convert

import (
	"fmt"
	"sync"

	"modelpress/internal/pipeline"
)

// usualRoom is the memory that pieces share where no budget is given. A piece that is larger is done alone.
const usualRoom = 2 << 30

// programBytes is the program itself, with the bands that readers of quantized formats keep.
const programBytes = 80 << 20

// roomBytes is the memory that pieces share. Of a budget an eighth is for garbage.
func (o *Options) roomBytes() int64 {
	if o.Env.MaxMemory <= 0 {
		return usualRoom
	}
	return min(usualRoom, o.Env.MaxMemory-o.Env.MaxMemory/8-programBytes)
}

// checkMemory refuses a budget in which the largest piece has no room.
func (o *Options) checkMemory(pieces []piece) error {
	most, name := int64(0), ""
	for _, p := range pieces {
		if n := p.memory(); n > most {
			most, name = n, p.outs()[0].Name
		}
	}
	if o.Env.MaxMemory <= 0 || most <= o.roomBytes() {
		return nil
	}
	const mib = 1 << 20
	need := (most + programBytes) / 7 * 8
	return &pipeline.Error{Kind: pipeline.KindResource, Hint: fmt.Sprintf("give --max-memory %dMiB or more", need/mib+1),
		Err: fmt.Errorf("convert: the memory budget of %d MiB is too small: tensor %q alone needs %d MiB", o.Env.MaxMemory/mib, name, need/mib+1)}
}

// room hands out memory.
type room struct {
	mu    sync.Mutex
	more  sync.Cond
	total int64
	left  int64
}

func newRoom(bytes int64) *room {
	r := &room{total: bytes, left: bytes}
	r.more.L = &r.mu
	return r
}

// take waits for n bytes, or for all where there are not as many, and returns how many it took.
func (r *room) take(n int64) int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	n = min(n, r.total)
	for r.left < n {
		r.more.Wait()
	}
	r.left -= n
	return n
}

func (r *room) give(n int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.left += n
	r.more.Broadcast()
}
