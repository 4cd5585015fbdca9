package calib

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"modelpress/formats"
)

// Kind is a family of synthetic retrieval tasks.
type Kind string

// The kinds of prompts that [MakePrompts] makes. A single needle saturates early; several keys and key-value lists need
// the right fact to be told from others like it, and are the sensitive tests.
const (
	SingleNeedle Kind = "single"      // one fact in a haystack
	MultiKey     Kind = "multi-key"   // one fact among Distractors facts with other names, all in a haystack
	MultiValue   Kind = "multi-value" // Distractors+1 facts of one name, all of whose codes are asked for, in a haystack
	KeyValue     Kind = "key-value"   // nothing but facts, as many as fit
)

// Kinds returns all kinds of prompts.
func Kinds() []Kind { return []Kind{SingleNeedle, MultiKey, MultiValue, KeyValue} }

// The templates and the filler where [RetrievalOptions] leaves them empty.
const (
	DefaultFact     = "\n// The pass key of {name} is {code}. Remember {name}.\n"
	DefaultQuestion = "\n// What is the pass key of {name}? The pass key of {name} is"
	DefaultFiller   = "Rain fell on the hills all day. The river rose a little. Birds sat under the leaves and waited. "
)

// RetrievalOptions says which prompts to make: PerCell for each length and depth.
type RetrievalOptions struct {
	Kind     Kind   // "" for SingleNeedle
	Fact     string // with {code} once and {name}; "" for DefaultFact
	Question string // with {name}; "" for DefaultQuestion

	Lengths     []int     // tokens of prompt and answer together, at most
	Depths      []float64 // place of the fact, 0 first to 1 last
	PerCell     int       // 0 for 1
	Distractors int       // further facts: with other names (MultiKey, 0 for 2) or of the same one (MultiValue, 0 for 1)

	BOS    *int32 // first id of each prompt; nil for none
	Filler string // text of the haystack where no ids are given; "" for DefaultFiller
	Seed   uint64
}

func (o RetrievalOptions) withDefaults() RetrievalOptions {
	if o.Kind == "" {
		o.Kind = SingleNeedle
	}
	if o.Fact == "" {
		o.Fact = DefaultFact
	}
	if o.Question == "" {
		o.Question = DefaultQuestion
	}
	if o.Filler == "" {
		o.Filler = DefaultFiller
	}
	if o.Kind == MultiKey && o.Distractors == 0 {
		o.Distractors = 2
	}
	if o.Kind == MultiValue && o.Distractors == 0 {
		o.Distractors = 1
	}
	o.PerCell = max(o.PerCell, 1)
	return o
}

// promptName stands for the file in errors about the making of prompts.
const promptName = "retrieval prompts"

// MakePrompts makes retrieval prompts, ordered by length, depth and number. haystack is a stream of token ids from which
// every prompt takes a random piece; it must not come from the calibration side. Without one, Filler is repeated.
// Each prompt has a generator of its own, made from the seed and its number.
func MakePrompts(tok Encoder, haystack []int32, opt RetrievalOptions) ([]Prompt, error) {
	opt = opt.withDefaults()
	m, err := newMaker(tok, haystack, opt)
	if err != nil {
		return nil, formats.Errorf(promptName, "", "%w", err)
	}
	var prompts []Prompt
	for _, length := range opt.Lengths {
		for _, depth := range opt.Depths {
			for range opt.PerCell {
				p, err := m.make(length, depth, uint64(len(prompts)))
				if err != nil {
					return nil, formats.Errorf(promptName, "", "length %d: %w", length, err)
				}
				prompts = append(prompts, p)
			}
		}
	}
	if len(prompts) == 0 {
		return nil, formats.Errorf(promptName, "", "no lengths or no depths are given")
	}
	return prompts, nil
}

// maker puts prompts together.
type maker struct {
	opt      RetrievalOptions
	form     form
	haystack []int32
	filler   []int32 // one round of Filler; empty where a haystack is given
	comma    []int32 // what stands between the codes of an answer; MultiValue only
}

func newMaker(tok Encoder, haystack []int32, opt RetrievalOptions) (*maker, error) {
	f, err := newForm(tok, opt.Fact, opt.Question)
	if err != nil {
		return nil, err
	}
	if !slices.Contains(Kinds(), opt.Kind) {
		return nil, fmt.Errorf("kind %q is none of %v", opt.Kind, Kinds())
	}
	for _, n := range opt.Lengths {
		if n > maxPromptTokens {
			return nil, fmt.Errorf("length %d passes the limit of %d tokens", n, maxPromptTokens)
		}
	}
	for _, d := range opt.Depths {
		if !(d >= 0 && d <= 1) {
			return nil, fmt.Errorf("depth %g lies outside 0 to 1", d)
		}
	}
	m := &maker{opt: opt, form: f, haystack: haystack}
	if opt.Kind == MultiValue {
		m.comma = tok.Encode(",")
	}
	if len(haystack) == 0 && opt.Kind != KeyValue {
		if m.filler = tok.Encode(opt.Filler); len(m.filler) == 0 {
			return nil, fmt.Errorf("the filler text has no tokens")
		}
	}
	return m, nil
}

// make makes prompt number i.
func (m *maker) make(length int, depth float64, i uint64) (Prompt, error) {
	rng := rand.New(rand.NewPCG(m.opt.Seed, i))
	facts := m.form.newFacts(rng)
	needle := facts.next()
	bos := 0
	if m.opt.BOS != nil {
		bos = 1
	}
	room := length - bos - len(needle.asked) - len(needle.code) - len(needle.ids)
	var others []fact
	switch m.opt.Kind {
	case MultiKey:
		for range m.opt.Distractors {
			others = append(others, facts.next())
			room -= len(others[len(others)-1].ids)
		}
	case MultiValue:
		for range m.opt.Distractors {
			f := m.form.fill(needle.name, facts.fresh(newCode))
			others = append(others, f)
			room -= len(f.ids) + len(m.comma) + len(f.code)
		}
	case KeyValue:
		for f := facts.next(); len(f.ids) <= room; f = facts.next() {
			others = append(others, f)
			room -= len(f.ids)
		}
	}
	if room < 0 || m.opt.Kind == KeyValue && len(others) == 0 {
		return Prompt{}, fmt.Errorf("no room for the facts and the question, which need %d tokens", length-min(room, -1))
	}
	p := Prompt{Answer: needle.code, Length: length, Depth: depth, Extra: len(others)}
	if bos > 0 {
		p.IDs = append(p.IDs, *m.opt.BOS)
	}
	var err error
	if m.opt.Kind == KeyValue {
		m.list(&p, needle, others)
	} else {
		err = m.hide(&p, rng, room, needle, others)
	}
	p.IDs = append(p.IDs, needle.asked...)
	return p, err
}

// list writes the facts one after the other, the needle at its depth among them.
func (m *maker) list(p *Prompt, needle fact, others []fact) {
	at := int(math.Round(p.Depth * float64(len(others))))
	for _, f := range others[:at] {
		p.IDs = append(p.IDs, f.ids...)
	}
	p.place(needle)
	for _, f := range others[at:] {
		p.IDs = append(p.IDs, f.ids...)
	}
}

// hide writes room tokens of haystack with the needle at its depth and the other facts at random places.
func (m *maker) hide(p *Prompt, rng *rand.Rand, room int, needle fact, others []fact) error {
	hay, err := m.hay(rng, room)
	if err != nil {
		return err
	}
	cuts := make([]cut, 0, len(others)+1)
	for _, f := range others {
		cuts = append(cuts, cut{at: rng.IntN(room + 1), fact: f})
	}
	cuts = append(cuts, cut{at: int(math.Round(p.Depth * float64(room))), fact: needle, needle: true})
	slices.SortStableFunc(cuts, func(a, b cut) int { return a.at - b.at })
	done := 0
	for _, c := range cuts {
		p.IDs = append(p.IDs, hay[done:c.at]...)
		done = c.at
		if c.needle {
			p.place(c.fact)
		} else {
			p.IDs = append(p.IDs, c.fact.ids...)
		}
	}
	p.IDs = append(p.IDs, hay[done:]...)
	if m.opt.Kind == MultiValue {
		p.Answer = m.enumerate(cuts)
	}
	return nil
}

// enumerate is the answer that names the codes of all facts in the order of the text, separated by commas.
func (m *maker) enumerate(cuts []cut) []int32 {
	answer := slices.Clone(cuts[0].fact.code)
	for _, c := range cuts[1:] {
		answer = append(append(answer, m.comma...), c.fact.code...)
	}
	return answer
}

// cut is a place in the haystack where a fact goes.
type cut struct {
	at     int
	fact   fact
	needle bool
}

// place appends the fact that is asked for and notes where its code stands.
func (p *Prompt) place(f fact) {
	p.NeedleLo, p.NeedleHi = len(p.IDs)+f.lo, len(p.IDs)+f.hi
	p.IDs = append(p.IDs, f.ids...)
}

// hay returns n tokens that follow each other in the haystack.
func (m *maker) hay(rng *rand.Rand, n int) ([]int32, error) {
	if len(m.filler) > 0 {
		hay := make([]int32, 0, n+len(m.filler))
		for len(hay) < n {
			hay = append(hay, m.filler...)
		}
		return hay[:n], nil
	}
	if len(m.haystack) < n {
		return nil, fmt.Errorf("the haystack has %d tokens, %d are needed", len(m.haystack), n)
	}
	at := rng.IntN(len(m.haystack) - n + 1)
	return m.haystack[at : at+n], nil
}
