package convert

import (
	"slices"

	"modelpress/formats"
)

// join puts modules on one grid where that changes no value: those that differ in whether they have zero points share a setting with zero
// points, since runtimes want one for what they fuse; and of formats that have one grid for all, codes of fewer bits go into wider ones, and
// scales are repeated for smaller groups. What cannot be joined stays; the configuration of the format then refuses it.
func (d *directory) join() {
	type kind struct {
		bits, size int
		ordered    bool
		scales     formats.DType
	}
	all := map[kind][]*setting{}
	for _, u := range d.used {
		if u.set.grid == nil || d.o.Scheme != "" {
			return
		}
		k := kind{u.set.bits, u.set.size, u.set.ordered, u.set.scales}
		if d.o.Format != Packed {
			k = kind{}
		}
		all[k] = append(all[k], u.set)
	}
	for _, list := range all {
		joint, ok := jointGrid(d.o.Format, list)
		for _, u := range d.used {
			ok = ok && (!slices.Contains(list, u.set) || joint.fits(u.lin) == nil)
		}
		if !ok {
			continue
		}
		for _, s := range list {
			*s = *joint
		}
	}
}

// jointGrid returns the setting that holds the codes of all of a list, false where there is none.
func jointGrid(format string, list []*setting) (*setting, bool) {
	j := *list[0]
	for _, s := range list[1:] {
		j.bits, j.symmetric, j.ordered = max(j.bits, s.bits), j.symmetric && s.symmetric, j.ordered || s.ordered
		switch {
		case j.size == -1 || s.size > 0 && s.size < j.size && j.size%s.size == 0:
			j.size = s.size
		case s.size == -1 || s.size%j.size == 0:
		default:
			return nil, false
		}
	}
	joint, err := grids(format, j.bits, j.size, j.symmetric, j.ordered, j.scales)
	return joint, err == nil
}
