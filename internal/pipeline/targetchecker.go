package pipeline

import (
	"fmt"
	"slices"
	"sort"

	"modelpress/internal/arch"
)

// level is how much a finding weighs.
type level uint8

const (
	levelRefuse    level = iota // the target does not load it, or loads something else
	levelCondition              // it loads it under a condition
	levelUnsure                 // what decides it has not been looked at
)

type finding struct {
	level level
	Finding
}

// spot is what a finding is about; the whole checkpoint where it is empty.
type spot struct{ tensor, key string }

func atTensor(name string) spot { return spot{tensor: name} }
func atKey(name string) spot    { return spot{key: name} }

// checker looks at a candidate with the eyes of one target.
type checker struct {
	target string
	c      *Candidate
	m      *arch.Model
	found  []finding
	notes  []string
}

func (c *Candidate) checker(target string) *checker {
	return &checker{target: target, c: c, m: c.Model}
}

func (c *checker) add(l level, id string, at spot, fix, rule string, args ...any) {
	c.found = append(c.found, finding{l, Finding{ID: id, Tensor: at.tensor, Key: at.key, Rule: fmt.Sprintf(rule, args...), Fix: fix}})
}

func (c *checker) refuse(id string, at spot, fix, rule string, args ...any) {
	c.add(levelRefuse, id, at, fix, rule, args...)
}

func (c *checker) require(id string, at spot, fix, rule string, args ...any) {
	c.add(levelCondition, id, at, fix, rule, args...)
}

func (c *checker) unsure(id string, at spot, fix, rule string, args ...any) {
	c.add(levelUnsure, id, at, fix, rule, args...)
}

// note adds what is worth knowing and decides nothing; once.
func (c *checker) note(format string, args ...any) {
	if text := fmt.Sprintf(format, args...); !slices.Contains(c.notes, text) {
		c.notes = append(c.notes, text)
	}
}

// is reports whether the target is one of these.
func (c *checker) is(names ...string) bool { return oneOf(c.target, names...) }

// all looks at everything that is known of the candidate.
func (c *checker) all() {
	c.container()
	c.shapes()
	c.family()
	c.weights()
	c.settings()
	c.windows()
	c.files()
}

// violations returns what the target refuses.
func (c *checker) violations() []violation {
	var vs []violation
	for _, f := range c.found {
		if f.level == levelRefuse {
			vs = append(vs, violation{target: c.target, tensor: f.Tensor, rule: f.text(), fix: f.Fix})
		}
	}
	return vs
}

func sortViolations(vs []violation) {
	sort.SliceStable(vs, func(i, j int) bool { return vs[i].String() < vs[j].String() })
}
