package pipeline

import (
	"context"
	"errors"
	"path/filepath"

	"modelpress/calib"
	"modelpress/formats"
	"modelpress/formats/manifest"
	"modelpress/heads"
	"modelpress/internal/nn"
)

// EvalOptions say what to measure of a checkpoint.
type EvalOptions struct {
	ModelDir        string
	Reference       string // checkpoint to compare with; "" for none
	Data            string // text or token ids for perplexity; "" for none
	Prompts         string // JSON file of retrieval prompts; "" for none
	MaxPrompts      int    // evenly spread over the file; 0 for all
	Retrieval       *Retrieval
	Windows         int // 0 for all
	Length          int // tokens of a window, for text and single streams
	Skip            int // windows left out at the start
	BOS             string
	ReplaceFirst    bool // BOS takes the place of each window's first token instead of standing before it
	ScoreFrom       int
	AttentionPlan   string // "" for dense, "auto" for the checkpoint's own, or a file
	PrefillChunk    int    // tokens that prefill takes at once under the attention plan; 0 for whole prompts
	AllowRemoteCode bool
	Seed            uint64
	Env             Env
}

// Evaluation is what was measured; parts that were not asked for are nil.
type Evaluation struct {
	Model      string                  `json:"model"`
	Plan       string                  `json:"attention_plan"` // "dense" or the digest of the plan
	Perplexity *calib.PerplexityResult `json:"perplexity,omitempty"`
	Compare    *calib.Comparison       `json:"against_reference,omitempty"`
	Retrieval  *calib.RetrievalResult  `json:"retrieval,omitempty"`
	Served     *Served                 `json:"served,omitempty"`
	KV         []heads.Cache           `json:"kv_bytes"`
	Tokens     int                     `json:"tokens"`
}

// Evaluate measures a checkpoint, quantized or not, with or without its attention plan.
func Evaluate(ctx context.Context, o EvalOptions) (*Evaluation, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	s, err := openSource(o.ModelDir, o.AllowRemoteCode)
	if err != nil {
		return nil, err
	}
	defer s.close()
	e := &evaluator{o: o, s: s, m: o.Env.model(s), out: &Evaluation{Model: s.ck.Name(), Plan: "dense"}}
	defer e.m.Release()
	if err := guarded(func() error { return e.measure(ctx) }); err != nil {
		return nil, err
	}
	e.cache()
	return e.out, nil
}

// measure does all that takes compute.
func (e *evaluator) measure(ctx context.Context) error {
	if err := e.loadPlan(ctx); err != nil {
		return err
	}
	if err := e.loadTokenizer(); err != nil {
		return err
	}
	if e.o.Data != "" {
		if err := e.text(ctx); err != nil {
			return err
		}
	}
	return e.needles(ctx)
}

type evaluator struct {
	o    EvalOptions
	s    *source
	m    *nn.Model
	tok  *calib.Tokenizer
	plan *manifest.Plan
	set  calib.Windows
	out  *Evaluation
}

// loadPlan reads the attention plan that was asked for and ties it to the model: a plan for another model is refused, of which shape
// and configuration alone would not tell two fine-tunes apart.
func (e *evaluator) loadPlan(ctx context.Context) error {
	path := e.o.AttentionPlan
	if path == "" {
		return nil
	}
	if path == "auto" {
		path = filepath.Join(e.o.ModelDir, manifestName)
	}
	doc, err := readLimited(path, manifest.MaxBytes)
	if err != nil {
		return errKind(KindInput, "", "attention plan: %w", err)
	}
	if e.plan, err = manifest.Decode(doc); err != nil {
		return errKind(KindInput, "", "%w", err)
	}
	d, err := digestsOf(ctx, e.s, e.o.Env)
	if err != nil {
		return err
	}
	if err := e.plan.CheckModel(d.weights, d.headers, d.config); err != nil {
		return &Error{Kind: KindStale, Err: err, Hint: "use the plan that lies beside these weights"}
	}
	e.out.Plan = sumDigest(doc)
	if err := checkPlanFits(e.plan, e.s.arch); err != nil {
		return err
	}
	if err := servable(e.m, e.plan); err != nil {
		return errKind(KindInput, "", "attention plan: %w", err)
	}
	return nil
}

func (e *evaluator) loadTokenizer() error {
	var err error
	e.tok, err = loadTokenizer(e.s)
	return err
}

// check refuses counts that mean nothing.
func (o *EvalOptions) check() error {
	var f faults
	f.add(o.Windows < 0, "--windows %d: want at least 0", o.Windows)
	f.add(o.Skip < 0, "--skip %d: want at least 0", o.Skip)
	f.add(o.Length < 2 || o.Length > 1<<20, "--length %d: want 2 to 1048576", o.Length)
	f.add(o.MaxPrompts < 0, "--max-prompts %d: want at least 0", o.MaxPrompts)
	f.add(o.PrefillChunk < 0, "--prefill-chunk %d: want at least 0", o.PrefillChunk)
	f.add(o.ScoreFrom < 0, "--score-from %d: want at least 0", o.ScoreFrom)
	if len(f) == 0 {
		return nil
	}
	return &Error{Kind: KindUsage, Err: sortedJoin(f)}
}

// text measures perplexity and, where there is a reference, the divergence from it.
func (e *evaluator) text(ctx context.Context) error {
	w, err := e.windows()
	if err != nil {
		return err
	}
	e.set, e.out.Tokens = w, w.Tokens()
	opt := e.served(nil)
	opt.ScoreFrom = e.o.ScoreFrom
	if e.o.Reference == "" {
		tick, stop := counter(e.o.Env.Progress, "perplexity")
		defer stop()
		opt.Progress = tick
		r, err := calib.Perplexity(ctx, e.m, w, opt)
		e.out.Perplexity = &r
		return err
	}
	ref, err := openSource(e.o.Reference, e.o.AllowRemoteCode)
	if err != nil {
		return err
	}
	tick, stop := counter(e.o.Env.Progress, "comparing with the reference")
	defer stop()
	opt.Progress = tick
	m := e.o.Env.model(ref)
	defer m.Release()
	c, err := calib.Compare(ctx, m, e.m, w, opt)
	e.out.Compare, e.out.Perplexity = &c, &c.Model
	return errors.Join(err, ref.close())
}

func (e *evaluator) windows() (calib.Windows, error) {
	spec := e.o.BOS
	if spec == "auto" && calib.IsIDs(e.o.Data) {
		spec = "none" // ids made elsewhere are measured as they are
	}
	bos, err := parseBOS(spec, e.s)
	if err != nil {
		return calib.Windows{}, err
	}
	docs, err := calib.OpenDocs(e.o.Data, calib.TextOptions{})
	if err != nil {
		return calib.Windows{}, err
	}
	opt := calib.SetOptions{Length: e.o.Length, Vocab: e.s.arch.V, BOS: bos, ReplaceBOS: e.o.ReplaceFirst}
	if e.o.Windows > 0 {
		opt.Sequences = e.o.Windows + e.o.Skip
	}
	if !calib.IsIDs(e.o.Data) {
		opt.EOS = bos
	}
	var enc calib.Encoder
	if e.tok != nil {
		enc = e.tok
	}
	set, err := calib.BuildSet(docs, enc, opt)
	if err != nil {
		return calib.Windows{}, err
	}
	if e.o.Skip >= len(set.Calib.IDs) {
		return calib.Windows{}, errKind(KindUsage, "give a smaller --skip, or more data", "--skip %d leaves none of %d windows", e.o.Skip, len(set.Calib.IDs))
	}
	if err := e.s.checkPositions("windows", set.Calib.Longest()); err != nil {
		return calib.Windows{}, err
	}
	return set.Calib.Slice(e.o.Skip, len(set.Calib.IDs)), nil
}

// needles measures retrieval on prompts from a file, or generated in a haystack of the evaluation text.
func (e *evaluator) needles(ctx context.Context) error {
	prompts, err := e.prompts()
	if err != nil || prompts == nil {
		return err
	}
	if err := e.s.checkPositions("prompts", longestPrompt(prompts)); err != nil {
		return err
	}
	tick, stop := counter(e.o.Env.Progress, "needles")
	defer stop()
	r, err := calib.Retrieval(ctx, e.m, prompts, e.served(tick))
	e.out.Retrieval = &r
	return err
}

func (e *evaluator) prompts() ([]calib.Prompt, error) {
	if e.o.Prompts != "" {
		all, err := calib.ReadPrompts(e.o.Prompts)
		return spread(all, e.o.MaxPrompts), err
	}
	if e.o.Retrieval == nil {
		return nil, nil
	}
	if e.tok == nil {
		return nil, formats.Errorf(tokenizerName, "", "is missing, and generated prompts need it")
	}
	bos, err := parseBOS(e.o.BOS, e.s)
	if err != nil {
		return nil, err
	}
	opt := e.o.Retrieval.options(bos)
	opt.Seed = e.o.Seed
	return calib.MakePrompts(e.tok, e.set.Flat(1), opt)
}

// cache counts the bytes of keys and values in bf16 at a few lengths.
func (e *evaluator) cache() {
	for n := 512; n <= max(512, e.s.arch.MaxPosition); n *= 4 {
		e.out.KV = append(e.out.KV, heads.PlanBytes(e.plan, e.s.arch, bf16Bytes, n))
	}
}

// spread returns n elements at even distances, all of them where n is 0 or too large.
func spread[T any](list []T, n int) []T {
	if n <= 0 || n >= len(list) {
		return list
	}
	out := make([]T, n)
	for i := range out {
		out[i] = list[i*len(list)/n]
	}
	return out
}
