package convert

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"hash"
	"sync"

	"modelpress/formats"
)

// piece is a part of a conversion that one worker does from beginning to end: what becomes of one tensor of the source.
type piece interface {
	// outs lists the tensors of the result that the piece writes, in the order in which it does.
	outs() []formats.TensorInfo
	// values counts what is read, for progress.
	values() int64
	// memory bounds the bytes that do holds.
	memory() int64
	// do reads, converts and writes.
	do(ctx context.Context, w *task) error
}

// output takes the data of tensors, each in ascending order of offsets.
type output interface {
	WriteAt(tensor string, p []byte, off int64) error
}

// work is what the workers share.
type work struct {
	out  output
	show func(values int64) // progress

	mu   sync.Mutex
	sums map[string]string // hexadecimal SHA-256 of each tensor written
	note map[string]Note   // by the tensor of the result that it stands for
}

// task is the work on one piece.
type task struct {
	*work
	left int64 // values that are still to be shown as done
}

// done shows values as done: in all no more than the piece has.
func (t *task) done(values int64) {
	values = min(values, t.left)
	t.left -= values
	t.show(values)
}

// chunk is what a worker reads at once, in bytes of stored values or four bytes a value: less than the second-level cache holds of
// what it reads and writes together.
const chunk = 256 << 10

// tensorSink writes one tensor front to back and hashes it.
type tensorSink struct {
	w    *work
	name string
	off  int64
	h    hash.Hash
}

func (w *work) sink(name string) *tensorSink { return &tensorSink{w: w, name: name, h: sha256.New()} }

func (s *tensorSink) write(p []byte) error {
	s.h.Write(p)
	if err := s.w.out.WriteAt(s.name, p, s.off); err != nil {
		return err
	}
	s.off += int64(len(p))
	return nil
}

func (s *tensorSink) close() {
	sum := hex.EncodeToString(s.h.Sum(nil))
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	s.w.sums[s.name] = sum
}

// whole writes a tensor that is in memory.
func (w *work) whole(t formats.Tensor) error {
	s := w.sink(t.Name)
	if err := s.write(t.Data); err != nil {
		return err
	}
	s.close()
	return nil
}

func (w *work) noted(tensor string, n Note) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.note[tensor] = n
}

// copied is a tensor that is written with the bytes that it is stored in.
type copied struct {
	src  formats.Source
	info formats.TensorInfo
	as   string // its name in the result
}

func (c copied) outs() []formats.TensorInfo {
	t := c.info
	t.Name = c.as
	return []formats.TensorInfo{t}
}

func (c copied) values() int64 { return elements(c.info) }

func (c copied) memory() int64 { return streamed }

// elements is the number of values of a tensor whose size was checked when its model was opened.
func elements(t formats.TensorInfo) int64 {
	n, err := t.Elements()
	if err != nil {
		return 0
	}
	return n
}

// streamed bounds what a tensor takes that is read in chunks: as stored, as values, as written and read back, and in the readers of
// quantized formats.
const streamed = 32 * chunk

func (c copied) do(ctx context.Context, w *task) error {
	size, err := c.info.Bytes()
	if err != nil {
		return formats.Errorf("", c.info.Name, "%w", err)
	}
	s := w.sink(c.as)
	buf := make([]byte, min(size, 4*chunk))
	for off := int64(0); off < size; off += int64(len(buf)) {
		if err := ctx.Err(); err != nil {
			return err
		}
		p := buf[:min(int64(len(buf)), size-off)]
		if err := c.src.ReadAt(c.info.Name, p, off); err != nil {
			return err
		}
		if err := s.write(p); err != nil {
			return err
		}
		w.done(int64(len(p) / c.info.DType.Size()))
	}
	s.close()
	w.noted(c.as, Note{Tensor: c.info.Name, How: Copied, From: c.info.DType.String(), To: c.info.DType.String()})
	return nil
}

// cast is a tensor that is written as another element type, or a quantized weight that is written plainly.
type cast struct {
	src  formats.Source
	name string
	from string // how it is stored
	how  string
	to   formats.TensorInfo
}

func (c cast) outs() []formats.TensorInfo { return []formats.TensorInfo{c.to} }

func (c cast) values() int64 { return elements(c.to) }

func (c cast) memory() int64 { return streamed }

func (c cast) do(ctx context.Context, w *task) error {
	rows := newRowReader(c.src, c.name, []int64{c.values(), 1}) // in the order of the data, whatever rows are
	s := w.sink(c.to.Name)
	size := c.to.DType.Size()
	out, back := []byte{}, []float32{}
	var sum errorSum
	for rows.next() {
		if err := ctx.Err(); err != nil {
			return err
		}
		v, err := rows.read()
		if err != nil {
			return err
		}
		out, back = grown(out, len(v)*size), grown(back, len(v))
		if err := formats.CheckRange("", c.name, v, c.to.DType, rows.first); err != nil {
			return err
		}
		if err := formats.Encode(out, v, c.to.DType); err != nil {
			return formats.Errorf("", c.to.Name, "%w", err)
		}
		if err := formats.Decode(back, out, c.to.DType); err != nil {
			return formats.Errorf("", c.to.Name, "%w", err)
		}
		sum.add(v, back)
		if err := s.write(out); err != nil {
			return err
		}
		w.done(int64(len(v)))
	}
	s.close()
	note := Note{Tensor: c.name, How: c.how, From: c.from, To: c.to.DType.String()}
	if err := sum.narrow(c.src, c.name); err != nil {
		return err
	}
	sum.into(&note)
	w.noted(c.to.Name, note)
	return nil
}

// grown returns a slice of n elements that uses the memory of s where that is enough. Its elements are of no meaning.
func grown[T any](s []T, n int) []T {
	if cap(s) < n {
		return make([]T, n)
	}
	return s[:n]
}
