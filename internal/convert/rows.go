package convert

import (
	"math"
	"strconv"

	"modelpress/formats"
)

// rowReader reads a tensor as float32, some whole rows at a time.
type rowReader struct {
	src   formats.Source
	name  string
	total int64 // elements
	step  int64 // elements of a read: whole rows
	first int64 // element that the last read began with
	at    int64
	buf   []float32
}

// newRowReader reads a tensor of a known shape: its sizes were checked when its model was opened.
func newRowReader(src formats.Source, name string, shape []int64) *rowReader {
	row, total := int64(1), int64(1)
	for i, d := range shape {
		total *= d
		if i > 0 {
			row *= d
		}
	}
	row = max(row, 1)
	return &rowReader{src: src, name: name, total: total, step: max(row, chunk/4/row*row)}
}

func (r *rowReader) next() bool { return r.at < r.total }

// read returns the next rows. They are valid until the read after it.
func (r *rowReader) read() ([]float32, error) {
	n := min(r.step, r.total-r.at)
	r.buf = grown(r.buf, int(n))
	if err := formats.ReadF32(r.src, r.name, r.buf, r.at); err != nil {
		return nil, err
	}
	if err := formats.CheckFinite("", r.name, r.buf, r.at); err != nil {
		return nil, err
	}
	r.first = r.at
	r.at += n
	return r.buf, nil
}

// rounded keeps six significant digits: what a report needs.
func rounded(v float64) float64 {
	r, err := strconv.ParseFloat(strconv.FormatFloat(v, 'e', 5, 64), 64)
	if err != nil || math.IsInf(r, 0) {
		return v
	}
	return r
}
