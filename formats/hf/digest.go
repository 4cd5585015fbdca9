package hf

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"slices"
	"strconv"
	"strings"
	"sync"

	"modelpress/formats"
)

// digestChunk is what is read and hashed at once.
const digestChunk = 1 << 20

// TensorDigest is a tensor and the hexadecimal SHA-256 of its data as stored.
type TensorDigest struct {
	formats.TensorInfo
	SHA256 string
}

// DigestOptions changes how Digests works, not what it returns.
type DigestOptions struct {
	// Par runs body(i) for all i below n, on as many threads as it likes; nil means one after another.
	Par func(n int, body func(i int))
	// Progress is called with bytes hashed and bytes in all, from one goroutine at a time.
	Progress func(done, total int64)
}

// dataOrdered is a source that knows the order in which its tensors are fastest to read.
type dataOrdered interface{ DataOrder() []formats.TensorInfo }

// Digests hashes every tensor of src, reading each file from front to back, and returns the digests sorted by name.
func Digests(ctx context.Context, src formats.Source, opt DigestOptions) ([]TensorDigest, error) {
	order := src.Tensors()
	if o, ok := src.(dataOrdered); ok {
		order = o.DataOrder()
	}
	total := int64(0)
	for _, t := range order {
		n, err := t.Bytes()
		if err != nil {
			return nil, formats.Errorf("", t.Name, "%w", err)
		}
		total += n
	}
	count := &counter{total: total, report: opt.Progress}
	par := opt.Par
	if par == nil {
		par = serial
	}
	inner, stop := context.WithCancel(ctx)
	defer stop()
	digests := make([]TensorDigest, len(order))
	errs := make([]error, len(order))
	par(len(order), func(i int) {
		digests[i].TensorInfo = order[i]
		if digests[i].SHA256, errs[i] = digestTensor(inner, src, order[i], count); errs[i] != nil {
			stop()
		}
	})
	for _, err := range errs { // the first by position, whichever came first in time
		if err != nil && !errors.Is(err, context.Canceled) {
			return nil, err
		}
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	slices.SortFunc(digests, func(a, b TensorDigest) int { return strings.Compare(a.Name, b.Name) })
	return digests, nil
}

func serial(n int, body func(i int)) {
	for i := range n {
		body(i)
	}
}

// counter adds up progress over goroutines.
type counter struct {
	mu          sync.Mutex
	done, total int64
	report      func(done, total int64)
}

func (c *counter) add(n int) {
	if c.report == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.done += int64(n)
	c.report(c.done, c.total)
}

var digestBuffers = sync.Pool{New: func() any { return new([digestChunk]byte) }}

func digestTensor(ctx context.Context, src formats.Source, t formats.TensorInfo, count *counter) (string, error) {
	size, err := t.Bytes()
	if err != nil {
		return "", formats.Errorf("", t.Name, "%w", err)
	}
	buf := digestBuffers.Get().(*[digestChunk]byte)
	defer digestBuffers.Put(buf)
	h := sha256.New()
	for off := int64(0); off < size; {
		if err := ctx.Err(); err != nil {
			return "", err
		}
		p := buf[:min(digestChunk, size-off)]
		if err := src.ReadAt(t.Name, p, off); err != nil {
			return "", err
		}
		h.Write(p)
		off += int64(len(p))
		count.add(len(p))
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// WeightsDigest identifies weights: "tensors-v1:sha256:" and the SHA-256 over one line for each tensor, sorted by name,
// of name NUL dtype NUL shape NUL SHA-256 of the data, hexadecimal; the shape is decimal with commas between. It does not
// depend on how the tensors are spread over files. digests may come in any order.
func WeightsDigest(digests []TensorDigest) string {
	sorted := slices.Clone(digests)
	slices.SortFunc(sorted, func(a, b TensorDigest) int { return strings.Compare(a.Name, b.Name) })
	h := sha256.New()
	for _, d := range sorted {
		writeLine(h, d.TensorInfo, d.SHA256)
	}
	return "tensors-v1:sha256:" + hex.EncodeToString(h.Sum(nil))
}

// HeadersDigest identifies a set of tensors by what headers tell: "sha256:" and the SHA-256 over lines as in
// [WeightsDigest], without the last column. It costs no reading of weights.
func HeadersDigest(tensors []formats.TensorInfo) string {
	sorted := slices.Clone(tensors)
	slices.SortFunc(sorted, func(a, b formats.TensorInfo) int { return strings.Compare(a.Name, b.Name) })
	h := sha256.New()
	for _, t := range sorted {
		writeLine(h, t)
	}
	return "sha256:" + hex.EncodeToString(h.Sum(nil))
}

func writeLine(w io.Writer, t formats.TensorInfo, more ...string) {
	shape := make([]string, len(t.Shape))
	for i, d := range t.Shape {
		shape[i] = strconv.FormatInt(d, 10)
	}
	columns := append([]string{t.Name, t.DType.String(), strings.Join(shape, ",")}, more...)
	io.WriteString(w, strings.Join(columns, "\x00")+"\n")
}
