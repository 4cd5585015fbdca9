package gguf

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"
)

// chunk is how much of a file is looked at at once.
const chunk = 32 << 10

var errShorter = errors.New("the file has become shorter since it was opened")

// cursor reads the header of one file from its start. It never promises more bytes than the file has, nor more than its budget.
type cursor struct {
	r      *bufio.Reader
	pos    int64
	size   int64 // of the file
	budget int64 // of header bytes
}

func newCursor(r io.ReaderAt, size, budget int64) *cursor {
	return &cursor{r: bufio.NewReaderSize(io.NewSectionReader(r, 0, size), chunk), size: size, budget: budget}
}

// need fails if fewer than n units of some bytes each are left.
func (c *cursor) need(n uint64, each int) error {
	switch {
	case n > uint64(c.size-c.pos)/uint64(each):
		return fmt.Errorf("%d of at least %d bytes each at offset %d are past the end of the file (%d bytes): the file is truncated or damaged", n, each, c.pos, c.size)
	case n > uint64(max(c.budget-c.pos, 0))/uint64(each):
		return fmt.Errorf("the metadata is over the limit of %d bytes", MaxHeaderBytes)
	}
	return nil
}

// peek returns the next n bytes, at most chunk, which stay valid until the next call of a method.
func (c *cursor) peek(n int) ([]byte, error) {
	if err := c.need(uint64(n), 1); err != nil {
		return nil, err
	}
	p, err := c.r.Peek(n)
	switch {
	case err == nil:
		return p, nil
	case errors.Is(err, io.EOF):
		return nil, errShorter
	}
	return nil, underlying(err)
}

// skip passes n bytes that peek returned.
func (c *cursor) skip(n int) {
	_, _ = c.r.Discard(n) // peek has buffered them
	c.pos += int64(n)
}

func (c *cursor) uint32() (uint32, error) {
	p, err := c.peek(4)
	if err != nil {
		return 0, err
	}
	v := little.Uint32(p)
	c.skip(4)
	return v, nil
}

func (c *cursor) uint64() (uint64, error) {
	p, err := c.peek(8)
	if err != nil {
		return 0, err
	}
	v := little.Uint64(p)
	c.skip(8)
	return v, nil
}

// str reads a string of at most limit bytes.
func (c *cursor) str(limit uint64) (string, error) {
	n, err := c.uint64()
	if err != nil {
		return "", err
	}
	if n > limit {
		return "", fmt.Errorf("a string of %d bytes is over the limit of %d", n, limit)
	}
	if err := c.need(n, 1); err != nil {
		return "", err
	}
	if n <= chunk {
		p, err := c.peek(int(n))
		if err != nil {
			return "", err
		}
		s := string(p)
		c.skip(len(p))
		return s, nil
	}
	var b strings.Builder
	b.Grow(int(n))
	for b.Len() < int(n) {
		p, err := c.peek(min(int(n)-b.Len(), chunk))
		if err != nil {
			return "", err
		}
		b.Write(p)
		c.skip(len(p))
	}
	return b.String(), nil
}
