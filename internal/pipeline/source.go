package pipeline

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"modelpress/calib"
	"modelpress/formats"
	"modelpress/formats/hf"
	"modelpress/heads/kvmerge"
	"modelpress/internal/arch"
	"modelpress/internal/checkpoint"
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
	Device device.Device
	// More are further devices of the class of Device, which windows are shared out among. Sums over windows are taken device by device:
	// their number is part of the class that a plan records.
	More     []device.Device
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

// class is that of the devices, together.
func (e Env) class() string {
	if len(e.More) == 0 {
		return e.Device.Class()
	}
	return fmt.Sprintf("%s-x%d", e.Device.Class(), 1+len(e.More))
}

// model is a model on the devices.
func (e Env) model(s *source) *nn.Model {
	m := s.model(e.Device)
	m.Spread(e.More...)
	return m
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

// Detailed is a Progress that shows in what units work is counted, with their number a second, and how it goes.
type Detailed interface {
	StartUnits(name, unit string, total int64)
	Note(text string)
}

// startUnits starts work that is counted in units of a name.
func startUnits(p Progress, name, unit string, total int64) {
	if d, ok := p.(Detailed); ok {
		d.StartUnits(name, unit, total)
		return
	}
	p.Start(name, total)
}

// note says how work goes.
func note(p Progress, text string) {
	if d, ok := p.(Detailed); ok {
		d.Note(text)
	}
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
			started = false
		}
	}
}

// source is an opened model with its description. dense shows every weight in its logical form; it is the
// store itself unless that is quantized.
type source struct {
	dir   string
	ck    checkpoint.Store
	dense formats.Source
	arch  *arch.Model
	whole *checkpoint.Checkpoint // what was opened
	// planned is set where the attention plan beside the source was found to be for the weights as they are stored, which are shown here
	// in another form.
	planned bool
}

// openSource opens a model for planning or evaluation.
func openSource(path string, allowRemoteCode bool) (*source, error) {
	c, err := checkpoint.Open(path, checkpoint.Options{AllowRemoteCode: allowRemoteCode})
	if errors.Is(err, checkpoint.ErrQuantization) {
		return nil, &Error{Kind: KindInput, Err: err, Hint: "start from the checkpoint that is not quantized"}
	}
	if err != nil {
		return nil, err
	}
	return sourceOf(c), nil
}

func sourceOf(c *checkpoint.Checkpoint) *source {
	return &source{dir: c.Path, ck: c.Store, dense: c.Dense, arch: c.Arch, whole: c}
}

// changeable returns the source that steps work on: with plain weights where a step changes some, or where no directory holds them. An
// attention plan beside quantized weights that is to be carried over is compared with these.
func (s *source) changeable(ctx context.Context, r *Recipe, env Env) (*source, error) {
	if s.whole.Format == checkpoint.FormatSafetensors && (s.whole.Quantized == nil || !r.changesWeights()) {
		return s, nil
	}
	c, err := s.whole.Dequantized()
	if err != nil {
		return nil, err
	}
	plain := sourceOf(c)
	if s.whole.Quantized == nil || r.Heads != nil || !s.carries() {
		return plain, nil
	}
	p, err := readCarried(s)
	if err != nil {
		return nil, err
	}
	d, err := digestsOf(ctx, s, env)
	if err != nil {
		return nil, err
	}
	plain.planned = true
	return plain, checkCarriedModel(p, d)
}

// changesWeights reports whether a step of the recipe does more than look at the model.
func (r *Recipe) changesWeights() bool {
	return r.Prune != nil || r.KVMerge != nil || r.Distill != nil || r.Sparsify != nil || r.Quantize != nil
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

// merged returns the source as it is once its KV heads are merged; s itself where they are not. It needs no closing.
func (s *source) merged(d *mergeDecision, maps func(l int) (*kvmerge.Maps, error), par quantize.Par) (*source, error) {
	if d == nil {
		return s, nil
	}
	view, m, err := kvmerge.View(s.dense, s.arch, d.layers(), maps, par)
	if err != nil {
		return nil, &Error{Kind: KindUsage, Err: err, Hint: "change the section kvmerge of the recipe"}
	}
	return &source{dir: s.dir, ck: s.ck, dense: view, arch: m}, nil
}

// rotated returns the view and description that quantization works on: the rotated model where the decision has a
// rotation, else the source itself.
func (s *source) rotated(q *quantDecision, dev device.Device) (formats.Source, *arch.Model, error) {
	if q == nil || q.Rotation == nil {
		return s.dense, s.arch, nil
	}
	r := quantize.Rotation{Kind: q.Rotation.Kind, Seed: q.Rotation.Seed, R2: q.Rotation.R2}
	view, m, err := quantize.Rotate(s.dense, s.arch, r, dev)
	if err != nil {
		return nil, nil, &Error{Kind: KindUsage, Err: err, Hint: "set quantize.rotate to none, or to qr where a Hadamard matrix is missing"}
	}
	return view, m, nil
}

// weightDType is the type that a weight is written as, of those that weights are computed in.
func (s *source) weightDType(name string) formats.DType {
	t, ok := s.ck.Lookup(name) // a view shows other types
	if !ok {
		t, _ = s.dense.Lookup(name)
	}
	if t.DType == formats.F64 {
		return formats.F32
	}
	return t.DType
}

// storeDType is the type of scales and newly written tensors: that of the first projection.
func (s *source) storeDType() (formats.DType, error) {
	for l := range s.arch.Layers {
		for _, lin := range s.arch.Layers[l].Linears {
			if !lin.Present() {
				continue
			}
			return s.weightDType(lin.Weight), nil
		}
	}
	return formats.Invalid, formats.Errorf("config.json", "", "the model has no projection")
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
