package planfile

import "sort"

// Count is the number of source tensors that have one reason, with their bytes before and after.
type Count struct {
	Reason  string
	Tensors int
	Before  int64
	After   int64
}

// Summary counts the changes per reason, sorted by reason.
func (p *Plan) Summary() []Count {
	at := map[string]int{}
	var counts []Count
	for _, c := range p.Changes {
		i, ok := at[c.Reason]
		if !ok {
			i = len(counts)
			at[c.Reason] = i
			counts = append(counts, Count{Reason: c.Reason})
		}
		counts[i].Tensors++
		counts[i].Before += c.Before.Bytes
		counts[i].After += c.AfterBytes()
	}
	sort.Slice(counts, func(i, j int) bool { return counts[i].Reason < counts[j].Reason })
	return counts
}

// AfterBytes returns the size of what the change leaves.
func (c *Change) AfterBytes() int64 {
	n := int64(0)
	for _, t := range c.After {
		n += t.Bytes
	}
	return n
}

// Totals returns the bytes of all tensors before, as the source's files hold them, and after.
func (p *Plan) Totals() (before, after int64) {
	for i := range p.Changes {
		before += p.Changes[i].Before.Bytes
		after += p.Changes[i].AfterBytes()
	}
	if p.Source.StoredBytes > 0 {
		before = p.Source.StoredBytes
	}
	return before, after
}

// Changed reports whether any tensor ends up in another form than it has: other name, type, shape or value. A row that only
// keeps its tensor names no step.
func (p *Plan) Changed() bool {
	for _, c := range p.Changes {
		if c.Step != "" {
			return true
		}
	}
	return false
}

// Step returns the step of a name.
func (p *Plan) Step(name string) (*Step, bool) {
	for i := range p.Steps {
		if p.Steps[i].Name == name {
			return &p.Steps[i], true
		}
	}
	return nil, false
}
