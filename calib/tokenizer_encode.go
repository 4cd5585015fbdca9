package calib

// encoder is the scratch of one Encode call: the ids so far, the cache of words and the arrays of the merge loop.
type encoder struct {
	t     *Tokenizer
	ids   []int32
	cache wordCache
	merge merger
	word  func(word string, first bool) // bound once, so that pieces do not allocate closures
}

// keepScratch is the capacity (in ids or symbols) up to which an idle encoder keeps its arrays.
const keepScratch = 1 << 20

func newEncoder(t *Tokenizer) *encoder {
	e := &encoder{t: t}
	e.word = func(word string, _ bool) { e.appendWord(word) }
	return e
}

// text encodes a whole text: added tokens that match it as written, then those that match it after normalization, then
// the words of what is left.
func (e *encoder) text(s string) {
	e.t.added.raw.split(s, func(piece string, start int, id int32) {
		if id >= 0 {
			e.ids = append(e.ids, id)
			return
		}
		if e.t.normalize != nil {
			piece = e.t.normalize.apply(piece)
		}
		first := start == 0
		e.t.added.normalized.split(piece, func(part string, at int, id int32) {
			if id >= 0 {
				e.ids = append(e.ids, id)
				return
			}
			e.piece(part, first && at == 0)
		})
	})
}

// piece encodes text without added tokens; first tells whether it stands at the very start of the input.
func (e *encoder) piece(s string, first bool) {
	if e.t.pre == nil {
		e.appendWord(s)
		return
	}
	e.t.pre.split(s, first, e.word)
}

func (e *encoder) appendWord(word string) {
	m := e.t.model
	if m.ignoreMerges {
		if id, ok := m.lookupWord(word); ok {
			e.ids = append(e.ids, id)
			return
		}
	}
	if m.splitAt == "" {
		e.appendUnit(word)
		return
	}
	m.eachUnit(word, e.appendUnit)
}

// appendUnit appends the tokens of a stretch of text that no merge leaves.
func (e *encoder) appendUnit(word string) {
	if len(word) > maxCachedWord {
		e.ids = e.merge.append(e.ids, e.t.model, word)
		return
	}
	if ids, ok := e.cache.get(word); ok {
		e.ids = append(e.ids, ids...)
		return
	}
	n := len(e.ids)
	e.ids = e.merge.append(e.ids, e.t.model, word)
	e.cache.put(word, e.ids[n:])
}

// trim gives back scratch that one very long text left behind.
func (e *encoder) trim() {
	if cap(e.ids) > keepScratch {
		e.ids = nil
	}
	e.merge.trim()
}
