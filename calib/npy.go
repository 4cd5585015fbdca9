package calib

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"regexp"
	"strconv"
	"strings"
)

// maxNpyHeader bounds the text header of a .npy file, whose length format version 2 gives in 32 bits.
const maxNpyHeader = 1 << 16

// npyHeader is what the header of a .npy file says.
type npyHeader struct {
	kind  byte // 'i' or 'u'
	size  int  // bytes of one element
	order binary.ByteOrder
	shape []int64
	data  int64 // offset of the first element
}

// readNpyHeader reads the header of format versions 1.0, 2.0 and 3.0 (numpy.lib.format). Only integers in C order pass.
func readNpyHeader(r io.Reader) (npyHeader, error) {
	var fixed [8]byte
	if _, err := io.ReadFull(r, fixed[:]); err != nil || string(fixed[:6]) != "\x93NUMPY" {
		return npyHeader{}, errors.New("does not start like a .npy file")
	}
	width := 2
	switch major := fixed[6]; major {
	case 1:
	case 2, 3:
		width = 4
	default:
		return npyHeader{}, fmt.Errorf(".npy format version %d is not known", major)
	}
	var lenBytes [4]byte
	if _, err := io.ReadFull(r, lenBytes[:width]); err != nil {
		return npyHeader{}, errors.New("ends inside its header")
	}
	n := int64(binary.LittleEndian.Uint32(lenBytes[:]))
	if n > maxNpyHeader {
		return npyHeader{}, fmt.Errorf("header of %d bytes is longer than %d", n, maxNpyHeader)
	}
	text := make([]byte, n)
	if _, err := io.ReadFull(r, text); err != nil {
		return npyHeader{}, errors.New("ends inside its header")
	}
	h, err := parseNpyDict(string(bytes.TrimSpace(text)))
	h.data = int64(8+width) + n
	return h, err
}

// npyDict matches the Python dictionary that numpy writes: its three keys in any order and nothing else.
var (
	npyDict  = regexp.MustCompile(`^\{((?:\s*'(?:descr|fortran_order|shape)'\s*:\s*(?:'[^']*'|True|False|\([0-9, ]*\))\s*,?){3})\s*\}$`)
	npyField = regexp.MustCompile(`'(descr|fortran_order|shape)'\s*:\s*('[^']*'|True|False|\([0-9, ]*\))`)
)

func parseNpyDict(text string) (npyHeader, error) {
	if !npyDict.MatchString(text) {
		return npyHeader{}, errors.New("header is not a dictionary of descr, fortran_order and shape")
	}
	got := map[string]string{}
	for _, m := range npyField.FindAllStringSubmatch(text, -1) {
		got[m[1]] = m[2]
	}
	if len(got) != 3 {
		return npyHeader{}, errors.New("header repeats a key")
	}
	var h npyHeader
	if err := h.setDescr(strings.Trim(got["descr"], "'")); err != nil {
		return npyHeader{}, err
	}
	shape, err := parseShape(got["shape"])
	if err != nil {
		return npyHeader{}, err
	}
	h.shape = shape
	if got["fortran_order"] == "True" && len(shape) > 1 {
		return npyHeader{}, errors.New("is in Fortran order; save it in C order")
	}
	if o := got["fortran_order"]; o != "True" && o != "False" {
		return npyHeader{}, errors.New("fortran_order is neither True nor False")
	}
	return h, nil
}

// setDescr reads an element type such as "<u2": 16, 32 or 64 bits, signed or not, either byte order.
func (h *npyHeader) setDescr(descr string) error {
	if len(descr) == 3 && strings.ContainsRune("<>", rune(descr[0])) && strings.ContainsRune("iu", rune(descr[1])) &&
		strings.ContainsRune("248", rune(descr[2])) {
		h.kind, h.size, h.order = descr[1], int(descr[2]-'0'), binary.LittleEndian
		if descr[0] == '>' {
			h.order = binary.BigEndian
		}
		return nil
	}
	return fmt.Errorf("element type %q is not an integer of 16, 32 or 64 bits", descr)
}

func parseShape(s string) ([]int64, error) {
	if len(s) < 2 || s[0] != '(' {
		return nil, errors.New("shape is not a tuple")
	}
	var shape []int64
	for part := range strings.SplitSeq(s[1:len(s)-1], ",") {
		part = strings.TrimSpace(part)
		if part == "" {
			continue
		}
		d, err := strconv.ParseInt(part, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("shape %s: %w", s, err)
		}
		shape = append(shape, d)
	}
	return shape, nil
}

// idReader returns a function that reads element i of little- or big-endian integers as a token id; ok is false where the
// value is negative or does not fit.
func idReader(kind byte, size int, order binary.ByteOrder) func(p []byte, i int) (v int64, ok bool) {
	fits := func(v int64) (int64, bool) { return v, v >= 0 && v <= math.MaxInt32 }
	switch size {
	case 2:
		return func(p []byte, i int) (int64, bool) {
			v := order.Uint16(p[2*i:])
			if kind == 'i' {
				return fits(int64(int16(v)))
			}
			return fits(int64(v))
		}
	case 4:
		return func(p []byte, i int) (int64, bool) {
			v := order.Uint32(p[4*i:])
			if kind == 'i' {
				return fits(int64(int32(v)))
			}
			return fits(int64(v))
		}
	case 8:
		return func(p []byte, i int) (int64, bool) { return fits(int64(order.Uint64(p[8*i:]))) }
	}
	return func(p []byte, i int) (int64, bool) {
		if kind == 'i' {
			return fits(int64(int8(p[i])))
		}
		return fits(int64(p[i]))
	}
}
