package ui

import (
	"fmt"
	"math"
	"strings"

	"modelpress/formats/manifest"
)

// HeadMapView says how people see a map.
type HeadMapView struct {
	ASCII  bool // no characters beyond ASCII
	Scores bool // each head's score beside its sign
}

// grades are the signs of elastic policies, by the share of the tokens that they keep.
var (
	grades      = []rune("▁▂▃▄▅▆▇")
	gradesASCII = []rune("1234567")
)

// groupOf is how many heads stand together.
const groupOf = 8

// sign is the character of a policy. others counts the policies so far that have a letter.
func (p *MapPolicy) sign(ascii bool, others *int) rune {
	switch p.Kind {
	case manifest.KindFull:
		if ascii {
			return '#'
		}
		return '█'
	case manifest.KindStreaming:
		if ascii {
			return '.'
		}
		return '·'
	case manifest.KindElastic:
		if p.Share != nil {
			scale := grades
			if ascii {
				scale = gradesASCII
			}
			n := len(scale)
			return scale[max(0, min(n-1, int(*p.Share*float64(n))))]
		}
	}
	const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
	*others++
	if *others > len(letters) {
		return '?'
	}
	return rune(letters[*others-1])
}

// paint colours the sign of a policy by its kind.
func (p *MapPolicy) paint(s style, text string) string {
	switch p.Kind {
	case manifest.KindFull:
		return s.green(text)
	case manifest.KindElastic:
		return s.paint("36", text)
	case manifest.KindStreaming:
		return s.paint("2", text)
	}
	return s.paint("35", text)
}

// lines returns the map as text: a row for each layer with a sign for each KV head and the share of the cache that the layer keeps, then the
// legend and the cache. Names are cleaned, so that only the style's own codes reach the terminal.
func (m *HeadMap) lines(v HeadMapView, s style) []string {
	signs, others := make([]rune, len(m.Policies)), 0
	for i := range m.Policies {
		signs[i] = m.Policies[i].sign(v.ASCII, &others)
	}
	total, width := 0, 0
	for _, row := range m.Layers {
		total += len(row)
		width = max(width, len(row))
	}
	out := []string{fmt.Sprintf("%s: %d layers, %d KV heads, %s at %d tokens", clean(m.Architecture), len(m.Layers), total, m.Phase, m.Length)}
	if !v.Scores {
		out = append(out, strings.TrimRight("layer  "+ruler(width), " "))
	}
	for l, row := range m.Layers {
		text := m.row(row, signs, v, s)
		if len(row) == 0 {
			text = "no attention"
		} else if share, ok := m.kept(row); ok {
			text += strings.Repeat(" ", v.width(width)-v.width(len(row))) + fmt.Sprintf("  %5.1f %%", 100*share)
		}
		out = append(out, fmt.Sprintf("%5d  %s", l, text))
	}
	out = append(out, m.legend(signs, v, s)...)
	for _, c := range m.Caches {
		out = append(out, fmt.Sprintf("KV cache at %d tokens: %s of %s (%.1f %%)", c.Length, Bytes(c.Planned), Bytes(c.Dense), 100*c.Share))
	}
	return out
}

// width is that of a row of n heads with its gaps.
func (v HeadMapView) width(n int) int {
	const withScore = 8 // sign, score and gap
	switch {
	case n == 0:
		return 0
	case v.Scores:
		return n*withScore - 1
	}
	return n + (n-1)/groupOf
}

// ruler numbers the first head of each group.
func ruler(width int) string {
	var b strings.Builder
	for h := 0; h < width; h += groupOf {
		fmt.Fprintf(&b, "%-*d", groupOf+1, h)
	}
	return b.String()
}

func (m *HeadMap) row(row []MapCell, signs []rune, v HeadMapView, s style) string {
	var b strings.Builder
	for h, c := range row {
		if h > 0 && (v.Scores || h%groupOf == 0) {
			b.WriteByte(' ')
		}
		p := &m.Policies[c.Policy]
		b.WriteString(p.paint(s, string(signs[c.Policy])))
		if v.Scores {
			b.WriteString(scoreText(c.Score))
		}
	}
	return b.String()
}

func scoreText(score *float64) string {
	if score == nil {
		return "     -"
	}
	if math.Abs(*score) >= 10 {
		return fmt.Sprintf("%6.0e", *score)
	}
	return fmt.Sprintf("%6.3f", *score)
}

// kept is the mean share of the tokens that the heads of a row keep; ok is false where one's is only known at run time.
func (m *HeadMap) kept(row []MapCell) (share float64, ok bool) {
	for _, c := range row {
		p := &m.Policies[c.Policy]
		if p.Share == nil {
			return 0, false
		}
		share += *p.Share
	}
	return share / float64(len(row)), true
}

func (m *HeadMap) legend(signs []rune, v HeadMapView, s style) []string {
	t := Table{Right: []bool{false, false, false, false, true, true}}
	for i := range m.Policies {
		p := &m.Policies[i]
		share := ""
		if p.Share != nil {
			share = fmt.Sprintf("%.1f %%", 100**p.Share)
		}
		text := p.Text
		if v.ASCII {
			text = strings.ReplaceAll(text, "·", "*")
		}
		t.Rows = append(t.Rows, []string{string(signs[i]), p.ID, p.Kind, text, counted(p.Heads), share})
	}
	lines := t.lines()
	for i := range lines {
		if !strings.HasPrefix(lines[i], string(signs[i])) {
			continue
		}
		rest := strings.TrimPrefix(lines[i], string(signs[i]))
		lines[i] = m.Policies[i].paint(s, string(signs[i])) + rest
	}
	return lines
}

// counted is a number of heads in words.
func counted(n int) string {
	if n == 1 {
		return "1 head"
	}
	return fmt.Sprintf("%d heads", n)
}
