package pipeline

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strconv"

	"modelpress/calib"
	"modelpress/formats"
	"modelpress/formats/planfile"
)

// bosID returns the id of config.json's bos_token_id, nil where there is none.
func bosID(config []byte) *int32 {
	var c struct {
		BOS json.RawMessage `json:"bos_token_id"`
	}
	if json.Unmarshal(config, &c) != nil {
		return nil
	}
	v, err := strconv.ParseInt(string(bytes.TrimSpace(c.BOS)), 10, 32)
	if err != nil || v < 0 {
		return nil
	}
	id := int32(v)
	return &id
}

// dataset is the calibration data of a run: windows of both sides, and the retrieval prompts of each side.
type dataset struct {
	set           *calib.Set
	learn         calib.Windows // what weights and masks are trained on
	profile, held []calib.Prompt
	train         []calib.Prompt // several needles each, to train gates on
	tasks         []task         // what heads.validate asks for, of the held-out side
	texts         []text
	profiled      []sample // what a search of spans looks at, a length each, and what it compares candidates by
	probe         sample
	heads, probed bool // an attention plan is made; and by gates' slopes, which takes a backward pass over profile
	carried       bool // one is carried over, and measured
	bos           *int32
}

// DataPaths name the input of calibration; Heldout is "" where the held-out side is cut from Calib, and Train where weights and masks
// are trained on the calibration windows.
type DataPaths struct {
	Calib, Heldout, Train string
	Teacher               string // checkpoint directory of the teacher; "" for the source itself
}

// loadData reads and cuts the data as the recipe says. It is a function of the files' contents, the recipe and the tokenizer.
func loadData(ctx context.Context, s *source, r *Recipe, p DataPaths) (*dataset, error) {
	if p.Calib == "" {
		return nil, errKind(KindUsage, "give --calib FILE", "this recipe looks at data, and no calibration file is given")
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	d := &dataset{heads: r.Heads != nil, carried: r.Heads == nil && s.carries()}
	d.probed = d.heads && oneOf("duo_probe", r.Heads.Evidence...)
	var err error
	if d.bos, err = parseBOS(r.Calibration.BOS, s); err != nil {
		return nil, err
	}
	tok, err := loadTokenizer(s)
	if err != nil {
		return nil, err
	}
	if err := d.build(s, r, p, tok); err != nil {
		return nil, err
	}
	if r.Retrieval != nil {
		if err := d.makePrompts(s, r, tok); err != nil {
			return nil, err
		}
	}
	return d, s.checkPositions("prompts", d.longest())
}

// longest is the length of the longest sequence among prompts and validation windows.
func (d *dataset) longest() int {
	n := max(longestPrompt(d.profile), longestPrompt(d.held), longestPrompt(d.train))
	for _, t := range d.tasks {
		n = max(n, longestPrompt(t.prompts))
	}
	for _, t := range d.texts {
		n = max(n, t.windows.Longest())
	}
	for _, p := range append(d.profiled, d.probe) {
		n = max(n, p.windows.Longest(), longestPrompt(p.prompts))
	}
	return n
}

// heldTokens is the most tokens that one held-out measurement runs over.
func (d *dataset) heldTokens() int {
	n := max(d.set.Heldout.Tokens(), promptTokens(d.held))
	for _, t := range d.tasks {
		n = max(n, promptTokens(t.prompts))
	}
	for _, t := range d.texts {
		n = max(n, t.windows.Tokens())
	}
	return n
}

// planTokens is the most tokens that one measurement for an attention plan runs over, 0 where none is made.
func (d *dataset) planTokens() int {
	switch {
	case d.carried:
		return d.heldTokens()
	case !d.heads:
		return 0
	}
	n := max(d.set.Calib.Tokens(), promptTokens(d.profile), d.heldTokens())
	for _, p := range append(d.profiled, d.probe) {
		n = max(n, p.windows.Tokens(), promptTokens(p.prompts))
	}
	return n
}

// backTokens is the most tokens that one backward pass runs over, 0 where there is none.
func (d *dataset) backTokens() int {
	n := longestPrompt(d.train)
	if d.probed {
		n = max(n, promptTokens(d.profile))
	}
	for _, p := range d.profiled {
		n = max(n, p.windows.Tokens(), promptTokens(p.prompts))
	}
	return n
}

// trainingText names, among the prompt sets of a plan, the windows that weights and masks are trained on where these are others than those
// of calibration.
const trainingText = "training_text"

// promptSets says which prompts and validation windows there are.
func (d *dataset) promptSets() []planfile.PromptSet {
	var list []planfile.PromptSet
	add := func(name, digest string, count, length int) {
		if count > 0 {
			list = append(list, planfile.PromptSet{Name: name, Digest: digest, Count: count, Length: length})
		}
	}
	prompts := func(name string, p []calib.Prompt) { add(name, calib.PromptsDigest(p), len(p), longestPrompt(p)) }
	if d.learn.Digest != d.set.Calib.Digest {
		add(trainingText, d.learn.Digest, len(d.learn.IDs), d.learn.Longest())
	}
	prompts("profile", d.profile)
	prompts("train", d.train)
	prompts("held_out", d.held)
	for i, p := range d.profiled {
		prompts(fmt.Sprintf("spans_%d", i), p.prompts)
		add(fmt.Sprintf("spans_text_%d", i), p.windows.Digest, len(p.windows.IDs), p.windows.Longest())
	}
	prompts("spans_probe", d.probe.prompts)
	for _, t := range d.tasks {
		prompts(fmt.Sprintf("held_out_%s@%d", t.kind, t.length), t.prompts)
	}
	for _, t := range d.texts {
		add(fmt.Sprintf("held_out_text@%d", t.length), t.windows.Digest, len(t.windows.IDs), t.windows.Longest())
	}
	return list
}

func (d *dataset) build(s *source, r *Recipe, p DataPaths, tok *calib.Tokenizer) error {
	docs, err := calib.OpenDocs(p.Calib, calib.TextOptions{})
	if err != nil {
		return err
	}
	opt := calib.SetOptions{Length: r.Calibration.Length, Sequences: r.Calibration.Sequences, HoldoutSequences: r.Calibration.Holdout,
		Vocab: s.arch.V}
	if r.Calibration.Shuffle {
		opt.Seed = &r.Seed
	}
	if !calib.IsIDs(p.Calib) {
		opt.BOS, opt.EOS = d.bos, d.bos
	}
	if p.Heldout != "" {
		if opt.Heldout, err = calib.OpenDocs(p.Heldout, calib.TextOptions{}); err != nil {
			return err
		}
	}
	var enc calib.Encoder
	if tok != nil {
		enc = tok
	}
	if d.set, err = calib.BuildSet(docs, enc, opt); err != nil {
		return err
	}
	if err := d.training(s, r, p, opt, enc); err != nil {
		return err
	}
	return s.checkPositions("windows", max(d.set.Calib.Longest(), d.set.Heldout.Longest()))
}

// training cuts the windows that weights and masks are trained on, none of which shares a span with the held-out side.
func (d *dataset) training(s *source, r *Recipe, p DataPaths, opt calib.SetOptions, enc calib.Encoder) error {
	d.learn = d.set.Calib
	if p.Train == "" {
		return nil
	}
	if r.Distill == nil && (r.Prune == nil || r.Prune.VIB == nil) {
		return errKind(KindUsage, "leave it out", "training data is given, and the recipe trains nothing")
	}
	docs, err := calib.OpenDocs(p.Train, calib.TextOptions{})
	if err != nil {
		return err
	}
	opt.Sequences, opt.HoldoutSequences, opt.Heldout, opt.Seed = r.Calibration.TrainSequences, 0, nil, nil
	if n := r.Calibration.TrainLength; n > 0 {
		opt.Length = n
	}
	opt.BOS, opt.EOS = nil, nil
	if !calib.IsIDs(p.Train) {
		opt.BOS, opt.EOS = d.bos, d.bos
	}
	set, err := calib.BuildSet(docs, enc, opt)
	if err != nil {
		return err
	}
	if d.learn = set.Calib.Without(d.set.Heldout); len(d.learn.IDs) == 0 {
		return formats.Errorf(filepath.Base(p.Train), "", "every window shares text with the held-out side: give other training data")
	}
	return s.checkPositions("training windows", d.learn.Longest())
}

// parseBOS turns "auto", "none" or an id into the first id of every window, nil for none.
func parseBOS(spec string, s *source) (*int32, error) {
	switch spec {
	case "none":
		return nil, nil
	case "auto":
		return bosID(s.ck.Config()), nil
	}
	v, err := strconv.ParseInt(spec, 10, 32)
	if err != nil || v < 0 || int(v) >= s.arch.V {
		return nil, errKind(KindUsage, "", "bos %q: want auto, none, or an id below %d", spec, s.arch.V)
	}
	id := int32(v)
	return &id, nil
}

// makePrompts makes the prompts to profile on from the calibration side, and those to judge by from the held-out side.
func (d *dataset) makePrompts(s *source, r *Recipe, tok *calib.Tokenizer) error {
	if tok == nil {
		return formats.Errorf(tokenizerName, "", "is missing, and the retrieval section of the recipe needs it")
	}
	opt := r.Retrieval.options(d.bos)
	make := func(w calib.Windows, seed uint64) ([]calib.Prompt, error) {
		opt.Seed = seed
		return calib.MakePrompts(tok, w.Flat(1), opt)
	}
	var err error
	if d.profile, err = make(d.set.Calib, r.Seed*2+1); err != nil {
		return err
	}
	if h := r.Heads; h != nil && h.Duo != nil {
		opt := r.Retrieval.options(d.bos)
		opt.Kind, opt.PerCell, opt.Seed = calib.MultiKey, h.Duo.Prompts, r.Seed*2+1
		if d.train, err = calib.MakePrompts(tok, d.set.Calib.Flat(1), opt); err != nil {
			return err
		}
	}
	if h := r.Heads; h != nil && h.MoA != nil {
		if err := d.samples(s, r, tok); err != nil {
			return err
		}
	}
	if len(d.set.Heldout.IDs) == 0 {
		return nil
	}
	if d.held, err = make(d.set.Heldout, r.Seed*2+2); err != nil {
		return err
	}
	if r.Heads != nil && r.Heads.Validate != nil {
		return d.validation(r, tok)
	}
	return nil
}

// longestPrompt counts the tokens of the longest prompt with its answer.
func longestPrompt(list []calib.Prompt) int {
	n := 0
	for _, p := range list {
		n = max(n, len(p.IDs)+len(p.Answer))
	}
	return n
}

func (t *Retrieval) options(bos *int32) calib.RetrievalOptions {
	o := calib.RetrievalOptions{Fact: t.Fact, Question: t.Question, Lengths: t.Lengths, Depths: t.Depths, PerCell: t.PerCell,
		Distractors: t.Distractors, BOS: bos}
	if t.Distractors > 0 {
		o.Kind = calib.MultiKey
	}
	return o
}
