package calib

import (
	"fmt"
	"strings"
	"unicode"
)

// maxAddedToken bounds the length of an added token in bytes: matching costs at most this much per byte of text.
const maxAddedToken = 4096

// matcher finds added tokens in a text: from left to right the longest one that starts at each place, without overlaps.
type matcher struct {
	nodes []trieNode // nodes[0] is the root; empty: nothing to find
	start [256]bool  // first bytes
	only  int        // the first byte where there is just one, else -1
}

type trieNode struct {
	edges []trieEdge
	token *addedToken
}

type trieEdge struct {
	b    byte
	node int32
}

func (n *trieNode) child(b byte) int32 {
	for _, e := range n.edges {
		if e.b == b {
			return e.node
		}
	}
	return -1
}

func (m *matcher) add(pattern string, t *addedToken) error {
	if len(m.nodes) == 0 {
		m.nodes = append(m.nodes, trieNode{})
		m.only = int(pattern[0])
	}
	if int(pattern[0]) != m.only {
		m.only = -1
	}
	m.start[pattern[0]] = true
	at := int32(0)
	for i := 0; i < len(pattern); i++ {
		next := m.nodes[at].child(pattern[i])
		if next < 0 {
			next = int32(len(m.nodes))
			m.nodes[at].edges = append(m.nodes[at].edges, trieEdge{pattern[i], next})
			m.nodes = append(m.nodes, trieNode{})
		}
		at = next
	}
	if other := m.nodes[at].token; other != nil {
		return fmt.Errorf("%q and %q are the same after normalization", clip(other.content), clip(t.content))
	}
	m.nodes[at].token = t
	return nil
}

// find returns the next token at or after from, as written.
func (m *matcher) find(s string, from int) (start, end int, t *addedToken) {
	for i := from; i < len(s); i++ {
		if m.only >= 0 {
			k := strings.IndexByte(s[i:], byte(m.only))
			if k < 0 {
				return 0, 0, nil
			}
			i += k
		} else if !m.start[s[i]] {
			continue
		}
		at := int32(0)
		for j := i; j < len(s); j++ {
			if at = m.nodes[at].child(s[j]); at < 0 {
				break
			}
			if found := m.nodes[at].token; found != nil {
				start, end, t = i, j+1, found
			}
		}
		if t != nil {
			return start, end, t
		}
	}
	return 0, 0, nil
}

// split calls f for the pieces of s in order: text (id -1, with its byte offset) and tokens (their id). Empty pieces of
// text are left out. lstrip and rstrip widen a token over the white space beside it; as in the original, the search goes
// on where the token as written ends.
func (m *matcher) split(s string, f func(piece string, start int, id int32)) {
	done := 0
	for from := 0; len(m.nodes) > 0; {
		start, end, t := m.find(s, from)
		if t == nil {
			break
		}
		from = end
		if t.singleWord && !standsAlone(s, start, end) {
			continue
		}
		if t.lstrip {
			start = max(len(strings.TrimRightFunc(s[:start], isSpace)), done)
		}
		if t.rstrip {
			end = len(s) - len(strings.TrimLeftFunc(s[end:], isSpace))
		}
		if done < start {
			f(s[done:start], done, -1)
		}
		f("", start, t.id)
		done = end
	}
	if done < len(s) {
		f(s[done:], done, -1)
	}
}

func isSpace(r rune) bool { return unicode.Is(unicode.White_Space, r) }
