package arch

import (
	"slices"
	"strings"
)

// fusedGroups are the projections that serving software loads into one matrix, and what it calls the module of that matrix (vLLM,
// packed_modules_mapping of the families; SGLang and TensorRT-LLM use the same names).
var fusedGroups = []struct {
	roles  []Role
	module string
}{{[]Role{Q, K, V}, "qkv_proj"}, {[]Role{Gate, Up}, "gate_up_proj"}}

// FusedRoles lists the groups of projections that serving software loads into one matrix: q, k and v; gate and up.
func FusedRoles() [][]Role {
	var out [][]Role
	for _, g := range fusedGroups {
		out = append(out, g.roles)
	}
	return out
}

// FusedModules returns the names that serving software gives to the matrices which it loads nothing but modules of the list into, in the
// order of layers. What a configuration says of single modules by name, it has to say of these names too where the software looks for
// its own. Projections that the checkpoint itself stores as one tensor are none.
func (m *Model) FusedModules(modules []string) []string {
	var out []string
	for l := range m.Layers {
		for _, g := range fusedGroups {
			var have []string
			all := true
			for _, r := range g.roles {
				lin := m.Layers[l].Linears[r]
				if !lin.Present() {
					continue
				}
				all = all && lin.StoredOut == lin.Out && slices.Contains(modules, lin.Module())
				have = append(have, lin.Module())
			}
			if all && len(have) > 1 {
				out = append(out, have[0][:strings.LastIndexByte(have[0], '.')+1]+g.module)
			}
		}
	}
	return out
}

// Conv1D returns, for the configuration of a checkpoint, what tells of a module's name whether it is of class Conv1D: whether its weight is
// stored [in, out]. Of a family that is not known nothing is.
func Conv1D(config []byte) func(module string) bool {
	m, fam, err := describe(config, func(string) bool { return true })
	if err != nil || !fam.fused {
		return func(string) bool { return false }
	}
	set := map[string]bool{}
	for l := range m.Layers {
		for _, lin := range m.Layers[l].Linears {
			for _, prefix := range fam.names.prefixes {
				if lin.Present() && lin.Transposed {
					set[prefix+strings.TrimPrefix(lin.Module(), fam.names.prefixes[0])] = true
				}
			}
		}
	}
	return func(module string) bool { return set[module] }
}
