package pipeline

import (
	"fmt"

	"modelpress/formats/planfile"
)

func layerRange(lo, hi int) string {
	if hi-lo == 1 {
		return fmt.Sprintf("layer %d", lo)
	}
	return fmt.Sprintf("layers %d-%d", lo, hi-1)
}

func (q *quantDecision) summary() string {
	group := fmt.Sprintf("g%d", q.Group)
	if q.Group == -1 {
		group = "per channel"
	}
	sym := "symmetric"
	if !q.Symmetric {
		sym = "asymmetric"
	}
	s := fmt.Sprintf("%d matrices to int%d %s %s by %s, %s", len(q.Modules), q.Bits, group, sym, q.Method, q.Output)
	if q.Rotation != nil {
		s += fmt.Sprintf(", rotated (%s, seed %d)", q.Rotation.Kind, q.Rotation.Seed)
	}
	return s
}

// rows gives one line per reason with its bytes.
func (q *quantDecision) rows(p *planfile.Plan) []planfile.Row {
	marks := map[string]string{reasonMerged: "±", reasonPacked: "~", reasonDequant: "~", reasonRotated: "~", reasonFolded: "~", reasonUntied: "+"}
	var rows []planfile.Row
	for _, c := range p.Summary() {
		mark := marks[c.Reason]
		if mark == "" {
			mark = "="
		}
		rows = append(rows, planfile.Row{Mark: mark, Scope: fmt.Sprintf("%d tensors", c.Tensors), Text: c.Reason, Delta: c.After - c.Before})
	}
	return rows
}
