package pipeline

import (
	"fmt"
	"sort"

	"modelpress/internal/arch"
)

// violation is one rule of a target that the planned result would break.
type violation struct {
	target, tensor, rule, fix string
}

func (v violation) String() string {
	where := ""
	if v.tensor != "" {
		where = fmt.Sprintf(" (tensor %q)", v.tensor)
	}
	return fmt.Sprintf("%s%s: %s; fix: %s", v.target, where, v.rule, v.fix)
}

// preflight checks every rule that the planned result must keep to load in the targets, before any compute. It finds all
// violations. q is nil where nothing is quantized.
func preflight(m *arch.Model, targets []string, q *quantDecision) []violation {
	var vs []violation
	for _, t := range targets {
		c := checker{target: t, m: m, q: q}
		c.shapes()
		if q != nil && q.Output == outputPacked {
			c.packed()
		}
		vs = append(vs, c.found...)
	}
	if q != nil {
		c := checker{target: "all", m: m, q: q}
		c.groups()
		vs = append(vs, c.found...)
	}
	sort.SliceStable(vs, func(i, j int) bool { return vs[i].String() < vs[j].String() })
	return vs
}

type checker struct {
	target string
	m      *arch.Model
	q      *quantDecision
	found  []violation
}

func (c *checker) fail(tensor, fix, rule string, args ...any) {
	c.found = append(c.found, violation{target: c.target, tensor: tensor, rule: fmt.Sprintf(rule, args...), fix: fix})
}

// shapes checks head counts and per-layer variation, which hold for every result.
func (c *checker) shapes() {
	first := c.m.Layers[0]
	for l := range c.m.Layers {
		a := &c.m.Layers[l]
		if a.H == first.H && a.G == first.G && a.K == first.K && a.F == first.F || c.deci() {
			continue
		}
		fix := "use a checkpoint of uniform layers"
		if a.H == first.H && a.K == first.K && a.F == first.F {
			fix += "; where it is kvmerge that makes them differ, set kvmerge.layout to portable, or give kv_heads in place of kv_budget"
		} else {
			fix += "; where it is prune that makes them differ, set prune.layout to portable"
		}
		c.fail("", fix, "layer %d has other head counts or FFN width than layer 0; stock model classes take one value for all layers", l)
		return
	}
	if first.H > 0 && c.m.D%first.H != 0 && oneOf(c.target, "hf", "vllm", "sglang") {
		c.fail("", "choose a head count that divides the hidden size", "hidden size %d is not a multiple of %d heads", c.m.D, first.H)
	}
	if first.G > 0 && first.H%first.G != 0 {
		c.fail("", "choose a KV head count that divides the query heads", "%d query heads are not a multiple of %d KV heads", first.H, first.G)
	}
}

// deci reports whether the model can be a GGUF of architecture deci, which has head counts and an FFN width for each layer. Of a layer
// without FFN its graph drops what attention adds; the first layer must attend; and it reads a bias of queries as wide as the stream.
func (c *checker) deci() bool {
	if c.target != "llama.cpp" || c.m.Family != "llama" || !c.m.Layers[0].HasAttention() {
		return false
	}
	for l := range c.m.Layers {
		a := &c.m.Layers[l]
		if !a.HasFFN() || a.HasAttention() && (a.K != c.m.Layers[0].K || a.Linears[arch.Q].Bias != "" && a.H*a.K != c.m.D) {
			return false
		}
	}
	return true
}

// groups checks that every quantized matrix divides into groups.
func (c *checker) groups() {
	for l := range c.m.Layers {
		for _, lin := range c.m.Layers[l].Linears {
			if !lin.Present() || !c.q.has(lin.Module()) || c.q.Group <= 0 || lin.In%c.q.Group == 0 {
				continue
			}
			c.fail(lin.Weight, groupFix(lin.In),
				"%d inputs do not divide into groups of %d", lin.In, c.q.Group)
		}
	}
}

// groupFix says which groups a matrix of that many inputs divides into.
func groupFix(in int) string {
	for _, g := range []int{128, 64, 32} {
		if in%g == 0 {
			return fmt.Sprintf("use quantize.group_size %d, or -1 (per channel), or ignore the module", g)
		}
	}
	return "use quantize.group_size -1 (per channel), or ignore the module"
}

// packed checks what readers of compressed-tensors pack-quantized ask for.
func (c *checker) packed() {
	if !c.m.PackedModules {
		c.fail("", "use bits 2 or 3 (written as plain weights), or a family of nn.Linear modules", "%s holds its projections in Conv1D modules, which compressed-tensors cannot name", c.m.Family)
	}
	if oneOf(c.target, "tensorrt-llm", "mlx") {
		c.fail("", "remove the target, or use bits 2 or 3 (written as plain weights)", "no reader of compressed-tensors pack-quantized is known for %s", c.target)
	}
	if c.target == "llama.cpp" && c.q.Group == -1 {
		c.fail("", "use quantize.group_size 32, 64 or 128", "its converter reads pack-quantized weights with strategy group only")
	}
	if !oneOf(c.target, "vllm", "sglang") {
		return
	}
	if !containsInt(groupSizes, c.q.Group) {
		c.fail("", "use quantize.group_size 32, 64, 128 or -1", "its kernels take groups of 32, 64, 128 or whole channels, not %d", c.q.Group)
	}
	for l := range c.m.Layers {
		lins := &c.m.Layers[l].Linears
		c.fused(lins, arch.Q, arch.K, arch.V)
		c.fused(lins, arch.Gate, arch.Up)
		for _, lin := range lins {
			if lin.Present() && c.q.has(lin.Module()) && (lin.Out%64 != 0 || lin.In%128 != 0) {
				c.fail(lin.Weight, "add the module to quantize.ignore (with those that are fused with it)", "its int4/int8 kernels need outputs in multiples of 64 and inputs in multiples of 128, not %d x %d", lin.Out, lin.In)
			}
		}
	}
}

// fused checks that projections which the runtime fuses share one scheme.
func (c *checker) fused(lins *[arch.NumRoles]arch.Linear, roles ...arch.Role) {
	var with, without []string
	for _, r := range roles {
		if lin := lins[r]; lin.Present() {
			if c.q.has(lin.Module()) {
				with = append(with, lin.Weight)
			} else {
				without = append(without, lin.Weight)
			}
		}
	}
	if len(with) > 0 && len(without) > 0 {
		c.fail(without[0], "ignore all of the fused projections or none", "it is kept while %s, fused with it at load, is quantized", with[0])
	}
}

func containsInt(list []int, v int) bool {
	for _, x := range list {
		if x == v {
			return true
		}
	}
	return false
}

// tensorParallel returns the largest tensor-parallel size up to 8 at which every shard of the model keeps the divisibility
// that serving kernels need: heads and KV heads split evenly, quantized row shards stay multiples of 128 and the group, and
// the outputs of the fused q, k and v multiples of 64.
func tensorParallel(m *arch.Model, q *quantDecision) int {
	best := 1
	for tp := 2; tp <= 8; tp *= 2 {
		ok := true
		for l := range m.Layers {
			a := &m.Layers[l]
			kvSplits := a.G == 0 || (a.G >= tp && a.G%tp == 0) || (a.G < tp && tp%a.G == 0)
			ok = ok && a.H%tp == 0 && kvSplits && a.F%tp == 0
			if q != nil && q.Output == outputPacked {
				step := max(128, q.Group)
				ok = ok && (a.H*a.K/tp)%step == 0 && (a.F/tp)%step == 0 && (a.H/tp+2*max(1, a.G/tp))*a.K%64 == 0
			}
		}
		if ok {
			best = tp
		}
	}
	return best
}
