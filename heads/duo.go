package heads

import (
	"context"
	"errors"
	"fmt"
	"math"

	"modelpress/calib"
	"modelpress/internal/arch"
	"modelpress/internal/device"
	"modelpress/internal/nn"
)

// DuoOptions describes the training of gates. Zero fields take the value in brackets; those of DuoAttention's published
// recipe, where it has one.
type DuoOptions struct {
	Sink, Recent int     // what a streaming head sees
	Steps        int     // gradient steps at most, N [2000]
	LR           float64 // peak of the learning rate [0.02]
	Reg          float64 // weight of the mean gate in the loss [0.05]
	Seed         uint64  // of the order of prompts
	// Question is the number of rows before the first answer row that count as labels too, such as the tokens of the
	// question; a prompt that has fewer gives all it has [0].
	Question int

	// Share of the KV heads that are to stay full: training ends early once the choice that it leads to is settled. 0 trains
	// all Steps. Every Every steps [50] the mean of the gates over these steps is compared with that of the check before,
	// since single gates wander with the prompts: the check is stable where both select the same heads by [Select], no head
	// left out has the score of the last one kept, Spearman's rank correlation of the rounded means is at least MinRank
	// [0.98], and the mean gate has moved by at most 0.02. Training ends after Patience stable checks in a row [3], not before MinSteps [Steps/10, at least 1], and the
	// means are the result: the rate has not come down yet.
	Share    float64
	Every    int
	Patience int
	MinSteps int
	MinRank  float64

	// Resume is a state that Save was given, nil to start anew. It is refused unless StateKey, the other options, the model's
	// shape and the prompts are those of the run that it is from; StateKey stands for what those do not show, such as a
	// digest of the weights.
	Resume   []byte
	StateKey string
	// Save keeps a state, replacing the one before: every SaveEvery steps [50], at the end, and when the context ends. It is
	// to write atomically. It may be nil; an error ends the training.
	Save      func(state []byte) error
	SaveEvery int

	Options // Progress counts steps
}

// DuoCheck is what a check of stability found.
type DuoCheck struct {
	Step    int     // steps taken
	Loss    float64 // mean distillation loss of the steps since the check before
	Mean    float64 // mean gate
	Rank    float64 // Spearman's rank correlation of the mean gates with those of the check before
	Changed int     // heads that are now selected and were not at the check before, where Share is set
	Stable  bool
}

// DuoLog tells how the training went.
type DuoLog struct {
	Steps  int // taken
	Early  bool
	Checks []DuoCheck
}

// Duo trains one gate per KV head between attention to everything and to sinks and recent tokens (DuoAttention, Xiao et al.,
// arXiv:2410.10819), with the model frozen, and returns the gates, in [0, 1]: what a head is worth keeping full for. Query
// heads of KV head g give alpha_g*full + (1-alpha_g)*streaming. One prompt per step, teacher-forced; the loss is
//
//	Σ_{label rows} mean_D (h_full - h_mixed)² / labels + Reg * mean alpha
//
// with h the final hidden states, taken after the final norm since that is what the output head reads, and as label rows
// those that predict the answer. Steps are of AdamW (b1 0.9, b2 0.999, eps 1e-8, no decay), the rate at step s
//
//	LR * min(1, max((s+1)/(N/5), 0.1), max((N-s)/(N/5), 0.1))
//
// and gates are clamped after each. They start at 1 and are float64 throughout (in bfloat16 up to a third of them tie). Where
// a layer's own window is as narrow as the streaming mask the gate has no effect, and sinks to 0. The dense states of the label
// rows are computed once, not in each step. Gates depend on neither threads nor interruptions.
//
// Memory is that of [nn.Model.Back] for the longest prompt and 4*D bytes for each label row of all prompts, both limited by
// MemLimit, plus 32 bytes per gate.
func Duo(ctx context.Context, m *nn.Model, prompts []calib.Prompt, opt DuoOptions) (*Scores, *DuoLog, error) {
	opt.fill()
	d, err := newDuo(m, prompts, opt)
	if err != nil {
		return nil, nil, err
	}
	if opt.Resume != nil {
		if err := d.decode(opt.Resume); err != nil {
			return nil, nil, fmt.Errorf("heads: duo: %w", err)
		}
	}
	if err := d.teach(ctx); err != nil {
		return nil, nil, err
	}
	defer d.teacher.Close()
	if err := d.train(ctx); err != nil {
		return nil, nil, err
	}
	used := map[int]bool{}
	for s := range d.step {
		used[d.prompt(s)] = true
	}
	gates := d.alpha
	if d.settled() {
		gates = d.checked
	}
	s := &Scores{Method: "duo", Unit: "gate", KV: d.rows(gates), Samples: len(used)}
	return s, &DuoLog{Steps: d.step, Early: d.settled(), Checks: d.checks}, nil
}

func (o *DuoOptions) fill() {
	for _, f := range []struct {
		p   *int
		def int
	}{{&o.Steps, 2000}, {&o.Every, 50}, {&o.Patience, 3}, {&o.SaveEvery, 50}} {
		if *f.p == 0 {
			*f.p = f.def
		}
	}
	if o.MinSteps == 0 {
		o.MinSteps = max(1, o.Steps/10)
	}
	for _, f := range []struct {
		p   *float64
		def float64
	}{{&o.LR, 0.02}, {&o.Reg, 0.05}, {&o.MinRank, 0.98}} {
		if *f.p == 0 {
			*f.p = f.def
		}
	}
}

func (o *DuoOptions) check() error {
	finite := func(v float64) bool { return !math.IsNaN(v) && !math.IsInf(v, 0) }
	switch {
	case o.Sink < 0 || o.Recent < 1:
		return fmt.Errorf("heads: streaming with %d sinks and %d recent tokens", o.Sink, o.Recent)
	case o.Steps < 1 || o.Steps > 1<<24 || o.Every < 1 || o.Patience < 1 || o.MinSteps < 1 || o.SaveEvery < 1 || o.Question < 0:
		return fmt.Errorf("heads: duo: a number of steps or rows is out of range")
	case !finite(o.LR) || o.LR <= 0 || !finite(o.Reg) || o.Reg < 0 || !(o.Share >= 0 && o.Share <= 1) || !(o.MinRank <= 1):
		return fmt.Errorf("heads: duo: learning rate %g, weight %g, share %g, rank correlation %g", o.LR, o.Reg, o.Share, o.MinRank)
	}
	return nil
}

// duo is one training.
type duo struct {
	m       *nn.Model
	opt     DuoOptions
	prompts []calib.Prompt
	windows [][]int32
	masks   [][]device.Mask // [layer][KV head] streaming; nil where the gates have no effect
	first   []int           // gate of KV head 0 of each layer, and in the end the number of gates
	key     [32]byte

	teacher *nn.States // normed hidden states of the label rows of each prompt
	normed  []float32

	// What a state holds: gates, moments, what was seen at the last check.
	step        int
	alpha, m1   []float64
	m2, checked []float64
	sum         []float64 // of the gates after each step since the last check
	loss        float64   // summed since the last check
	checks      []DuoCheck
}

func newDuo(m *nn.Model, prompts []calib.Prompt, opt DuoOptions) (*duo, error) {
	if err := opt.check(); err != nil {
		return nil, err
	}
	windows, err := teacherForced(prompts)
	if err != nil {
		return nil, err
	}
	longest := 0
	for _, w := range windows {
		longest = max(longest, len(w))
	}
	if longest <= opt.Sink+opt.Recent {
		return nil, fmt.Errorf("heads: prompts of at most %d tokens hide nothing from %d sinks and %d recent tokens",
			longest, opt.Sink, opt.Recent)
	}
	d := &duo{m: m, opt: opt, prompts: prompts, windows: windows, first: []int{0}}
	for _, l := range m.Arch.Layers {
		d.first = append(d.first, d.first[len(d.first)-1]+kvHeads(l))
		d.masks = append(d.masks, streamMasks(l, opt.Sink, opt.Recent))
	}
	n := d.first[len(d.masks)]
	if n == 0 {
		return nil, fmt.Errorf("heads: the model has no attention to gate")
	}
	d.alpha, d.m1, d.m2, d.checked, d.sum = make([]float64, n), make([]float64, n), make([]float64, n), make([]float64, n), make([]float64, n)
	for i := range d.alpha {
		d.alpha[i], d.checked[i] = 1, 1
	}
	d.key = d.identity()
	return d, nil
}

// streamMasks returns the masks of a layer whose heads all stream, nil where they are its own.
func streamMasks(l arch.Layer, sink, recent int) []device.Mask {
	stream := StreamMask(sink, recent, l.Window)
	if !l.HasAttention() || stream == (device.Mask{Recent: l.Window}) {
		return nil
	}
	masks := make([]device.Mask, l.G)
	for g := range masks {
		masks[g] = stream
	}
	return masks
}

// rows arranges values of gates as [layer][KV head].
func (d *duo) rows(v []float64) [][]float64 {
	out := make([][]float64, len(d.masks))
	for l := range out {
		out[l] = append([]float64{}, v[d.first[l]:d.first[l+1]]...)
	}
	return out
}

// labels is the range of label rows of a prompt.
func (d *duo) labels(i int) (lo, hi int) {
	hi = len(d.windows[i])
	return max(0, len(d.prompts[i].IDs)-1-d.opt.Question), hi
}

// teach computes the dense states of the label rows of all prompts that are still to come.
func (d *duo) teach(ctx context.Context) (err error) {
	counts, need := make([]int, len(d.prompts)), make([]bool, len(d.prompts))
	longest := 0
	for s := d.step; s < d.opt.Steps && s-d.step < 2*len(d.prompts); s++ {
		need[d.prompt(s)] = true
	}
	for i := range d.prompts {
		lo, hi := d.labels(i)
		if need[i] {
			counts[i] = hi - lo
			longest = max(longest, hi-lo)
		}
	}
	width := d.m.Arch.D
	if d.teacher, err = nn.NewStates(d.opt.Dir, counts, width, d.opt.MemLimit); err != nil {
		return err
	}
	d.normed = make([]float32, 2*longest*width)
	var windows [][]int32
	var index []int
	for i, w := range d.windows {
		if need[i] {
			windows, index = append(windows, w), append(index, i)
		}
	}
	quiet := d.opt.Options
	quiet.Progress = nil
	err = quiet.run(ctx, d.m, windows, func(w int, hidden []float32) error {
		lo, hi := d.labels(index[w])
		rows := d.normed[:(hi-lo)*width]
		if err := d.m.FinalNorm(rows, hidden[lo*width:hi*width], hi-lo); err != nil {
			return err
		}
		return d.teacher.Put(index[w], rows)
	})
	if err != nil {
		return errors.Join(err, d.teacher.Close())
	}
	return nil
}
