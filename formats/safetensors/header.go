package safetensors

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"io"
	"slices"
	"unicode"
	"unicode/utf8"

	"modelpress/formats"
)

// Limits on what a header may hold. The first two are those of the reference implementation and of the largest headers
// seen, with room; the others keep a hostile header from costing more than a small multiple of its size.
const (
	MaxHeaderBytes = 100_000_000
	MaxTensors     = 1 << 20
	maxNameBytes   = 4096
	maxDimensions  = 64
	maxMetadata    = 1 << 16 // keys of __metadata__
	headerDepth    = 3       // header, tensor, list
)

const metadataKey = "__metadata__"

// entry is a tensor with its range of bytes in the data section.
type entry struct {
	formats.TensorInfo
	begin, end int64
}

// header is the checked content of a header: entries in data order, which is contiguous from 0 to the end of the data.
type header struct {
	entries  []entry
	metadata map[string]string
}

// readHeader reads the length prefix and the header of a file of the given size. It allocates no more than the file has.
func readHeader(r io.ReaderAt, file string, size int64) ([]byte, error) {
	var prefix [9]byte
	if size < int64(len(prefix))+1 {
		return nil, formats.Errorf(file, "", "%d bytes are too few for a safetensors file", size)
	}
	if _, err := r.ReadAt(prefix[:], 0); err != nil {
		return nil, formats.Errorf(file, "", "read header: %w", err)
	}
	n := binary.LittleEndian.Uint64(prefix[:])
	switch {
	case n < 2:
		return nil, formats.Errorf(file, "", "header length %d is too small", n)
	case n > MaxHeaderBytes:
		return nil, formats.Errorf(file, "", "header length %d is over the limit of %d bytes", n, MaxHeaderBytes)
	case n > uint64(size-8):
		return nil, formats.Errorf(file, "", "header length %d is past the end of the file (%d bytes)", n, size)
	case prefix[8] != '{':
		return nil, formats.Errorf(file, "", "header starts with byte %#02x, not with {", prefix[8])
	}
	raw := make([]byte, n)
	if _, err := r.ReadAt(raw, 8); err != nil {
		return nil, formats.Errorf(file, "", "read header: %w", err)
	}
	return raw, nil
}

// parser checks one header as it walks it.
type parser struct {
	file     string
	dataSize int64
	limit    int // of tensors
	scan     *formats.JSONScanner
	header
}

// parseHeader checks the header of a file whose data section has dataSize bytes.
func parseHeader(raw []byte, file string, dataSize int64) (*header, error) {
	// An upper bound of the tensors for the price of a search: hostile headers of millions are refused in milliseconds,
	// and the list of the others grows once. A header that escapes letters of the key is counted in member.
	n := bytes.Count(raw, []byte(`"data_offsets"`))
	if n > MaxTensors {
		return nil, formats.Errorf(file, "", "header has more than %d tensors", MaxTensors)
	}
	p := &parser{file: file, dataSize: dataSize, limit: MaxTensors, scan: formats.NewJSONScanner(raw, headerDepth)}
	p.entries = make([]entry, 0, n)
	if err := p.scan.Object(p.member); err != nil {
		return nil, p.wrap("", err)
	}
	for _, c := range raw[p.scan.Consumed():] {
		if c != ' ' {
			return nil, formats.Errorf(file, "", "byte %#02x after the header's JSON, where only spaces may be", c)
		}
	}
	if err := p.checkLayout(); err != nil {
		return nil, err
	}
	return &p.header, nil
}

// wrap adds file and tensor to an error of the scanner and leaves alone one that has them.
func (p *parser) wrap(tensor string, err error) error {
	if e, ok := err.(*formats.Error); ok {
		return e
	}
	return formats.Errorf(p.file, tensor, "header: %w", err)
}

func (p *parser) member(key string) error {
	if key == metadataKey {
		return p.readMetadata()
	}
	if len(p.entries) == p.limit {
		return formats.Errorf(p.file, "", "header has more than %d tensors", p.limit)
	}
	if err := checkName(key); err != "" {
		if len(key) > 80 {
			key = key[:80] + "…"
		}
		return formats.Errorf(p.file, key, "%s", err)
	}
	e, err := p.readEntry(key)
	if err != nil {
		return p.wrap(key, err)
	}
	p.entries = append(p.entries, e)
	return nil
}

// checkName says what is wrong with a tensor name, "" if nothing.
func checkName(name string) string {
	switch {
	case name == "":
		return "a tensor has an empty name"
	case len(name) > maxNameBytes:
		return "the tensor's name is too long"
	case !utf8.ValidString(name):
		return "the tensor's name is not valid UTF-8"
	}
	for _, r := range name {
		if unicode.IsControl(r) {
			return "the tensor's name holds a control character"
		}
	}
	return ""
}

func (p *parser) readMetadata() error {
	p.metadata = map[string]string{}
	err := p.scan.Object(func(key string) error {
		if len(p.metadata) == maxMetadata {
			return fmt.Errorf("more than %d keys", maxMetadata)
		}
		v, err := p.scan.String()
		p.metadata[key] = v
		return err
	})
	if err != nil {
		return formats.Errorf(p.file, "", "header: %s: %w", metadataKey, err)
	}
	return nil
}

// readEntry reads {"dtype":…,"shape":[…],"data_offsets":[begin,end]} and checks that the three agree.
func (p *parser) readEntry(name string) (entry, error) {
	e := entry{TensorInfo: formats.TensorInfo{Name: name}}
	fields := 0
	err := p.scan.Object(func(key string) error {
		fields++
		switch key {
		case "dtype":
			text, err := p.scan.String()
			if err != nil {
				return err
			}
			e.DType, err = formats.ParseDType(text)
			return err
		case "shape":
			return p.readShape(&e)
		case "data_offsets":
			return p.readOffsets(&e)
		}
		return formats.Errorf(p.file, name, "unknown field %.80q", key)
	})
	if err != nil {
		return e, err
	}
	if fields != 3 {
		return e, formats.Errorf(p.file, name, "dtype, shape and data_offsets are needed, some are missing")
	}
	return e, p.checkEntry(&e)
}

func (p *parser) readShape(e *entry) error {
	e.Shape = []int64{}
	return p.scan.Array(func(i int) error {
		if i == maxDimensions {
			return formats.Errorf(p.file, e.Name, "more than %d dimensions", maxDimensions)
		}
		d, err := p.scan.Natural()
		e.Shape = append(e.Shape, d)
		return err
	})
}

func (p *parser) readOffsets(e *entry) error {
	n := 0
	err := p.scan.Array(func(i int) (err error) {
		n++
		switch i {
		case 0:
			e.begin, err = p.scan.Natural()
		case 1:
			e.end, err = p.scan.Natural()
		default:
			err = formats.Errorf(p.file, e.Name, "data_offsets has more than two numbers")
		}
		return err
	})
	if err == nil && n != 2 {
		err = formats.Errorf(p.file, e.Name, "data_offsets has %d numbers, not two", n)
	}
	return err
}

func (p *parser) checkEntry(e *entry) error {
	size, err := e.Bytes()
	if err != nil {
		return err
	}
	switch {
	case e.begin > e.end:
		return formats.Errorf(p.file, e.Name, "data_offsets [%d, %d] run backwards", e.begin, e.end)
	case e.end > p.dataSize:
		return formats.Errorf(p.file, e.Name, "data_offsets [%d, %d] end past the file's %d bytes of data: the file is truncated or damaged", e.begin, e.end, p.dataSize)
	case e.end-e.begin != size:
		return formats.Errorf(p.file, e.Name, "data_offsets span %d bytes, but shape %v of %s needs %d", e.end-e.begin, e.Shape, e.DType, size)
	}
	return nil
}

// checkLayout puts the entries into data order and checks that each byte of data belongs to exactly one tensor.
func (p *parser) checkLayout() error {
	slices.SortStableFunc(p.entries, func(a, b entry) int {
		return cmp.Or(cmp.Compare(a.begin, b.begin), cmp.Compare(a.end, b.end), cmp.Compare(a.Name, b.Name))
	})
	end := int64(0)
	for i := range p.entries {
		e := &p.entries[i]
		if e.begin < end {
			return formats.Errorf(p.file, e.Name, "data at offset %d overlaps the tensor before, which ends at %d", e.begin, end)
		}
		if e.begin > end {
			return formats.Errorf(p.file, e.Name, "%d bytes of data before offset %d belong to no tensor", e.begin-end, e.begin)
		}
		end = e.end
	}
	if end != p.dataSize {
		return formats.Errorf(p.file, "", "%d bytes after the last tensor belong to no tensor", p.dataSize-end)
	}
	return nil
}
