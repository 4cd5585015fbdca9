package calib

import "strings"

// Limits of a word cache: longer words are merged anew each time, and a full cache is emptied, so that it never holds
// more than about maxCachedWords*(maxCachedWord+16) bytes of words and as many ids.
const (
	maxCachedWord  = 48      // bytes
	maxCachedWords = 1 << 15 // entries
)

// wordCache maps words to their ids. Entries lie in one arena, so that the cache costs the collector little.
type wordCache struct {
	spans map[string]wordSpan
	arena []int32
}

type wordSpan struct{ lo, hi int32 }

func (c *wordCache) get(word string) ([]int32, bool) {
	s, ok := c.spans[word]
	if !ok {
		return nil, false
	}
	return c.arena[s.lo:s.hi], true
}

// put stores a copy of word and ids.
func (c *wordCache) put(word string, ids []int32) {
	if c.spans == nil {
		c.spans = make(map[string]wordSpan)
	}
	if len(c.spans) >= maxCachedWords {
		clear(c.spans)
		c.arena = c.arena[:0]
	}
	lo := int32(len(c.arena))
	c.arena = append(c.arena, ids...)
	c.spans[strings.Clone(word)] = wordSpan{lo, int32(len(c.arena))}
}
