package imatrix

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"modelpress/formats"
)

// The older form, little endian: int32 entries; for each int32 length and bytes of the name, int32 windows, int32 values, float32 values, the
// mean square of each input times the windows. Behind them, in files from April 2024 on, int32 windows, int32 length and bytes of the dataset's name.
const (
	maxName     = 63      // ggml: GGML_MAX_NAME is 64, with the zero byte at the end
	maxDataset  = 1 << 16 // bytes of the dataset's name
	leastEntry  = 4 + 1 + 4 + 4 + 4
	chunk       = 1 << 16
	notImatrix  = "not an importance matrix: "
	endsTooSoon = "the file ends within "
)

// legacy reads the older form.
type legacy struct {
	r    *bufio.Reader
	left int64 // bytes of the file that are not read
	buf  []byte
}

// parseLegacy reads the older form from the first byte on. Nothing else tells such a file from any other, so that every length and value is
// held against the file, which must end where the form does.
func parseLegacy(r io.Reader, name string, size int64) (*Matrix, error) {
	l := &legacy{r: bufio.NewReaderSize(r, chunk), left: size}
	m := &Matrix{Name: name}
	if size > MaxBytes {
		return nil, formats.Errorf(name, "", notImatrix+"%d bytes are over the limit of %d", size, int64(MaxBytes))
	}
	if err := l.matrix(m); err != nil {
		return nil, err
	}
	slices.SortFunc(m.Entries, func(a, b Entry) int { return strings.Compare(a.Tensor, b.Tensor) })
	return m, nil
}

func (l *legacy) matrix(m *Matrix) error {
	n, err := l.number("the number of entries", 1, (l.left-4)/leastEntry)
	if err != nil {
		return formats.Errorf(m.Name, "", notImatrix+"%w", err)
	}
	seen := map[string]bool{}
	for i := range n {
		e, err := l.entry()
		if err != nil {
			return formats.Errorf(m.Name, e.Tensor, notImatrix+"entry %d of %d: %w", i+1, n, err)
		}
		if seen[e.Tensor] {
			return formats.Errorf(m.Name, e.Tensor, "is there twice")
		}
		seen[e.Tensor] = true
		m.Entries = append(m.Entries, e)
	}
	if err := l.end(m); err != nil {
		return formats.Errorf(m.Name, "", notImatrix+"%w", err)
	}
	return nil
}

// entry reads one tensor's entry. With an error it has the name, where that was read.
func (l *legacy) entry() (e Entry, err error) {
	n, err := l.number("the length of a name", 1, maxName)
	if err != nil {
		return e, err
	}
	name, err := l.text(n, "a name")
	if err != nil {
		return e, err
	}
	if !utf8.ValidString(name) || strings.ContainsFunc(name, unicode.IsControl) {
		return e, errors.New("a name is no text")
	}
	e.Tensor = name
	windows, err := l.number("the number of windows", 0, math.MaxInt32)
	if err != nil {
		return e, err
	}
	if n, err = l.number("the number of values", 1, (l.left-4)/4); err != nil {
		return e, err
	}
	// llama-quantize takes values that no window is behind as they are.
	e.Counts = []float32{float32(max(1, windows))}
	e.Sums, err = l.floats(n)
	return e, err
}

// end reads what is behind the entries, if there is anything.
func (l *legacy) end(m *Matrix) error {
	if l.left == 0 {
		return nil
	}
	n, err := l.number("the number of windows", 0, math.MaxInt32)
	if err != nil {
		return err
	}
	m.Chunks = n
	if n, err = l.number("the length of the dataset's name", 0, maxDataset); err != nil {
		return err
	}
	name, err := l.text(n, "the dataset's name")
	if err != nil {
		return err
	}
	if name != "" {
		m.Datasets = []string{strings.ToValidUTF8(name, string(utf8.RuneError))}
	}
	if l.left > 0 {
		return fmt.Errorf("%d bytes behind the end", l.left)
	}
	return nil
}

// number reads a number within [lo, hi].
func (l *legacy) number(what string, lo, hi int64) (int, error) {
	p, err := l.bytes(4, what)
	if err != nil {
		return 0, err
	}
	v := int64(int32(binary.LittleEndian.Uint32(p)))
	if v < lo || v > hi {
		return 0, fmt.Errorf("%s is %d", what, v)
	}
	return int(v), nil
}

func (l *legacy) text(n int, what string) (string, error) {
	p, err := l.bytes(n, what)
	return string(p), err
}

// floats reads n values, for which there is room in the file.
func (l *legacy) floats(n int) ([]float32, error) {
	v := make([]float32, n)
	for at := 0; at < n; at += chunk / 4 {
		p, err := l.bytes(4*min(chunk/4, n-at), "the values")
		if err != nil {
			return nil, err
		}
		if err := formats.Decode(v[at:][:len(p)/4], p, formats.F32); err != nil {
			return nil, err
		}
	}
	return v, nil
}

// bytes reads n bytes, at most a chunk, which are valid until the next call.
func (l *legacy) bytes(n int, what string) ([]byte, error) {
	if int64(n) > l.left {
		return nil, errors.New(endsTooSoon + what)
	}
	l.left -= int64(n)
	if cap(l.buf) < n {
		l.buf = make([]byte, n)
	}
	p := l.buf[:n]
	if _, err := io.ReadFull(l.r, p); err != nil {
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return nil, errors.New("the file became shorter while it was read")
		}
		return nil, underlying(err)
	}
	return p, nil
}
