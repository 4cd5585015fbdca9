package pipeline

import (
	"regexp"
	"strings"
)

// moduleMatcher matches modules as compressed-tensors does: by name, or by "re:" and an expression that is anchored at the start alone.
type moduleMatcher struct {
	exact  map[string]bool
	res    []*regexp.Regexp
	unread bool // an expression is none of Go's
}

func newMatcher(list []string) moduleMatcher {
	m := moduleMatcher{exact: map[string]bool{}}
	for _, s := range list {
		pattern, ok := strings.CutPrefix(s, "re:")
		if !ok {
			m.exact[s] = true
			continue
		}
		re, err := regexp.Compile("^(?:" + pattern + ")")
		if err != nil {
			m.unread = true
			continue
		}
		m.res = append(m.res, re)
	}
	return m
}

func (m *moduleMatcher) matches(module string) bool {
	if m.exact[module] {
		return true
	}
	for _, re := range m.res {
		if re.MatchString(module) {
			return true
		}
	}
	return false
}
