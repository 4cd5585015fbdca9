package calib

import (
	"math/rand/v2"
	"slices"

	"modelpress/formats"
)

// builder shares documents out between two sides.
type builder struct {
	tok         Encoder
	opt         SetOptions
	calib, held *side
	target      *side // where documents go; nil: to the side that lacks most
	span        int
	documents   int
}

func newBuilder(tok Encoder, opt SetOptions) *builder {
	span := opt.Span
	if span == 0 {
		span = DefaultSpan
	}
	if opt.Length > 0 && (span < 0 || span > opt.Length) {
		span = opt.Length
	}
	b := &builder{tok: tok, opt: opt, span: span}
	b.calib = &side{opt: &b.opt, need: opt.Sequences, keep: opt.Sequences}
	b.held = &side{opt: &b.opt, need: opt.HoldoutSequences, keep: opt.HoldoutSequences}
	if opt.HoldoutSequences > 0 {
		b.calib.spans, b.held.spans = newSpans(span), newSpans(span)
		b.calib.other, b.held.other = b.held, b.calib
	}
	if opt.Seed != nil {
		// Held-out windows that repeat the calibration side are known only at the end: keep some to replace them.
		b.held.keep += b.held.keep/2 + 8
		b.calib.rng = rand.New(rand.NewPCG(*opt.Seed, 1))
		b.held.rng = rand.New(rand.NewPCG(*opt.Seed, 2))
	}
	if opt.HoldoutSequences == 0 || opt.Heldout != nil {
		b.target = b.calib
	}
	return b
}

// read gives the documents of the main input to the sides. The first is held back until it is known not to be the only one.
func (b *builder) read(docs Docs) error {
	if b.target != nil {
		return b.each(docs, b.give)
	}
	var first *Document
	err := b.each(docs, func(d Document) bool {
		if b.documents == 1 {
			first = &d
			return true
		}
		if first != nil {
			b.give(*first)
			first = nil
		}
		return b.give(d)
	})
	if err == nil && first != nil {
		b.halve(*first)
	}
	return err
}

// each yields the documents as ids within the vocabulary until give has enough.
func (b *builder) each(docs Docs, give func(Document) bool) error {
	for d, err := range docs {
		if err != nil {
			return err
		}
		b.documents++
		if d.IDs == nil {
			if b.tok == nil {
				return formats.Errorf(d.Name, "", "is text, and the checkpoint has no tokenizer.json to read it with; give token ids")
			}
			d.IDs, d.Text = b.tok.Encode(d.Text), ""
		}
		if err := checkVocab(d.IDs, b.opt.Vocab); err != nil {
			return formats.Errorf(d.Name, "", "%w", err)
		}
		if !give(d) {
			return nil
		}
	}
	return nil
}

// give hands a document to the side that lacks most and reports whether more are wanted.
func (b *builder) give(d Document) bool {
	s := b.target
	if s == nil {
		s = b.calib
		if b.calib.full() || !b.held.full() && b.held.filled() < b.calib.filled() {
			s = b.held
		}
	}
	s.push(d)
	if b.target != nil {
		return !s.full()
	}
	return !(b.calib.full() && b.held.full())
}

// halve cuts the only document between two windows, in the proportion of the wanted numbers.
func (b *builder) halve(d Document) {
	body := b.calib.body()
	if body == 0 {
		b.calib.push(d)
		return
	}
	n, m := b.calib.need, b.held.need
	at := int(int64(len(d.IDs)/body)*int64(n)/int64(n+m)) * body
	first, second := d, d
	first.IDs, second.IDs = d.IDs[:at], d.IDs[at:]
	first.Alone, second.Alone = true, true // the cut is no end of a document: no EOS there
	b.calib.push(first)
	b.held.push(second)
}

// settle drops drawn held-out windows that repeat the calibration side, and those that were kept in reserve.
func (b *builder) settle() {
	if b.opt.Seed == nil || b.held.need == 0 {
		return
	}
	for _, w := range b.calib.windows {
		b.calib.spans.add(w)
	}
	before := len(b.held.windows)
	b.held.windows = slices.DeleteFunc(b.held.windows, b.calib.spans.shares)
	b.held.overlaps = before - len(b.held.windows)
	b.held.windows = b.held.windows[:min(len(b.held.windows), b.held.need)]
}
