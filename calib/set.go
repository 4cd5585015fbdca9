package calib

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"

	"modelpress/formats"
)

// SetOptions says how documents become a calibration side and a held-out side.
type SetOptions struct {
	Length           int // tokens of a window, BOS included; 0: every document is one window, whatever its length
	Sequences        int // calibration windows; 0 for all that there are (then no held-out windows from the same input)
	HoldoutSequences int // held-out windows; 0 for none

	// Heldout is a separate input for the held-out side. Where it is nil, whole documents of the one input go to one
	// side or the other; an input of a single document is cut in two.
	Heldout Docs

	BOS        *int32 // the first id of every window; nil for none
	ReplaceBOS bool   // BOS takes the place of the window's first token instead of standing before it
	EOS        *int32 // set after every document of joined text; nil for nothing
	Vocab      int    // ids must be below it; 0 for no check
	Span       int    // tokens in a row that make an overlap: 0 for DefaultSpan, negative for whole windows only
	// Seed draws windows without replacement from all of the input. Nil takes the first ones, and reads no further.
	Seed *uint64
}

// Set is what a run calibrates on and what it is judged on. No span of the held-out windows occurs in the calibration
// windows.
type Set struct {
	Calib, Heldout Windows
	Digest         string // "sha256:…" over the digests of both sides
	Documents      int    // documents read
	Overlaps       int    // windows left out because they share a span with the other side
}

// setName stands for the file in errors about an input as a whole.
const setName = "calibration data"

// BuildSet reads documents, turns them into token ids and cuts both sides. tok may be nil where every document holds ids.
// Documents are read one at a time. Without a seed, documents go to the side that is furthest from its wanted number of
// windows and reading stops once both are full; with one, each side keeps a uniform draw of its windows.
func BuildSet(docs Docs, tok Encoder, opt SetOptions) (*Set, error) {
	if err := opt.check(); err != nil {
		return nil, formats.Errorf(setName, "", "%w", err)
	}
	b := newBuilder(tok, opt)
	if err := b.read(docs); err != nil {
		return nil, err
	}
	if opt.Heldout != nil && opt.HoldoutSequences > 0 {
		b.target = b.held
		if err := b.each(opt.Heldout, b.give); err != nil {
			return nil, err
		}
	}
	return b.finish()
}

func (o SetOptions) check() error {
	body := o.Length
	if o.BOS != nil && !o.ReplaceBOS {
		body--
	}
	switch {
	case o.Length < 0 || o.Sequences < 0 || o.HoldoutSequences < 0:
		return errors.New("length and numbers of sequences cannot be negative")
	case o.Length > 0 && (o.Length < 2 || body < 1):
		return fmt.Errorf("windows of %d tokens predict nothing; take at least 2", o.Length)
	case o.Sequences == 0 && o.HoldoutSequences > 0 && o.Heldout == nil:
		return errors.New("held-out windows from the same input need a number of calibration sequences")
	case o.Vocab > 0 && o.BOS != nil && (*o.BOS < 0 || int(*o.BOS) >= o.Vocab):
		return fmt.Errorf("BOS id %d lies outside the vocabulary of %d", *o.BOS, o.Vocab)
	case o.Vocab > 0 && o.EOS != nil && (*o.EOS < 0 || int(*o.EOS) >= o.Vocab):
		return fmt.Errorf("EOS id %d lies outside the vocabulary of %d", *o.EOS, o.Vocab)
	}
	return nil
}

// finish checks that both sides have what was asked for and computes the digests.
func (b *builder) finish() (*Set, error) {
	b.settle()
	for _, s := range [...]*side{b.calib, b.held} {
		if s.need > 0 && len(s.windows) < s.need || s == b.calib && len(s.windows) == 0 {
			return nil, b.tooLittle(s)
		}
	}
	set := &Set{
		Calib: NewWindows(b.calib.windows), Heldout: NewWindows(b.held.windows),
		Documents: b.documents, Overlaps: b.calib.overlaps + b.held.overlaps,
	}
	sum := sha256.Sum256([]byte(set.Calib.Digest + "\n" + set.Heldout.Digest + "\n"))
	set.Digest = "sha256:" + hex.EncodeToString(sum[:])
	return set, nil
}

// tooLittle says how much there was and what can be changed.
func (b *builder) tooLittle(s *side) error {
	what := "calibration"
	if s == b.held {
		what = "held-out"
	}
	shape := "whole documents of at least 2 tokens"
	if b.opt.Length > 0 {
		shape = fmt.Sprintf("windows of %d tokens", b.opt.Length)
	}
	overlap := ""
	if s.overlaps > 0 {
		overlap = fmt.Sprintf("; %d more repeat a span of %d tokens of the other side", s.overlaps, b.span)
	}
	return formats.Errorf(setName, "", "%d of %d %s %s (from %d tokens on this side, %d documents in all%s): "+
		"give more data, or ask for fewer or shorter sequences", len(s.windows), max(s.need, 1), what, shape, s.tokens,
		b.documents, overlap)
}
