package manifest

import "sort"

// Needs returns the features that the plan's contents call for, sorted. A producer puts them into Requires.
func (p *Plan) Needs() []string {
	need := map[string]bool{FeatureCachePosition: p.RopePositions == "within_cache"}
	for _, id := range p.used() {
		pol := p.Policies[id]
		if pol.Kind == KindStreaming || pol.Kind == KindElastic || pol.Kind == KindPower {
			need[FeatureSinkTokens] = need[FeatureSinkTokens] || pol.Sink > 0
			need[FeatureCompensation] = need[FeatureCompensation] || pol.Compensation
		}
	}
	for i := range p.Layers {
		l := &p.Layers[i]
		need[FeaturePerLayerHeads] = need[FeaturePerLayerHeads] || l.NoAttention || l.Heads != 0 || l.KVHeadCount != 0
		need[FeatureShared] = need[FeatureShared] || l.ShareAttentionWith != nil
		need[FeaturePerKVHead] = need[FeaturePerKVHead] || p.mixed(l)
	}
	var list []string
	for f, yes := range need {
		if yes {
			list = append(list, f)
		}
	}
	sort.Strings(list)
	return list
}

// mixed reports whether KV heads of a layer decode by different rules.
func (p *Plan) mixed(l *Layer) bool {
	_, kvHeads := l.counts(&p.Model)
	var first Rules
	for i := range l.KVHeads {
		r := p.rules(&l.KVHeads[i])
		if i == 0 {
			first = r
		} else if !sameRules(first, r) {
			return true
		}
	}
	return len(l.KVHeads) > 0 && len(l.KVHeads) < kvHeads && !sameRules(first, Always(p.Defaults.Decode))
}

// rules returns what a KV head decodes by.
func (p *Plan) rules(h *KVHead) Rules {
	if h == nil || len(h.Decode) == 0 {
		return Always(p.Defaults.Decode)
	}
	return h.Decode
}

func sameRules(a, b Rules) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

func (v *validator) requires(p *Plan) {
	for i, r := range p.Requires {
		v.check(r != "", "requires", "has an empty entry")
		for _, s := range p.Requires[:i] {
			v.check(r != s, "requires", "%s appears twice", r)
		}
	}
	for _, f := range p.Needs() {
		v.check(contains(p.Requires, f), "requires", "%s is needed and not listed", f)
	}
}
