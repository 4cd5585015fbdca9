package arch

// Site is one of the distinct inputs of the linear layers of a block: projections that share a site share their input,
// and so its statistics.
type Site uint8

// The sites of a block, in the order of the forward pass.
const (
	SiteQKV    Site = iota // normalized input of attention, width D
	SiteO                  // concatenated heads, width H*K
	SiteGateUp             // normalized input of the FFN, width D
	SiteDown               // gated activations, width F
	NumSites
)

// String returns the name of the site in lower case.
func (s Site) String() string {
	return [...]string{"qkv", "o", "gate_up", "down"}[s]
}

// Roles lists the projections that read the site, in the order of the forward pass.
func (s Site) Roles() []Role {
	return [...][]Role{{Q, K, V}, {O}, {Gate, Up}, {Down}}[s]
}

// Site returns the input that a projection reads.
func (r Role) Site() Site {
	return [NumRoles]Site{Q: SiteQKV, K: SiteQKV, V: SiteQKV, O: SiteO, Gate: SiteGateUp, Up: SiteGateUp, Down: SiteDown}[r]
}

// Roles lists all projections in the order of the forward pass.
func Roles() []Role { return []Role{Q, K, V, O, Gate, Up, Down} }

// Roles lists the projections that the layer has, in the order of the forward pass.
func (l *Layer) Roles() []Role {
	var out []Role
	for _, r := range Roles() {
		if l.Linears[r].Present() {
			out = append(out, r)
		}
	}
	return out
}

// Sites lists the sites that the layer has, in the order of the forward pass.
func (l *Layer) Sites() []Site {
	var out []Site
	for s := range NumSites {
		if l.Width(s) > 0 {
			out = append(out, s)
		}
	}
	return out
}

// Width returns the width of the input at a site, 0 where the layer lacks the sub-layer.
func (l *Layer) Width(s Site) int {
	for _, r := range s.Roles() {
		if l.Linears[r].Present() {
			return l.Linears[r].In
		}
	}
	return 0
}

// HasAttention reports whether the layer attends at all.
func (l *Layer) HasAttention() bool { return l.H > 0 }

// HasFFN reports whether the layer has a feed-forward part.
func (l *Layer) HasFFN() bool { return l.F > 0 }
