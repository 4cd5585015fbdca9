package pipeline

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"strconv"

	"modelpress/calib"
	"modelpress/formats"
	"modelpress/formats/hf"
	"modelpress/formats/packed"
	"modelpress/formats/planfile"
	"modelpress/internal/arch"
	"modelpress/internal/device"
	"modelpress/internal/nn"
	"modelpress/quantize"
)

const (
	tokenizerName = "tokenizer.json"
	maxTokenizer  = 256 << 20
)

// Env is what a run has at its disposal. None of it changes a result.
type Env struct {
	Device   device.Device
	Progress Progress
	Warn     func(format string, args ...any)
	// Scratch is the directory for hidden states past stateMemory; "" for the system's temporary one. Apply uses the
	// partial output, which is known to have room.
	Scratch string
	// StateFile is where a long step of planning keeps what an interrupted run needs to go on; "" for nowhere. It is gone once
	// the attention plan is made and judged.
	StateFile string
	// MaxMemory is the budget of resident bytes that a run plans for and keeps; 0 for none.
	MaxMemory int64

	states int64 // of hidden states in memory, as fit chose
}

func (e Env) warn(format string, args ...any) {
	if e.Warn != nil {
		e.Warn(format, args...)
	}
}

// stateMemory bounds the hidden states that one pass over all windows keeps in memory between blocks; the rest is spilled.
const stateMemory = 512 << 20

// Progress shows how far long work is. Each Start is followed by Adds and one Done.
type Progress interface {
	Start(name string, total int64)
	Add(n int64)
	Done()
}

// counter adapts a Progress to callbacks of the form (done, total).
func counter(p Progress, name string) (tick func(done, total int), stop func()) {
	started, last := false, 0
	tick = func(done, total int) {
		if !started {
			p.Start(name, int64(total))
			started = true
		}
		p.Add(int64(done - last))
		last = done
	}
	return tick, func() {
		if started {
			p.Done()
		}
	}
}

// source is an opened checkpoint with its description. dense shows every weight in its logical form; it is the
// checkpoint itself unless that is quantized.
type source struct {
	ck    *hf.Checkpoint
	dense formats.Source
	arch  *arch.Model
}

// openSource opens a checkpoint directory for planning or evaluation.
func openSource(dir string, allowRemoteCode bool) (*source, error) {
	var opts []hf.Option
	if allowRemoteCode {
		opts = append(opts, hf.AllowRemoteCode())
	}
	ck, err := hf.Open(dir, opts...)
	if err != nil {
		return nil, err
	}
	s := &source{ck: ck, dense: ck}
	if q := ck.QuantizationConfig(); q != nil {
		if s.dense, err = packed.Dense(ck, q); err != nil {
			err = &Error{Kind: KindInput, Err: err, Hint: "start from the checkpoint that is not quantized"}
			return nil, errors.Join(err, ck.Close())
		}
	}
	if s.arch, err = arch.Describe(ck.Config(), s.dense); err != nil {
		nameFiles(err, ck)
		return nil, errors.Join(err, ck.Close())
	}
	return s, nil
}

// nameFiles adds the file to every fault of a tensor that does not name one: its shard, or what lists the tensors where no
// file holds it.
func nameFiles(err error, ck *hf.Checkpoint) {
	switch e := err.(type) {
	case *formats.Error:
		if e.Tensor == "" || e.File != "" {
			return
		}
		if e.File = ck.Shard(e.Tensor); e.File == "" {
			e.File = indexName
			if list := ck.Shards(); len(list) == 1 {
				e.File = list[0].Name()
			}
		}
	case interface{ Unwrap() []error }:
		for _, one := range e.Unwrap() {
			nameFiles(one, ck)
		}
	case interface{ Unwrap() error }:
		nameFiles(e.Unwrap(), ck)
	}
}

// checkPositions refuses sequences that are longer than a table of learned positions. Rotary positions have no end.
func (s *source) checkPositions(what string, longest int) error {
	if s.arch.PosEmbed != "" && longest > s.arch.MaxPosition {
		return errKind(KindUsage, "take shorter ones", "%s of %d tokens, and the model has %d learned positions", what, longest, s.arch.MaxPosition)
	}
	return nil
}

func (s *source) close() error { return s.ck.Close() }

func (s *source) model(d device.Device) *nn.Model { return nn.New(d, s.dense, s.arch) }

// rotated returns the view and description that quantization works on: the rotated model where the decision has a
// rotation, else the source itself.
func (s *source) rotated(q *quantDecision, par quantize.Par) (formats.Source, *arch.Model, error) {
	if q == nil || q.Rotation == nil {
		return s.dense, s.arch, nil
	}
	r := quantize.Rotation{Kind: q.Rotation.Kind, Seed: q.Rotation.Seed, R2: q.Rotation.R2}
	view, m, err := quantize.Rotate(s.dense, s.arch, r, par)
	if err != nil {
		return nil, nil, &Error{Kind: KindUsage, Err: err, Hint: "set quantize.rotate to none, or to qr where a Hadamard matrix is missing"}
	}
	return view, m, nil
}

// storeDType is the type of scales and newly written tensors: that of the first projection.
func (s *source) storeDType() (formats.DType, error) {
	for l := range s.arch.Layers {
		for _, lin := range s.arch.Layers[l].Linears {
			if !lin.Present() {
				continue
			}
			t, _ := s.dense.Lookup(lin.Weight)
			if t.DType == formats.F64 {
				return formats.F32, nil
			}
			return t.DType, nil
		}
	}
	return formats.Invalid, formats.Errorf("config.json", "", "the model has no projection")
}

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
	profile, held []calib.Prompt
	train         []calib.Prompt // several needles each, to train gates on
	tasks         []task         // what heads.validate asks for, of the held-out side
	texts         []text
	profiled      []sample // what a search of spans looks at, a length each, and what it compares candidates by
	probe         sample
	bos           *int32
}

// DataPaths name the input of calibration; Heldout is "" where the held-out side is cut from Calib.
type DataPaths struct {
	Calib, Heldout string
}

// loadData reads and cuts the data as the recipe says. It is a function of the files' contents, the recipe and the tokenizer.
func loadData(ctx context.Context, s *source, r *Recipe, p DataPaths) (*dataset, error) {
	if p.Calib == "" {
		return nil, errKind(KindUsage, "give --calib FILE", "this recipe looks at data, and no calibration file is given")
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	d := &dataset{}
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

// backTokens is the most tokens that one backward pass runs over, 0 where there is none.
func (d *dataset) backTokens() int {
	n := longestPrompt(d.train)
	for _, p := range d.profiled {
		n = max(n, p.windows.Tokens(), promptTokens(p.prompts))
	}
	return n
}

// promptSets says which prompts and validation windows there are.
func (d *dataset) promptSets() []planfile.PromptSet {
	var list []planfile.PromptSet
	add := func(name, digest string, count, length int) {
		if count > 0 {
			list = append(list, planfile.PromptSet{Name: name, Digest: digest, Count: count, Length: length})
		}
	}
	prompts := func(name string, p []calib.Prompt) { add(name, calib.PromptsDigest(p), len(p), longestPrompt(p)) }
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
	return s.checkPositions("windows", max(d.set.Calib.Longest(), d.set.Heldout.Longest()))
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

// loadTokenizer reads the checkpoint's own tokenizer, nil where it has none.
func loadTokenizer(s *source) (*calib.Tokenizer, error) {
	raw, err := s.ck.ReadFile(tokenizerName, maxTokenizer)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return calib.LoadTokenizer(raw)
}

func headersDigest(s *source) string { return hf.HeadersDigest(s.ck.Tensors()) }

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
