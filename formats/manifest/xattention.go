package manifest

import (
	"fmt"
	"sort"
	"strconv"
	"strings"
)

// XAttention's tables of thresholds (xattn/threshold/llama_threshold.py): one for each stride, named by it.
const (
	xattentionBlock  = 128
	xattentionStride = 16
	xattentionName   = "llama_fuse_"
	xattentionFile   = "threshold.py"
)

var xattentionFormat = &Format{
	Name: "xattention", Readers: "XAttention", Files: xattentionFile,
	Condition: "prefill is block_topk by xattention with blocks of 128 and one stride; decoding is full; no min_seq; layers of equal head counts",
	write:     writeXAttention, read: readXAttention,
}

func writeXAttention(x *export) error {
	if _, err := x.oneWidth(x.qHeads); err != nil {
		return err
	}
	x.denseDecoding()
	x.minSeq(true)
	stride := 0
	table := make([][]float64, len(x.entries))
	for l, row := range x.prefill() {
		table[l] = make([]float64, len(row))
		for q, id := range row {
			pol := x.p.Policies[id]
			if pol.Kind != KindBlockTopK || pol.Selector != SelectXAttention {
				table[l][q] = 1
				x.loseAt(l, x.group(l, q), "kind %s: written with threshold 1", pol.Kind)
				continue
			}
			table[l][q] = pol.Threshold
			if pol.Block != xattentionBlock {
				x.loseAt(l, x.group(l, q), "blocks of %d: readers have %d", pol.Block, xattentionBlock)
			}
			if stride != 0 && stride != pol.Stride {
				x.loseAt(l, x.group(l, q), "stride %d: the table is for %d", pol.Stride, stride)
				continue
			}
			stride = pol.Stride
		}
	}
	if stride == 0 {
		stride = xattentionStride
	}
	x.file(xattentionFile, []byte(xattentionName+strconv.Itoa(stride)+" = "+pyList(table, pyFloats)+"\n"))
	return nil
}

// readXAttention reads assignments of lists of lists of numbers; the names end in the stride.
func readXAttention(r *reader) error {
	f, err := r.only()
	if err != nil {
		return err
	}
	tables, err := parseTables(string(f.Data))
	if err != nil {
		return r.bad(f.Name, "%w", err)
	}
	stride, err := r.chooseStride(f, tables)
	if err != nil {
		return err
	}
	table := tables[stride]
	if err := r.layers(f.Name, len(table)); err != nil {
		return err
	}
	for l, row := range table {
		if err := r.width(f.Name, l, len(row), r.qHeads); err != nil {
			return err
		}
		ids := make([]string, len(row))
		for q, v := range row {
			if v <= 0 || v > 1 {
				return r.bad(f.Name, "layer %d head %d: threshold %v is not in (0, 1]", l, q, v)
			}
			if ids[q], err = r.policy("xa", Policy{Kind: KindBlockTopK, Selector: SelectXAttention, Block: xattentionBlock, Stride: stride, Threshold: v}); err != nil {
				return err
			}
		}
		r.prefill(l, ids)
	}
	return nil
}

func (r *reader) chooseStride(f File, tables map[int][][]float64) (int, error) {
	strides := make([]int, 0, len(tables))
	for s := range tables {
		strides = append(strides, s)
	}
	sort.Ints(strides)
	want := r.o.Stride
	if want == 0 && len(strides) == 1 {
		want = strides[0]
	}
	if want == 0 {
		want = xattentionStride
	}
	if tables[want] == nil {
		return 0, r.bad(f.Name, "no table for stride %d, there are %v", want, strides)
	}
	if len(strides) > 1 {
		r.lose("tables for other strides than %d", want)
	}
	return want, nil
}

// parseTables reads the part of Python that the tables are written in: NAME_stride = [[number, ...], ...], comments, and white
// space where Python has it inside of brackets.
func parseTables(text string) (map[int][][]float64, error) {
	p := &literal{text: text}
	tables := map[int][][]float64{}
	for p.space(); p.at < len(p.text); p.space() {
		stride, err := p.name()
		if err != nil {
			return nil, err
		}
		if tables[stride] != nil {
			return nil, fmt.Errorf("stride %d twice", stride)
		}
		table := [][]float64{}
		err = p.list(func() error {
			row := []float64{}
			err := p.list(func() error {
				v, err := p.number()
				row = append(row, v)
				return err
			})
			table = append(table, row)
			return err
		})
		if err != nil {
			return nil, err
		}
		tables[stride] = table
	}
	if len(tables) == 0 {
		return nil, fmt.Errorf("no table")
	}
	return tables, nil
}

// literal is a position in Python text.
type literal struct {
	text string
	at   int
}

// space skips white space and comments.
func (p *literal) space() {
	for p.at < len(p.text) {
		switch c := p.text[p.at]; {
		case strings.IndexByte(" \t\r\n", c) >= 0:
			p.at++
		case c == '#':
			for p.at < len(p.text) && p.text[p.at] != '\n' {
				p.at++
			}
		default:
			return
		}
	}
}

func (p *literal) errorf(format string, args ...any) error {
	return fmt.Errorf("line %d: %s", 1+strings.Count(p.text[:p.at], "\n"), fmt.Sprintf(format, args...))
}

// take skips space and consumes c if it is next.
func (p *literal) take(c byte) bool {
	p.space()
	if p.at < len(p.text) && p.text[p.at] == c {
		p.at++
		return true
	}
	return false
}

func (p *literal) word(chars string) string {
	p.space()
	start := p.at
	for p.at < len(p.text) && strings.IndexByte(chars, p.text[p.at]) >= 0 {
		p.at++
	}
	return p.text[start:p.at]
}

// name reads NAME_stride and the sign of assignment.
func (p *literal) name() (stride int, err error) {
	name := p.word("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_")
	stride, err = strconv.Atoi(name[strings.LastIndexByte(name, '_')+1:])
	if err != nil || stride < 1 || stride > maxTokens {
		return 0, p.errorf("%.40q does not end in a stride", name)
	}
	if !p.take('=') {
		return 0, p.errorf("no = after %.40q", name)
	}
	return stride, nil
}

// list reads brackets around elements, with a comma between and perhaps after them.
func (p *literal) list(element func() error) error {
	if !p.take('[') {
		return p.errorf("want [")
	}
	for !p.take(']') {
		if err := element(); err != nil {
			return err
		}
		if !p.take(',') {
			if p.take(']') {
				return nil
			}
			return p.errorf("want , or ]")
		}
	}
	return nil
}

func (p *literal) number() (float64, error) {
	v, err := plainNumber(p.word("0123456789+-.eE"))
	if err != nil {
		return 0, p.errorf("%v", err)
	}
	return v, nil
}
