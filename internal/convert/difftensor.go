package convert

import (
	"bytes"
	"context"
	"math"
	"slices"
	"strings"
	"sync"

	"modelpress/formats"
)

// spanReads is how many reads make a span of a tensor, which one worker compares: 2^22 values at most.
const spanReads = 64

// readValues is how many values are read at once at most.
const readValues = chunk / 4

// span is a part of a tensor, of whole rows where those are not too long.
type span struct {
	pair     int
	first, n int64 // elements
	step     int64 // of a read
}

// spans cuts the tensors that are compared. They depend on shapes alone, and so do the sums.
func spans(pairs []pair, found []TensorDifference) (list []span, total int64) {
	for i := range pairs {
		if found[i].Status != "" {
			continue
		}
		shape := pairs[i].a.info.Shape
		elements, row := int64(1), int64(1)
		for k, d := range shape {
			elements *= d // it was checked when the model was opened
			if k > 0 {
				row *= d
			}
		}
		step := int64(readValues)
		if row > 0 && row <= step {
			step = step / row * row
		}
		for first := int64(0); first < elements; first += spanReads * step {
			list = append(list, span{pair: i, first: first, n: min(spanReads*step, elements-first), step: step})
		}
		total += elements
	}
	return list, total
}

// tensors compares all pairs, and returns what was found by name.
func (o *DiffOptions) tensors(ctx context.Context, pairs []pair) ([]TensorDifference, error) {
	found := make([]TensorDifference, len(pairs))
	for i := range pairs {
		if err := pairs[i].describe(&found[i]); err != nil {
			return nil, err
		}
	}
	list, total := spans(pairs, found)
	p := o.Env.Progress
	p.Start("comparing", total)
	defer p.Done()
	var show sync.Mutex
	done := func(n int64) {
		show.Lock()
		defer show.Unlock()
		p.Add(n)
	}
	sums := make([]pairSum, len(list))
	work := make([]comparer, o.workers(pairs))
	err := each(ctx, len(work), len(list), func(ctx context.Context, i, worker int) error {
		return work[worker].span(ctx, &pairs[list[i].pair], list[i], &sums[i], done)
	})
	if err != nil {
		return nil, err
	}
	all := make([]pairSum, len(pairs))
	for i, s := range list {
		all[s.pair].merge(sums[i])
	}
	for i := range found {
		if found[i].Status == "" {
			found[i].fill(&all[i])
		}
	}
	slices.SortFunc(found, func(a, b TensorDifference) int { return strings.Compare(a.Tensor, b.Tensor) })
	return found, nil
}

// workers is how many read at once: one more than there are threads, and no more than the views can keep what they read for.
func (o *DiffOptions) workers(pairs []pair) int {
	n := o.Threads + 1
	for _, p := range pairs {
		for _, e := range []*end{p.a, p.b} {
			if e == nil {
				continue
			}
			if r, ok := e.src.(interface{ Readers() int }); ok {
				n = min(n, r.Readers())
			}
		}
	}
	return n
}

// describe fills in how a tensor is stored on both sides, and the status where no value needs to be looked at.
func (p *pair) describe(t *TensorDifference) error {
	t.Tensor = p.name
	var err error
	if t.A, err = p.a.stored(); err != nil {
		return side(sideA, err)
	}
	if t.B, err = p.b.stored(); err != nil {
		return side(sideB, err)
	}
	switch {
	case p.b == nil:
		t.Status = OnlyInA
	case p.a == nil:
		t.Status = OnlyInB
	case !slices.Equal(p.a.info.Shape, p.b.info.Shape):
		t.Status = OtherShape
	case !compares(p.a.info.DType, p.b.info.DType):
		t.Status = OtherType
	}
	return nil
}

// stored says how a side stores a tensor, nil for a side that has none.
func (e *end) stored() (*Stored, error) {
	if e == nil {
		return nil, nil
	}
	s := &Stored{Name: e.info.Name, Type: storage(e.c.Dense, e.c.Quantized, e.info.Name), Shape: slices.Clone(e.info.Shape), Tied: e.tied}
	n, err := e.info.Elements()
	if err != nil {
		return nil, formats.Errorf(e.c.Name(), s.Name, "%w", err)
	}
	if e.tied {
		return s, nil
	}
	if s.Bytes, err = e.c.TensorBytes(s.Name); err != nil {
		return nil, formats.Errorf(e.c.Name(), s.Name, "%w", err)
	}
	if n > 0 {
		s.Bits = rounded(8 * float64(s.Bytes) / float64(n))
	}
	return s, nil
}

// fill enters what the comparison of all values found.
func (t *TensorDifference) fill(s *pairSum) {
	t.Status = Equal
	if s.changed > 0 {
		t.Status = Changed
	}
	t.Values, t.Changed, t.SignOfZero, t.NaN, t.Inf, t.NotFinite = s.n, s.changed, s.zeros, s.nan, s.inf, s.apart
	t.RelativeError, t.MaxError, t.Cosine = s.relative(), finiteOrNil(rounded(s.max)), s.cosine()
}

// comparer is what a worker reads into.
type comparer struct {
	a, b         []float32
	rawA, rawB   []byte
	wideA, wideB []float64
}

// span compares a part of a tensor.
func (c *comparer) span(ctx context.Context, p *pair, s span, sum *pairSum, done func(n int64)) error {
	for at := s.first; at < s.first+s.n; at += s.step {
		if err := ctx.Err(); err != nil {
			return err
		}
		n := min(s.step, s.first+s.n-at)
		var err error
		if narrow(p.a.info.DType) && narrow(p.b.info.DType) {
			err = c.narrow(p, at, int(n), sum)
		} else {
			err = c.wide(p, at, n, sum)
		}
		if err != nil {
			return err
		}
		done(n)
	}
	return nil
}

// narrow compares values that float32 holds.
func (c *comparer) narrow(p *pair, first int64, n int, sum *pairSum) error {
	c.a, c.b = grown(c.a, n), grown(c.b, n)
	if err := formats.ReadF32(p.a.src, p.a.info.Name, c.a, first); err != nil {
		return side(sideA, err)
	}
	if err := formats.ReadF32(p.b.src, p.b.info.Name, c.b, first); err != nil {
		return side(sideB, err)
	}
	sum.add(c.a, c.b)
	return nil
}

// wide compares values of other types: by what is stored where the types are one, else as float64.
func (c *comparer) wide(p *pair, first, n int64, sum *pairSum) error {
	var err error
	if c.rawA, c.wideA, err = p.a.read(c.rawA, c.wideA, first, n); err != nil {
		return side(sideA, err)
	}
	if c.rawB, c.wideB, err = p.b.read(c.rawB, c.wideB, first, n); err != nil {
		return side(sideB, err)
	}
	same := func(i int) bool { return math.Float64bits(c.wideA[i]) == math.Float64bits(c.wideB[i]) }
	if dt := p.a.info.DType; dt == p.b.info.DType {
		size := dt.Size() / int(parts(dt))
		same = func(i int) bool { return bytes.Equal(c.rawA[i*size:(i+1)*size], c.rawB[i*size:(i+1)*size]) }
	}
	sum.addWide(c.wideA, c.wideB, same)
	return nil
}

// read returns what is stored of some elements, and as float64.
func (e *end) read(raw []byte, wide []float64, first, n int64) ([]byte, []float64, error) {
	size := int64(e.info.DType.Size())
	raw = grown(raw, int(n*size))
	if err := e.src.ReadAt(e.info.Name, raw, first*size); err != nil {
		return raw, wide, err
	}
	wide, err := decodeWide(wide, raw, e.info.DType)
	if err != nil {
		return raw, wide, formats.Errorf(e.c.Name(), e.info.Name, "%w", err)
	}
	return raw, wide, nil
}
