package ui

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"strconv"
	"unicode/utf8"

	"modelpress/formats/manifest"
)

// The measures of the drawing, in pixels.
const (
	svgCell   = 16 // a head with its gap
	svgBox    = 14 // without
	svgLeft   = 56
	svgTop    = 52
	svgLine   = 18 // of the legend
	svgLetter = 8  // of its text, at most
	svgLeast  = 560
	svgMargin = 12
)

// svgStyle has colours that tell kinds apart on a light and on a dark ground; elastic heads are filled from below by the share that they
// keep, so that the picture can be read without colour.
const svgStyle = `
  svg { background: #ffffff; } text { font: 12px ui-monospace, monospace; fill: #1f2328; } .t { font-weight: bold; }
  .b { fill: #e7e9ec; } .f { fill: #1a7f37; } .e { fill: #0969da; } .s { fill: #9a6700; } .o { fill: #8250df; } .n { fill: #59636e; }
  @media (prefers-color-scheme: dark) {
    svg { background: #0d1117; } text { fill: #e6edf3; } .b { fill: #2d333b; }
    .f { fill: #3fb950; } .e { fill: #58a6ff; } .s { fill: #d29922; } .o { fill: #bc8cff; } .n { fill: #9198a1; }
  }
`

// SVG draws the map as an SVG 1.1 document: a square for each KV head with a title of its own (layer, head, policy, score), then the legend and
// the cache. Its bytes depend on the map alone.
func (m *HeadMap) SVG() []byte {
	width := 0
	for _, row := range m.Layers {
		width = max(width, len(row))
	}
	w := max(svgLeast, svgLeft+width*svgCell+svgMargin)
	for i := range m.Policies {
		w = max(w, svgLeft+svgLetter*utf8.RuneCountInString(m.Policies[i].legendText()))
	}
	h := svgTop + len(m.Layers)*svgCell + (len(m.Policies)+len(m.Caches)+1)*svgLine + svgMargin
	title := fmt.Sprintf("%s: attention plan, %s at %d tokens", m.Architecture, m.Phase, m.Length)
	var b bytes.Buffer
	fmt.Fprintf(&b, "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" viewBox=\"0 0 %d %d\" role=\"img\" aria-labelledby=\"title\">\n", w, h, w, h)
	fmt.Fprintf(&b, "<title id=\"title\">%s</title>\n<style>%s</style>\n", escape(title), svgStyle)
	svgText(&b, svgMargin, 20, "t", title)
	for g := 0; g < width; g += groupOf {
		svgText(&b, svgLeft+g*svgCell, svgTop-8, "n", strconv.Itoa(g))
	}
	for l, row := range m.Layers {
		y := svgTop + l*svgCell
		svgText(&b, svgMargin, y+12, "n", strconv.Itoa(l))
		if len(row) == 0 {
			svgText(&b, svgLeft, y+12, "n", "no attention")
		}
		for g, c := range row {
			p := &m.Policies[c.Policy]
			text := fmt.Sprintf("layer %d, head %d: %s (%s)", l, g, p.ID, p.Text)
			if c.Score != nil {
				text += ", score " + short(*c.Score)
			}
			p.box(&b, svgLeft+g*svgCell, y, text)
		}
	}
	y := svgTop + len(m.Layers)*svgCell + svgLine
	for i := range m.Policies {
		p := &m.Policies[i]
		p.box(&b, svgMargin, y-12, p.ID)
		svgText(&b, svgMargin+svgCell+6, y, "", p.legendText())
		y += svgLine
	}
	for _, c := range m.Caches {
		svgText(&b, svgMargin, y, "n", fmt.Sprintf("KV cache at %d tokens: %s of %s (%.1f %%)", c.Length, Bytes(c.Planned), Bytes(c.Dense), 100*c.Share))
		y += svgLine
	}
	b.WriteString("</svg>\n")
	return b.Bytes()
}

func (p *MapPolicy) legendText() string {
	s := fmt.Sprintf("%s: %s, %s, %s", p.ID, p.Kind, p.Text, counted(p.Heads))
	if p.Share != nil {
		s += fmt.Sprintf(", %.1f %% of the tokens", 100**p.Share)
	}
	return s
}

// box draws one head: its ground, and what it keeps from below. Heads whose share is only known at run time are half filled.
func (p *MapPolicy) box(b *bytes.Buffer, x, y int, title string) {
	class, share := "o", 0.5
	if p.Share != nil {
		share = *p.Share
	}
	switch p.Kind {
	case manifest.KindFull:
		class, share = "f", 1
	case manifest.KindElastic:
		class = "e"
	case manifest.KindStreaming:
		class = "s"
	}
	fill := max(2, min(svgBox, int(share*svgBox+0.5)))
	fmt.Fprintf(b, "<g><title>%s</title><rect class=\"b\" x=\"%d\" y=\"%d\" width=\"%d\" height=\"%d\"/><rect class=\"%s\" x=\"%d\" y=\"%d\" width=\"%d\" height=\"%d\"/></g>\n",
		escape(title), x, y, svgBox, svgBox, class, x, y+svgBox-fill, svgBox, fill)
}

func svgText(b *bytes.Buffer, x, y int, class, text string) {
	if class != "" {
		class = ` class="` + class + `"`
	}
	fmt.Fprintf(b, "<text%s x=\"%d\" y=\"%d\">%s</text>\n", class, x, y, escape(text))
}

// escape makes text safe inside an element; characters that XML does not allow become U+FFFD.
func escape(text string) string {
	var b bytes.Buffer
	_ = xml.EscapeText(&b, []byte(text)) // a buffer takes everything
	return b.String()
}
