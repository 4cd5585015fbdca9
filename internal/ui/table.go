package ui

import (
	"io"
	"strings"
	"unicode/utf8"
)

// Table is text in columns. Head may be nil; Right marks the columns that are aligned to the right.
type Table struct {
	Head  []string
	Rows  [][]string
	Right []bool
}

// lines returns the rows with their columns padded to one width and two spaces apart, one after a sign.
func (t *Table) lines() []string {
	all := t.Rows
	if t.Head != nil {
		all = append([][]string{t.Head}, t.Rows...)
	}
	var width []int
	for _, row := range all {
		for c, cell := range row {
			if c == len(width) {
				width = append(width, 0)
			}
			width[c] = max(width[c], utf8.RuneCountInString(clean(cell)))
		}
	}
	out := make([]string, len(all))
	for r, row := range all {
		var b strings.Builder
		for c, cell := range row {
			cell = clean(cell)
			pad := strings.Repeat(" ", width[c]-utf8.RuneCountInString(cell))
			if c > 0 && width[c-1] == 1 {
				b.WriteByte(' ')
			} else if c > 0 {
				b.WriteString("  ")
			}
			if c < len(t.Right) && t.Right[c] {
				b.WriteString(pad + cell)
			} else {
				b.WriteString(cell + pad)
			}
		}
		out[r] = strings.TrimRight(b.String(), " ")
	}
	return out
}

func (t *Table) write(w io.Writer) error {
	for _, l := range t.lines() {
		if err := line(w, l); err != nil {
			return err
		}
	}
	return nil
}
