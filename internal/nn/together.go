package nn

// group is some windows in a row, of one length where they are more than one: they go through a layer together.
type group struct{ lo, hi, rows int }

// sequences is their number.
func (g group) sequences() int { return g.hi - g.lo }

// together returns groups of windows with at most rows positions in all, or single windows.
func together(lengths []int, rows int) []group {
	var out []group
	for i, t := range lengths {
		if n := len(out) - 1; n >= 0 && lengths[i-1] == t && out[n].rows+t <= rows {
			out[n].hi, out[n].rows = i+1, out[n].rows+t
			continue
		}
		out = append(out, group{i, i + 1, t})
	}
	return out
}

// longest is the largest number of positions of a group.
func longest(groups []group) int {
	n := 0
	for _, g := range groups {
		n = max(n, g.rows)
	}
	return n
}

// at is the position at which a window of the group begins.
func (g group) at(window int) int { return (window - g.lo) * (g.rows / g.sequences()) }
