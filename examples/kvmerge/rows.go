package main

import "fmt"

// row is one way of merging.
type row struct {
	size         string // fields of the recipe: kv_heads, or kv_budget and layout
	target       string
	name         string // of the size
	keys, values string
	grouping     string
	refit, apart bool
}

func (r row) String() string {
	text := fmt.Sprintf("%s %s/%s %s", r.name, r.keys, r.values, r.grouping)
	if r.refit {
		text += " refit"
	}
	if r.apart {
		text += " apart"
	}
	return text
}

// pairs are the ways of keys and values: alike, which are the published ones and ours, and mixed, which tell what each side gains.
var pairs = [][2]string{
	{"mean", "mean"}, {"first", "first"}, {"procrustes", "procrustes"},
	{"pca", "mean"}, {"mean", "pca"}, {"procrustes", "pca"}, {"pca", "procrustes"}, {"pca", "pca"},
}

// plan lists the rows that were asked for.
func (s settings) plan() []row {
	var all []row
	for _, kv := range s.kv {
		all = append(all, s.sized(fmt.Sprintf("kv_heads: %d", kv), fmt.Sprintf("kv %d", kv))...)
	}
	for _, b := range s.budgets {
		// Of the targets, only llama.cpp takes a number of KV heads for each layer.
		for _, l := range [][2]string{{"portable", "hf"}, {"compact", "llama.cpp"}} {
			all = append(all, row{size: fmt.Sprintf("kv_budget: %g, layout: %s", b, l[0]), name: fmt.Sprintf("budget %g %s", b, l[0]), target: l[1],
				keys: "pca", values: "pca", grouping: "cost", refit: true})
		}
	}
	var out []row
	for _, r := range all {
		if s.rows.MatchString(r.String()) {
			out = append(out, r)
		}
	}
	return out
}

// sized lists the rows of one number of KV heads.
func (s settings) sized(size, name string) []row {
	var out []row
	for _, grouping := range []string{"contiguous", "cost"} {
		for _, p := range pairs {
			out = append(out, row{size: size, name: name, target: "hf", keys: p[0], values: p[1], grouping: grouping})
		}
		for _, m := range []string{"mean", "pca"} {
			out = append(out, row{size: size, name: name, target: "hf", keys: m, values: m, grouping: grouping, refit: true})
		}
	}
	if s.apart {
		for _, refit := range []bool{false, true} {
			out = append(out, row{size: size, name: name, target: "hf", keys: "pca", values: "pca", grouping: "cost", refit: refit, apart: true})
		}
	}
	return out
}

// recipe is how a row is asked for. Without held-out windows planning and applying measure nothing themselves.
func (s settings) recipe(r row) string {
	text := fmt.Sprintf("seed: %d\ntarget: [%s]\ncalibration: {sequences: %d, holdout: 0, length: %d}\n", s.seed, r.target, s.sequences, s.length)
	if r.apart {
		text += s.retrieval()
	}
	text += fmt.Sprintf("kvmerge: {%s, keys: %s, values: %s, grouping: %s, refit: %t, mix: %t", r.size, r.keys, r.values, r.grouping, r.refit, !r.apart)
	if r.apart {
		text += ", score: wu, threshold: 0.1"
	}
	return text + "}\n"
}

// retrieval is the section of the recipe that says how a fact is written and asked for.
func (s settings) retrieval() string {
	n := s.length
	return fmt.Sprintf("retrieval: {fact: %q, question: %q, lengths: [%d, %d, %d, %d], depths: [0.1, 0.5, 0.9], per_cell: 4, distractors: 1}\n",
		s.fact, s.question, n/4, n*7/16, n*21/32, n*7/8)
}
