package ui

import (
	"fmt"
	"io"
	"strconv"
	"strings"
)

// human writes lines for people: results to out, everything else to err.
type human struct {
	out, err           io.Writer
	quiet              bool
	outStyle, errStyle style
}

func (v *human) show(e Event) error {
	switch e := e.(type) {
	case StepFinished:
		return v.note("%s %s%s", v.errStyle.green("done"), clean(e.Step), summary(e))
	case Note:
		return v.note("%s", clean(e.Text))
	case PlanRow:
		return v.rows([]PlanRow{e})
	case Warning:
		text := clean(e.Text)
		if e.Tensor != "" {
			text = fmt.Sprintf("tensor %s: %s", strconv.Quote(e.Tensor), text)
		}
		return line(v.err, v.errStyle.yellow("warning:")+" "+text)
	case Gate:
		word := v.outStyle.green("passed")
		if !e.Passed {
			word = v.outStyle.red("failed")
		}
		return line(v.out, fmt.Sprintf("gate %s: %s %s %s %s", word, clean(e.Metric), number(e.Value), e.Op, number(e.Bound)))
	case Result:
		return v.result(e)
	case Next:
		return line(v.out, "Next: "+clean(e.Command))
	case Failure:
		return line(v.err, v.errStyle.red("error:")+" "+clean(e.Text))
	}
	return nil // StepStarted and Progressed are what the bar is for
}

func summary(e StepFinished) string {
	s := ""
	if e.Summary != "" {
		s = ": " + clean(e.Summary)
	}
	return s + fmt.Sprintf(" (%.1f s)", e.Seconds)
}

func (v *human) note(format string, args ...any) error {
	if v.quiet {
		return nil
	}
	return line(v.err, fmt.Sprintf(format, args...))
}

func (v *human) result(r Result) error {
	if r.Map != nil {
		for _, l := range r.Map.lines(r.MapView, v.outStyle) {
			if err := line(v.out, l); err != nil {
				return err
			}
		}
	}
	if r.Table != nil {
		if err := r.Table.write(v.out); err != nil {
			return err
		}
	}
	for _, l := range r.Lines {
		if err := line(v.out, clean(l)); err != nil {
			return err
		}
	}
	return nil
}

// rows aligns the columns of step, scope, text and bytes. A step's name stands in its first row only.
func (v *human) rows(rows []PlanRow) error {
	t := Table{Right: []bool{false, false, false, false, true}}
	last := ""
	for _, r := range rows {
		name := r.Step
		if name == last {
			name = ""
		}
		last = r.Step
		delta := ""
		if r.Delta != 0 {
			delta = Delta(r.Delta)
		}
		t.Rows = append(t.Rows, []string{name, r.Mark, r.Scope, r.Text, delta})
	}
	for i, l := range t.lines() {
		l = strings.TrimRight("  "+l, " ")
		if m := rows[i].Mark; m != "" {
			l = strings.Replace(l, " "+m+" ", " "+v.outStyle.mark(m)+" ", 1)
		}
		if err := line(v.out, l); err != nil {
			return err
		}
	}
	return nil
}

func number(f float64) string { return strconv.FormatFloat(f, 'g', 6, 64) }

func line(w io.Writer, s string) error {
	_, err := io.WriteString(w, s+"\n")
	return err
}

// clean makes control characters visible: names come from files, and must not steer the terminal.
func clean(s string) string {
	bad := func(r rune) bool {
		return r < 0x20 && r != '\n' && r != '\t' || r >= 0x7f && r < 0xa0 || r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069
	}
	if strings.IndexFunc(s, bad) < 0 {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		if bad(r) {
			b.WriteString(strings.Trim(strconv.QuoteRuneToASCII(r), "'"))
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}
